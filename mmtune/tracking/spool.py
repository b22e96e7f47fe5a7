"""What was reported of runs and is not in the store yet: on disk at once, delivered together.

A file of JSON lines, one for each report, only ever appended to, and emptied when everything in it is in the store. A
process that is killed leaves the file, and the next one delivers it again: MLflow keeps one row for each name, time,
step and value of a run, so that what had been delivered before is there once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtune.base.errors import InputError
from mmtune.base.files import append_whole, make_folder


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Metrics of a run at a step; `time` is when they were reported, in milliseconds since 1970."""

    run_id: str
    step: int
    time: int
    metrics: Mapping[str, float]


class Spool:
    """The entries that wait, by run and in order of time, and the file that holds them; one process writes it."""

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self.path = path
        self.waiting: dict[str, list[Entry]] = {}
        for entry in read_spool(path):
            self.waiting.setdefault(entry.run_id, []).append(entry)
        # Unbuffered: what was written survives this process.
        self.file = path.open("ab", buffering=0)

    def add(self, entry: Entry) -> None:
        """Keep an entry, on disk before in memory."""
        append_whole(self.file, to_line(entry))
        self.waiting.setdefault(entry.run_id, []).append(entry)

    def of(self, run_id: str) -> Sequence[Entry]:
        """What waits of a run."""
        return tuple(self.waiting.get(run_id, ()))

    def delivered(self, run_id: str) -> None:
        """Forget what waited of a run: it is in the store."""
        if self.waiting.pop(run_id, None) and not self.waiting:
            self.file.truncate(0)

    def close(self) -> None:
        """Close the file, and remove it if nothing waits."""
        self.file.close()
        if not self.waiting:
            self.path.unlink(missing_ok=True)


def to_line(entry: Entry) -> bytes:
    """An entry as a line of JSON."""
    return json.dumps(vars(entry), separators=(",", ":")).encode() + b"\n"


def read_spool(path: Path) -> list[Entry]:
    """The entries in a file, [] where there is none; a torn last line, which a kill leaves, is cut off.

    Raises InputError where another line is none of ours.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    lines = content[:whole].splitlines()
    return [read_line(path, number, line) for number, line in enumerate(lines, start=1)]


def read_line(path: Path, number: int, line: bytes) -> Entry:
    """The entry on a line; InputError where it is none."""
    try:
        told = json.loads(line)
        metrics = {str(name): float(value) for name, value in told["metrics"].items()}
        return Entry(run_id=str(told["run_id"]), step=int(told["step"]), time=int(told["time"]), metrics=metrics)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} must hold a report on each line, line {number} is none; move it away") from error
