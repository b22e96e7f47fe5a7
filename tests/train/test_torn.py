"""What a kill, a full disk or a hand leaves of a staging folder is read whole, not at all, or refused in a line."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmtune.base.errors import InputError
from mmtune.train.staging import (
    CHECKPOINT,
    EPOCHS,
    RESULT,
    RUN,
    Point,
    Result,
    StagedRun,
    append_epoch,
    hand_on,
    read_epochs,
    read_result,
    read_runs,
    tidy,
    write_result,
)

POINTS = [
    Point(epoch=e, time=1_000 + e, metrics={"val_macro_f1": e / 7, "train_loss": float("inf")}) for e in (1, 2, 3)
]
ENDED = Result(state="COMPLETE", time=5, metrics={"best_val_macro_f1": 0.5}, tags={"a": "b"})


def staged(folder: Path) -> StagedRun:
    """A run that has ended, with everything that is text."""
    run = StagedRun(id="abc", number=3, name="03 ü", started=7, folder=folder / "run", values={"a": 1.5}, run_id="r")
    run.write()
    for point in POINTS:
        append_epoch(run.folder, point)
    write_result(run.folder, ENDED)
    return run


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """No file may have more bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_run_that_is_torn_at_any_byte_is_none(tmp_path: Path) -> None:
    path = staged(tmp_path).folder / RUN
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        assert read_runs(tmp_path) == []


def test_epochs_that_are_torn_at_any_byte_are_those_whose_line_is_whole(tmp_path: Path) -> None:
    folder = staged(tmp_path).folder
    content = (folder / EPOCHS).read_bytes()
    for cut in range(len(content) + 1):
        (folder / EPOCHS).write_bytes(content[:cut])
        whole = content[:cut].count(b"\n")
        assert read_epochs(folder) == POINTS[:whole]
        # Reading changes nothing: somebody may be about to write the other half.
        assert (folder / EPOCHS).read_bytes() == content[:cut]
        append_epoch(folder, POINTS[2])
        assert read_epochs(folder) == [*POINTS[:whole], POINTS[2]]


def test_a_result_that_is_torn_at_any_byte_is_refused_in_a_line(tmp_path: Path) -> None:
    folder = staged(tmp_path).folder
    content = (folder / RESULT).read_bytes()
    for cut in range(len(content)):
        (folder / RESULT).write_bytes(content[:cut])
        with pytest.raises(InputError, match=RESULT):
            read_result(folder)


def test_on_a_full_disk_a_file_is_as_it_was(tmp_path: Path) -> None:
    run = staged(tmp_path)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    size = len(before[EPOCHS])
    for room in (0, 1, 20):
        with no_room_beyond(size + room), pytest.raises(OSError, match="too large"):
            append_epoch(run.folder, Point(epoch=4, time=9, metrics={"val_macro_f1": 1 / 3, "val_loss": 2 / 3}))
    run.name *= 5_000
    with no_room_beyond(size), pytest.raises(OSError, match="too large"):
        run.write()
    with no_room_beyond(10), pytest.raises(OSError, match="too large"):
        write_result(run.folder, ENDED)
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before


def test_another_attempt_gets_what_an_earlier_one_had_come_to(tmp_path: Path) -> None:
    folder = staged(tmp_path).folder
    hand_on(folder, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (folder / CHECKPOINT).write_bytes(b"here")
    hand_on(folder, tmp_path / "later")
    assert read_epochs(tmp_path / "later") == read_epochs(folder) == POINTS
    assert (tmp_path / "later" / CHECKPOINT).read_bytes() == b"here"
    assert read_result(tmp_path / "later") is None
    (tmp_path / "later" / EPOCHS).unlink()
    hand_on(tmp_path / "later", tmp_path / "last")
    assert read_epochs(tmp_path / "last") == []


def test_what_writes_that_were_cut_short_have_left_is_removed(tmp_path: Path) -> None:
    folder = staged(tmp_path).folder
    kept = {path.name for path in folder.iterdir()}
    (folder / f".{CHECKPOINT}.17").write_bytes(b"half")
    # What the coordinator writes at this moment stays.
    (folder / f".{RUN}.18").write_bytes(b"half")
    tidy(folder)
    assert {path.name for path in folder.iterdir()} == {*kept, f".{RUN}.18"}
