"""Full and read-only disks, damaged stores and weights: refused with a reason or mended, never mixed up."""

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
from checks import begin, check_whole, command, done_in, run, scores, states_of, wait_for

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.networks.storage import load_model
from mmtune.tracking import FAIL, MlflowTracker
from mmtune.tracking.address import DATABASE

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


@pytest.fixture
def small_disk(tmp_path: Path, store_template: Path) -> Iterator[Path]:
    """A store on a file system of 128 MiB: models, embeddings and checkpoints of twelve folds take half of it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(disk)], capture_output=True)
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
@pytest.mark.parametrize("more", [(), ("--checkpoint-every", "0"), ("--folds", "3", "--checkpoint-every", "0")])
def test_a_disk_that_fills_up_under_way_costs_no_trial(
    tiny: Dataset, small_disk: Path, undisturbed: Scores, more: tuple[str, ...]
) -> None:
    """Whatever is written when there is no more room: epochs, checkpoints, results, the store."""
    words = command(tiny, small_disk, *more)
    process = begin(words)
    wait_for(process, "[1/")
    ballast = leave_room(small_disk, 0)
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 2, text
    assert "No space left on device" in text or "full" in text
    assert "Traceback" not in text
    ballast.unlink()
    done = done_in(small_disk)
    run(words)
    complete = check_whole(small_disk)
    assert done <= done_in(small_disk)
    assert "--folds" in more or scores(complete) == undisturbed
    assert FAIL not in states_of(small_disk).values()


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


@pytest.mark.slow
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


@pytest.mark.slow
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
