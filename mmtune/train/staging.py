"""What a run leaves in its staging folder until the store has all of it.

`run.json` says which run it is, `epochs.jsonl` has a line for each epoch, `checkpoint.safetensors` is where to go on
from, `files/` is what the run keeps, and `result.json` comes last: with it the run has ended, whatever happens next. A
kill at any moment leaves all of that readable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from mmtune.base.bounds import inside
from mmtune.base.clock import milliseconds
from mmtune.base.errors import InputError
from mmtune.base.files import append_whole, read_json, write_whole

RUN, EPOCHS, RESULT, ERROR = "run.json", "epochs.jsonl", "result.json", "error.txt"
now_ms = milliseconds
ENDED = ("COMPLETE", "PRUNED", "FAIL")
FILES, PARTS, CHECKPOINT = "files", "parts", "checkpoint.safetensors"
WEIGHTS = "mmtune.weights"
"""The tag that says how many weights a model has."""


@dataclass(kw_only=True)
class StagedRun:
    """A run that the store is to have, and what it has of it.

    id: its own, before the store has given it `run_id` ("" until then). parent: the id of the trial that it is a part
    of, "" for a trial. started: milliseconds since 1970. params, tags: as they will be tracked. values: what was drawn.
    """

    id: str
    number: int
    name: str
    started: int
    folder: Path
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    parent: str = ""
    run_id: str = ""

    def write(self) -> None:
        """Make the folder say so. A power cut may cost a run that has just begun, a kill does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {name: value for name, value in vars(self).items() if name != "folder"}
        write_whole(self.folder / RUN, json.dumps(content).encode(), sync=False)

    @property
    def result(self) -> Result | None:
        """How it ended, None while it is under way."""
        return read_result(self.folder)


@dataclass(frozen=True, kw_only=True)
class Point:
    """Metrics of an epoch (from 1), or of a step that is none; `time` is in milliseconds since 1970."""

    epoch: int
    time: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended: complete, pruned or failed, with its last metrics, or the reason why there are none.

    files: the folder of what it keeps, seen from its own, "" for nothing; retry: whether another attempt makes sense.
    tags: what is said of it now that it has ended.
    """

    state: str
    time: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    retry: bool = False
    files: str = FILES
    tags: Mapping[str, str] = field(default_factory=dict)


def read_runs(folder: Path) -> list[StagedRun]:
    """The runs directly below a folder, in order of time; what a power cut has left unreadable is none."""
    found = []
    for path in folder.glob(f"*/{RUN}"):
        try:
            run = StagedRun(**read_json(path), folder=path.parent)
        except (InputError, TypeError):
            continue
        if of_types(run, StagedRun):
            found.append(run)
    return sorted(found, key=lambda run: (run.started, run.number))


def of_types(found: StagedRun | Result, kind: type[StagedRun] | type[Result]) -> bool:
    """Whether what was read from a file has values of the types that its class asks for."""
    asked = get_type_hints(kind)
    return all(isinstance(value, get_origin(asked[name]) or asked[name]) for name, value in vars(found).items())


def append_epoch(folder: Path, point: Point) -> None:
    """Add an epoch, all of it or nothing; half a line before it, which a kill has left, is cut off."""
    with (folder / EPOCHS).open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
            file.truncate(os.pread(file.fileno(), size, 0).rfind(b"\n") + 1)
        append_whole(file, json.dumps(asdict(point), separators=(",", ":")).encode() + b"\n")


def read_epochs(folder: Path) -> list[Point]:
    """The epochs so far; half a line at the end, which a kill leaves or somebody is writing, does not count."""
    path = folder / EPOCHS
    if not path.exists():
        return []
    return [read_point(path, line) for line in path.read_bytes().split(b"\n")[:-1]]


def read_point(path: Path, line: bytes) -> Point:
    """The epoch on a line; InputError where it is none."""
    try:
        told = json.loads(line)
        metrics = {str(name): float(value) for name, value in told["metrics"].items()}
        return Point(epoch=int(told["epoch"]), time=int(told["time"]), metrics=metrics)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} must hold an epoch on each line, got {line[:80]!r}; remove its folder") from error


def write_result(folder: Path, result: Result) -> None:
    """End a run; everything else that it leaves is there before."""
    write_whole(folder / RESULT, json.dumps(asdict(result)).encode())


def read_result(folder: Path) -> Result | None:
    """How a run ended, None while it is under way."""
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        found = Result(**read_json(path))
    except TypeError as error:
        raise InputError(f"{path} must say how a run ended: {error}; remove its folder") from error
    sound = of_types(found, Result) and found.state in ENDED
    if not (sound and all(isinstance(value, int | float) for value in found.metrics.values())):
        raise InputError(f"{path} must say how a run ended, got {str(found)[:200]}; remove its folder")
    inside(folder, found.files)
    return found


def hand_on(earlier: Path, later: Path) -> None:
    """Let another attempt at the same training go on from where an earlier one had come to."""
    if (earlier / CHECKPOINT).exists():
        later.mkdir(parents=True, exist_ok=True)
        if (earlier / EPOCHS).exists():
            (later / EPOCHS).write_bytes((earlier / EPOCHS).read_bytes())
        (earlier / CHECKPOINT).replace(later / CHECKPOINT)


def tidy(folder: Path) -> None:
    """Remove what writes that were cut short have left in a folder, before a training begins there.

    The coordinator may be writing that the run is in the store at this moment.
    """
    for left in folder.glob(".*"):
        if not left.name.startswith(f".{RUN}."):
            left.unlink(missing_ok=True)
