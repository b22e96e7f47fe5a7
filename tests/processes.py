"""What processes a command has begun, and what a process may have."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path


def children(pid: int) -> list[int]:
    """The worker processes of a coordinator, which multiprocessing's server forks (not its resource tracker)."""
    try:
        servers = [p for p in forked(pid) if "forkserver" in Path(f"/proc/{p}/cmdline").read_text()]
        return [p for server in servers for p in forked(server)]
    except (FileNotFoundError, ProcessLookupError):
        return []


def forked(pid: int) -> list[int]:
    """The processes that one has begun itself."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    return [int(p) for task in tasks for p in (task / "children").read_text().split()]


def with_memory(gibibytes: int, code: str, *words: str) -> str:
    """What a script prints that may have so much memory, it and each process that it begins; it must end well."""
    limit = (gibibytes * 2**30,) * 2
    begun = [sys.executable, "-c", code, *words]
    done = subprocess.run(
        begun, capture_output=True, text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, limit)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
