"""What a number was made with: versions, device, commit, command line."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("mmtune", "torch", "optuna", "mlflow", "numpy", "scikit-learn", "librosa")


def now() -> str:
    """The time in UTC, ISO 8601 with microseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def installed(package: str) -> str:
    """The installed version of a package, or "absent"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def git_commit(folder: Path) -> str:
    """The commit checked out in `folder`, with "+changes" where files differ from it; "" outside a repository."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def describe_device(device: str) -> str:
    """A device's name: the GPU's, or the processor's and its core count."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(torch.device(device))
    return f"cpu ({platform.processor() or platform.machine()})"


def command_line() -> str:
    """The command that runs, as a user would type it."""
    return shlex.join(["mmtune", *sys.argv[1:]])


def provenance_tags(device: str) -> dict[str, str]:
    """Tags for a run: versions, device, commit, command, host system."""
    versions = {"python": platform.python_version()} | {package: installed(package) for package in PACKAGES}
    commit = git_commit(Path(__file__).parent)
    return {
        "mmtune.versions": json.dumps(versions),
        "mmtune.device": describe_device(device),
        "mmtune.git_commit": commit,
        "mmtune.command": command_line(),
        "mmtune.system": platform.platform(),
        "mlflow.source.name": command_line(),
        "mlflow.source.git.commit": commit,
    }
