"""What a run leaves in its folder is read back, whole, however it was cut short."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    write_result,
)

ODD = 'it\'s "50 %"\n字🙂\0\\'


def staged(folder: Path, number: int = 0, started: int = 1) -> StagedRun:
    made = StagedRun(id=f"id{number}", number=number, name=ODD, started=started, folder=folder / str(number))
    made.write()
    return made


def point(epoch: int, **metrics: float) -> Point:
    return Point(epoch=epoch, time=1_767_225_600_000 + epoch, metrics=metrics)


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    made = StagedRun(
        id="a",
        number=3,
        name=ODD,
        started=1_767_225_600_000,
        folder=tmp_path / "deep" / "er",
        params={"train.lr": 1e-4, ODD: [1, "x", None, True]},
        tags={ODD: ODD},
        values={"model.hidden": 320},
        parent="b",
        run_id="c",
    )
    made.write()
    assert read_runs(tmp_path / "deep") == [made]
    assert made.result is None
    made.run_id = "d"
    made.write()
    assert [run.run_id for run in read_runs(tmp_path / "deep")] == ["d"]
    assert {path.name for path in made.folder.iterdir()} == {RUN}


def test_runs_come_in_order_of_time_and_only_those_directly_below(tmp_path: Path) -> None:
    staged(tmp_path, 2, started=5)
    first, tied = staged(tmp_path, 3, started=1), staged(tmp_path, 1, started=5)
    staged(first.folder / "parts", 9)
    assert [run.number for run in read_runs(tmp_path)] == [3, 1, 2]
    assert read_runs(tied.folder / "parts") == read_runs(tmp_path / "nowhere") == []


TORN = [b"", b"\0" * 50, b"{", b"[]", b"{}", b'{"id": "a"}', b"\xff", b"[" * 100_000]


@pytest.mark.parametrize("content", TORN)
def test_a_run_that_a_power_cut_left_unreadable_is_none(tmp_path: Path, content: bytes) -> None:
    staged(tmp_path, 1)
    (staged(tmp_path, 2).folder / RUN).write_bytes(content)
    assert [run.number for run in read_runs(tmp_path)] == [1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("number", "1"), ("started", None), ("tags", []), ("id", 3), ("params", "x"), ("more", 1), ("run_id", None)],
)
def test_a_run_of_other_types_is_none(tmp_path: Path, name: str, value: Any) -> None:
    path = staged(tmp_path).folder / RUN
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    assert read_runs(tmp_path) == []


POINTS = st.lists(
    st.builds(
        Point,
        epoch=st.integers(0, 10**6),
        time=st.integers(0, 2**53),
        metrics=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False), max_size=3),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points=POINTS, cut=st.integers(1, 40))
def test_epochs_come_back_and_half_a_line_costs_only_itself(tmp_path: Path, points: list[Point], cut: int) -> None:
    (tmp_path / EPOCHS).unlink(missing_ok=True)
    assert read_epochs(tmp_path) == []
    for own in points:
        append_epoch(tmp_path, own)
    assert read_epochs(tmp_path) == points
    content = (tmp_path / EPOCHS).read_bytes()
    last = content.rstrip(b"\n").rpartition(b"\n")[2] + b"\n"
    (tmp_path / EPOCHS).write_bytes(content[: -min(cut, len(last))])
    assert read_epochs(tmp_path) == points[:-1]
    append_epoch(tmp_path, points[-1])
    assert read_epochs(tmp_path) == points
    assert (tmp_path / EPOCHS).read_bytes() == content


def test_reading_epochs_while_one_is_written_takes_nothing_away(tmp_path: Path) -> None:
    append_epoch(tmp_path, point(1, a=1.0))
    with (tmp_path / EPOCHS).open("ab", buffering=0) as writer:
        writer.write(b'{"epoch":2,"time":3,')
        assert [own.epoch for own in read_epochs(tmp_path)] == [1]
        writer.write(b'"metrics":{}}\n')
    assert [own.epoch for own in read_epochs(tmp_path)] == [1, 2]


def test_what_is_no_number_is_an_epochs_too(tmp_path: Path) -> None:
    append_epoch(tmp_path, point(1, a=math.nan, b=math.inf))
    (found,) = read_epochs(tmp_path)
    assert math.isnan(found.metrics["a"])
    assert found.metrics["b"] == math.inf


@pytest.mark.parametrize(
    "line",
    [
        b"rubbish",
        b"",
        b"[]",
        b"{}",
        b"3",
        b'{"epoch":1,"time":1,"metrics":{"x":"y"}}',
        b'{"epoch":1,"time":1,"metrics":[]}',
        b'{"epoch":Infinity,"time":1,"metrics":{}}',
        b"\xff",
        b"\0\0",
        b"[" * 100_000,
    ],
)
def test_rubbish_among_epochs_is_refused_in_a_line_and_stays(tmp_path: Path, line: bytes) -> None:
    append_epoch(tmp_path, point(1))
    content = (tmp_path / EPOCHS).read_bytes() + line + b"\n"
    (tmp_path / EPOCHS).write_bytes(content)
    with pytest.raises(InputError, match=r"epochs\.jsonl must hold an epoch on each line, got .*; remove its folder"):
        read_epochs(tmp_path)
    assert (tmp_path / EPOCHS).read_bytes() == content


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    for made in (
        Result(state="COMPLETE", time=3, metrics={"a": 0.5, "b": 2}, tags={"x": ODD}, files="parts/1/files"),
        Result(state="FAIL", time=4, reason=ODD, retry=True),
    ):
        write_result(tmp_path, made)
        assert read_result(tmp_path) == made
    assert {path.name for path in tmp_path.iterdir()} == {RESULT}


@pytest.mark.parametrize(
    "change",
    [
        {"state": "DONE"},
        {"state": None},
        {"time": "now"},
        {"metrics": [1]},
        {"metrics": {"a": "b"}},
        {"metrics": None},
        {"files": None},
        {"retry": "no"},
        {"more": 1},
    ],
)
def test_a_result_that_a_hand_has_changed_is_refused_in_a_line(tmp_path: Path, change: dict[str, Any]) -> None:
    write_result(tmp_path, Result(state="COMPLETE", time=3))
    path = tmp_path / RESULT
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=r"result\.json must say how a run ended.*; remove its folder"):
        read_result(tmp_path)


def test_another_attempt_goes_on_from_what_there_is(tmp_path: Path) -> None:
    earlier, later = tmp_path / "earlier", tmp_path / "deep" / "later"
    earlier.mkdir()
    append_epoch(earlier, point(1, a=1.0))
    hand_on(earlier, later)
    assert not later.exists()
    (earlier / CHECKPOINT).write_bytes(b"weights")
    with (earlier / EPOCHS).open("ab") as file:
        file.write(b'{"epoch":2')
    hand_on(earlier, later)
    assert (later / CHECKPOINT).read_bytes() == b"weights"
    assert not (earlier / CHECKPOINT).exists()
    append_epoch(later, point(2, a=2.0))
    assert [own.epoch for own in read_epochs(later)] == [1, 2]
    assert [own.epoch for own in read_epochs(earlier)] == [1]
