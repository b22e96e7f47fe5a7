"""What a number was made with: versions, device, commit, command line."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

OWN_CODE = "mmtune.own_code"
"""The tag of a run on the code of its network, augmentation and metrics, where that is the user's own."""
PACKAGES = ("mmtune", "torch", "optuna", "mlflow", "numpy", "scikit-learn", "scipy")


def installed(package: str) -> str:
    """The installed version of a package, or "absent"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def git_commit(folder: Path) -> str:
    """The commit checked out in `folder`, with "+changes" where files differ from it; "" where git does not keep it."""

    def git(*words: str) -> str:
        # A colleague's checkout is trusted as far as reading it goes: it is the code that runs.
        command = ["git", "-c", "safe.directory=*", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # An environment may lie in a repository that has nothing to do with it.
        git("ls-files", "--error-unmatch", ".")
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


def command() -> list[str]:
    """The words that began what runs: a command of ours, a script that calls us, or of a notebook nothing more."""
    main = sys.modules["__main__"]
    module = str(getattr(getattr(main, "__spec__", None), "name", "")).removesuffix(".__main__")
    if Path(sys.argv[0]).name == "mmtune" or module.startswith("mmtune."):
        return ["mmtune", *sys.argv[1:]]
    if module:
        return ["python", "-m", module, *sys.argv[1:]]
    return ["python", *(sys.argv if hasattr(main, "__file__") else ())]


def provenance_tags(device: str) -> dict[str, str]:
    """Tags for a run: versions, device, commit, command, host system."""
    versions = {"python": platform.python_version()} | {package: installed(package) for package in PACKAGES}
    commit = git_commit(Path(__file__).parent)
    words = command()
    return {
        "mmtune.versions": json.dumps(versions),
        "mmtune.device": describe_device(device),
        "mmtune.git_commit": commit,
        "mmtune.command": shlex.join(words),
        "mmtune.system": platform.platform(),
        # MLflow's UI shows what stands behind the last slash.
        "mlflow.source.name": shlex.join(words[:3]),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
    }


def versions_of(text: str) -> dict[str, str]:
    """The versions that a run's tag names, by package; {} where a hand has made it unreadable."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {str(name): str(own) for name, own in found.items()} if isinstance(found, dict) else {}


def made_with(tags: Mapping[str, str]) -> dict[str, str]:
    """What a run says it was made with, by name: each package's version, mmtune's commit, the user's own code, the
    device.
    """
    commit, _, changes = tags.get("mmtune.git_commit", "").partition("+")
    shown = (commit[:12] or "unknown") + ("+changes" if changes else "")
    own = {"own code": tags[OWN_CODE]} if OWN_CODE in tags else {}
    return {
        **versions_of(tags.get("mmtune.versions", "")),
        "commit": shown,
        **own,
        "device": tags.get("mmtune.device", "unknown"),
    }


def mixture(made: Iterable[tuple[int, Mapping[str, str]]], to_come: Mapping[str, str]) -> str:
    """In one line, which trials of a study were made with something else than its others; "" where none was.

    made: the number of each trial that counts, and its run's tags; to_come: the tags of the runs that are missing.
    """
    current, others = made_with(to_come), dict[tuple[tuple[str, str], ...], set[int]]()
    for number, tags in made:
        maker = made_with(tags)
        if maker != current:
            others.setdefault(tuple(maker.items()), set()).add(number)
    differing = [name for name in current if any(dict(maker).get(name) != current[name] for maker in others)]

    def told(maker: Mapping[str, str]) -> str:
        return ", ".join(f"{name} {maker.get(name, 'unknown')}" for name in differing)

    groups = [f"{counted(numbers)} with {told(dict(maker))}" for maker, numbers in others.items()]
    return f"made with different code: {'; '.join(groups)}; the others with {told(current)}" if groups else ""


def counted(numbers: Iterable[int]) -> str:
    """Numbers of trials in words, neighbours as a range: trials 0-2, 5."""
    # In neighbours the difference between a number and its place is the same.
    runs = groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])
    ranges = [[number for _, number in run] for _, run in runs]
    plural = "s" * (sum(map(len, ranges)) > 1)
    return f"trial{plural} " + ", ".join(f"{own[0]}-{own[-1]}" if len(own) > 1 else str(own[0]) for own in ranges)
