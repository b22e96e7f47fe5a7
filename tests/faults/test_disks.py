"""Full and read-only disks, damaged journals, stores and weights: refused with a reason or mended, never mixed up."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from checks import begin, check_whole, command, journal_attempts, run, scores, wait_for
from mmtune.tracking.sqlite import DATABASE

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.networks.storage import load_model
from mmtune.tracking import MlflowTracker

Scores = list[tuple[float, float]]


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refusal is."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    line = done.stderr.strip()
    assert line.startswith("mmtune: ")
    return line


def limited(words: list[str], largest: int) -> subprocess.CompletedProcess[str]:
    """A study whose files, and those of its workers, may have `largest` bytes each, as on a disk with no more room."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    return subprocess.run(words, capture_output=True, text=True, timeout=240, preexec_fn=limit)


def journal_of(store: Path) -> Path:
    (found,) = (store / "optuna").glob("*.journal")
    return found


@pytest.fixture
def small_disk(tmp_path: Path, store_template: Path) -> Iterator[Path]:
    """A store on a file system of 24 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    shutil.copytree(store_template, disk / "mlruns")
    yield disk / "mlruns"
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def leave_room(store: Path, room: int) -> Path:
    """Fill the disk that a store is on but for `room` bytes; returns the file that does."""
    ballast = store.parent / "ballast"
    # A study that runs may take the last of it first.
    with suppress(OSError):
        ballast.write_bytes(bytes(shutil.disk_usage(store).free - room))
    return ballast


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 40_000, 100_000, 250_000, 600_000])
def test_a_full_disk_stops_the_study_and_it_goes_on_when_there_is_room(
    tiny: Dataset, small_disk: Path, undisturbed: Scores, room: int
) -> None:
    words = command(tiny, small_disk)
    ballast = leave_room(small_disk, room)
    line = refused(subprocess.run(words, capture_output=True, text=True, timeout=240))
    assert "the same command goes on" in line
    ballast.unlink()
    run(words)
    assert scores(check_whole(small_disk)) == undisturbed


@pytest.mark.slow
def test_a_disk_that_fills_up_under_way_costs_no_trial(tiny: Dataset, small_disk: Path, undisturbed: Scores) -> None:
    words = command(tiny, small_disk)
    process = begin(words)
    wait_for(process, "[1/4]")
    done = {a.run_id for a in journal_attempts(small_disk) if a.ended_well}
    ballast = leave_room(small_disk, 0)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2, text
    assert "No space left on device" in text or "full" in text
    ballast.unlink()
    run(words)
    complete = check_whole(small_disk)
    assert scores(complete) == undisturbed
    assert done <= {trial.run_id for trial in complete}


def test_a_read_only_disk_is_refused(tiny: Dataset, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.parent)], check=True)
    line = refused(subprocess.run(command(tiny, small_disk), capture_output=True, text=True, timeout=120))
    assert "written" in line or "Read-only" in line or "readonly" in line


@pytest.mark.slow
def test_files_that_may_grow_no_further_stop_the_study(tiny: Dataset, store: Path, undisturbed: Scores) -> None:
    words = command(tiny, store)
    refused(limited(words, (store / DATABASE).stat().st_size + 4096))
    run(words)
    assert scores(check_whole(store)) == undisturbed


# ---- the journal


def damage_tail(journal: Path, tail: bytes) -> None:
    with journal.open("ab") as file:
        file.write(tail)


@pytest.mark.parametrize(
    "tail",
    [
        b'{"op_code":4,"torn',
        *(pytest.param(t, marks=pytest.mark.slow) for t in (b"\0" * 300, b'\xff\xfe garbage\n{"op', b"null\n[1]\n")),
    ],
    ids=["half a line", "zeros", "garbage", "lines of something else"],
)
def test_a_torn_or_garbage_tail_of_the_journal_is_cut(
    tiny: Dataset, finished: Path, undisturbed: Scores, tail: bytes
) -> None:
    before = journal_of(finished).read_bytes()
    assert tail not in before
    damage_tail(journal_of(finished), tail)
    text = run(command(tiny, finished))
    assert f"{len(tail)} bytes of an unfinished write were cut from" in text
    after = journal_of(finished).read_bytes()
    assert after.startswith(before)
    assert tail not in after
    assert scores(check_whole(finished)) == undisturbed


def test_a_damaged_journal_is_refused_and_made_anew_from_the_tracked_runs(
    tiny: Dataset, finished: Path, undisturbed: Scores
) -> None:
    journal = journal_of(finished)
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[len(lines) // 2] = b"x" + lines[len(lines) // 2]
    journal.write_bytes(b"".join(lines))
    line = refused(subprocess.run(command(tiny, finished), capture_output=True, text=True, timeout=120))
    assert f"line {len(lines) // 2 + 1} is none; move it away" in line
    before = check_runs(finished)
    journal.rename(journal.with_suffix(".damaged"))
    run(command(tiny, finished))
    assert scores(check_whole(finished)) == undisturbed
    assert check_runs(finished) == before


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0.3, 0.8])
def test_an_end_that_the_journal_has_lost_is_taken_from_the_tracked_runs(
    tiny: Dataset, finished: Path, undisturbed: Scores, kept: float
) -> None:
    """As after a power cut that the disk did not keep its word in."""
    lines = journal_of(finished).read_bytes().splitlines(keepends=True)
    journal_of(finished).write_bytes(b"".join(lines[: int(kept * len(lines))]))
    before = check_runs(finished)
    run(command(tiny, finished))
    assert scores(check_whole(finished)) == undisturbed
    assert check_runs(finished) == before


@pytest.mark.slow
def test_runs_of_other_settings_are_not_taken_into_a_new_journal(tiny: Dataset, finished: Path) -> None:
    journal_of(finished).unlink()
    with closing(sqlite3.connect(finished / DATABASE)) as store, store:
        store.execute("UPDATE tags SET value = replace(value, 'batch_size\": 64', 'batch_size\": 63')")
        assert store.total_changes >= 4
    line = refused(subprocess.run(command(tiny, finished), capture_output=True, text=True, timeout=120))
    assert "must be made as trial" in line


def check_runs(store: Path) -> set[str]:
    """Every run there is of a trial."""
    tracker = MlflowTracker(store)
    return {run.run_id for study in tracker.studies() for run in tracker.trials(study.run_id)}


# ---- the store


@pytest.mark.slow
def test_a_store_that_stays_locked_stops_the_study(tiny: Dataset, store: Path, undisturbed: Scores) -> None:
    words = command(tiny, store)
    process = begin(words)
    wait_for(process, "[1/4]")
    with closing(sqlite3.connect(store / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        text, _ = process.communicate(timeout=120)
        other.execute("ROLLBACK")
    assert process.returncode == 2, text
    assert "database is locked" in text
    run(words)
    assert scores(check_whole(store)) == undisturbed


def overwrite(path: Path, share: float, content: bytes) -> None:
    """Put bytes at a place in a file."""
    with path.open("r+b") as file:
        file.seek(int(share * path.stat().st_size))
        file.write(content)


@pytest.mark.parametrize("share", [0.0, 0.004, 0.3])
def test_a_damaged_store_is_refused(tiny: Dataset, finished: Path, share: float) -> None:
    for left in finished.glob(f"{DATABASE}-*"):
        left.unlink()
    overwrite(finished / DATABASE, share, os.urandom(300_000))
    for words in (
        command(tiny, finished),
        [*command(tiny, finished)[:3], "report", "audio_rnn", "--store", str(finished)],
    ):
        refused(subprocess.run(words, capture_output=True, text=True, timeout=120))


# ---- weights


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone"])
def test_damaged_weights_are_refused(finished: Path, damage: str) -> None:
    tracker = MlflowTracker(finished)
    (study,) = tracker.studies()
    folder = tracker.artifact(tracker.trials(study.run_id)[0].run_id, "model")
    weights = folder / "weights.safetensors"
    content = weights.read_bytes()
    changed = {"cut": content[:-1], "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], "empty": b""}
    if damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(changed[damage])
    with pytest.raises(InputError, match=r"weights\.safetensors:? (must have SHA-256|cannot be read)"):
        load_model(folder)
