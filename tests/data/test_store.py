"""A data set on disk: round trips, one digest for one content, and a line for everything that is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from mmtune.base.errors import InputError
from mmtune.data.checks import content_digest
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.features import FeatureStats
from mmtune.data.khacef import KHACEF_FILES
from mmtune.data.store import MANIFEST, TEST, TRAIN, load, save

ARRAYS = ("images", "clips", "clip_index", "labels", "speaker", "clip_id")
STATS = FeatureStats(mean=(0.1,) * 13, std=(1 / 3,) * 13, low=-1.7, high=2.3)


def partition(rows: int, clips: int, seed: int) -> Partition:
    """Random rows, each clip used, recordings with waveforms."""
    rng = np.random.default_rng(seed)
    digit = np.arange(clips) % 10
    index = np.concatenate([np.arange(clips), rng.integers(0, clips, rows - clips)])
    rng.shuffle(index)
    return Partition(
        images=rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8),
        clips=rng.random((clips, 39, 13), dtype=np.float32),
        clip_index=index.astype(np.int64),
        labels=digit[index].astype(np.int64),
        speaker=np.array([f"s{(c // 10) % 4}" for c in range(clips)]),
        clip_id=np.array([f"clip {seed} {c}" for c in range(clips)]),
        waveforms=rng.integers(-9999, 9999, (clips, 16000), dtype=np.int16),
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset(
        name="made",
        folder=Path(),
        train=partition(90, 40, 1),
        test=partition(30, 20, 2),
        digest="",
        provenance={"source": "made by the tests", "seed": 1},
        features=STATS.to_json(),
    )


@pytest.fixture
def folder(tmp_path: Path, dataset: Dataset) -> Path:
    return save(dataset, tmp_path / "set").folder


@pytest.fixture
def khacef(tmp_path: Path, dataset: Dataset) -> Path:
    """The same pairs in the six files that Khacef published."""
    folder = tmp_path / "khacef"
    folder.mkdir()
    for part, own in (("train", dataset.train), ("test", dataset.require_test())):
        np.save(folder / f"data_wr_{part}.npy", own.images.reshape(-1, 784))
        np.save(folder / f"data_sp_{part}.npy", own.clips.reshape(-1, 507)[own.clip_index])
        np.save(folder / f"labels_{part}.npy", own.labels)
    return folder


def refused(folder: Path, *parts: str) -> None:
    """Loading must fail with one line that has all of `parts`."""
    with pytest.raises(InputError) as caught:
        load(folder)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize("verify", [True, False])
def test_save_then_load_is_the_identity(dataset: Dataset, folder: Path, verify: bool) -> None:
    loaded = load(folder, verify=verify)
    assert (loaded.name, loaded.provenance, loaded.features) == (dataset.name, dataset.provenance, dataset.features)
    assert loaded.digest == content_digest(dataset.train, dataset.test)
    for ours, theirs in ((dataset.train, loaded.train), (dataset.test, loaded.test)):
        for name in (*ARRAYS, "waveforms"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
            assert getattr(theirs, name).dtype.kind == getattr(ours, name).dtype.kind


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_a_set_of_khacefs_in_any_type_has_one_digest_and_one_clip_per_distinct_row(
    dataset: Dataset, khacef: Path, scale: float
) -> None:
    plain = load(khacef)
    for part in ("train", "test"):
        for kind, factor in (("data_wr", scale), ("data_sp", 1.0), ("labels", 1.0)):
            path = khacef / f"{kind}_{part}.npy"
            np.save(path, np.load(path).astype(np.float64) * factor)
    loaded = load(khacef)
    assert loaded.digest == plain.digest
    assert loaded.features is None
    assert not loaded.train.speakers_known
    assert len(loaded.train.clips) == len(dataset.train.clips)
    assert np.array_equal(loaded.train.clips[loaded.train.clip_index], dataset.train.clips[dataset.train.clip_index])
    same = dataset.train.clip_index[:, None] == dataset.train.clip_index
    assert np.array_equal(loaded.train.clip_index[:, None] == loaded.train.clip_index, same)
    assert load(save(loaded, khacef.with_name("again")).folder).digest == loaded.digest


def test_equal_rows_of_two_digits_are_two_clips_and_signed_zeros_are_one(khacef: Path) -> None:
    audio, labels = np.load(khacef / "data_sp_train.npy"), np.load(khacef / "labels_train.npy")
    audio[labels == 3] = 0.0
    audio[np.flatnonzero(labels == 3)[0]] = -0.0
    audio[labels == 4] = 0.0
    np.save(khacef / "data_sp_train.npy", audio)
    train = load(khacef).train
    threes, fours = (np.unique(train.clip_index[labels == digit]) for digit in (3, 4))
    assert len(threes) == len(fours) == 1
    assert threes[0] != fours[0]


def test_the_digest_tells_contents_apart(dataset: Dataset) -> None:
    one = content_digest(dataset.train, dataset.test)
    assert content_digest(dataset.test, dataset.train) != one
    for name in (*ARRAYS, "waveforms"):
        changed = getattr(dataset.train, name).copy()
        changed.flat[0] = "other" if changed.dtype.kind == "U" else changed.flat[0] + 1
        assert content_digest(replace(dataset.train, **{name: changed}), dataset.test) != one, name


def saved(rows: int, folder: Path) -> Path:
    """A set like Khacef's in all but its size, with a seventh as many test pairs as training pairs."""
    rng = np.random.default_rng(0)
    parts = []
    for count in (rows, rows // 7):
        clips = count // 2
        index = np.concatenate([np.arange(clips), rng.integers(0, clips, count - clips)])
        parts.append(
            Partition(
                images=np.zeros((count, 28, 28), np.uint8),
                clips=rng.random((clips, 39, 13), dtype=np.float32),
                clip_index=index,
                labels=index % 10,
                speaker=np.array([f"s{c % 977}" for c in range(clips)]),
                clip_id=np.arange(clips).astype(str),
            )
        )
    made = Dataset(name="big", folder=Path(), train=parts[0], test=parts[1], digest="", provenance={}, features=None)
    return save(made, folder).folder


def calls_of_loading(folder: Path) -> int:
    """How many functions are called, Python's own among them."""
    calls = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        load(folder)
    finally:
        sys.setprofile(None)
    return calls


def test_nothing_is_done_row_by_row(tmp_path: Path) -> None:
    few, many = saved(140, tmp_path / "few"), saved(7_000, tmp_path / "many")
    load(few)
    assert calls_of_loading(many) < calls_of_loading(few) + 3_000  # some for each 256 KiB


@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="what is read is counted by the kernel")
def test_every_file_is_read_once_for_its_checksum_and_mapped_for_the_rest(tmp_path: Path) -> None:
    def read() -> int:
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

    folder = saved(7_000, tmp_path / "many")
    before = read()
    load(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < read() - before < 1.2 * size


@pytest.mark.parametrize("name", KHACEF_FILES)
def test_a_missing_file_is_named(khacef: Path, name: str) -> None:
    (khacef / name).rename(khacef / f"my_{name}")
    refused(khacef, "must have", f"missing {name}")


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere", "is missing")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "is a file")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("data_wr_train.npy", lambda a: a[:, :-1], "shape must be (N, 784)"),
        ("data_wr_train.npy", lambda a: a.reshape(-1, 28, 28), "got (90, 28, 28)"),
        ("data_wr_train.npy", lambda a: a.astype(np.float64) * 2, "must lie in [0, 1] or [0, 255]"),
        ("data_wr_train.npy", lambda a: a.astype(np.float64) - 1, "must lie in [0, 1] or [0, 255], got -1"),
        ("data_wr_train.npy", lambda a: a.astype(np.complex64), "dtype must be a real number type"),
        ("data_wr_test.npy", lambda a: a[:-1], "(30), has 29"),
        ("data_sp_train.npy", lambda a: a[1:], "must have as many rows as labels_train.npy (90), has 89"),
        ("data_sp_train.npy", lambda a: a.astype(str), "dtype must be a real number type"),
        ("data_sp_train.npy", lambda a: np.where(np.arange(90)[:, None] == 17, np.nan, a), "row 17 holds NaN"),
        ("data_sp_test.npy", lambda a: np.where(np.arange(30)[:, None] == 3, np.inf, a), "row 3 holds NaN or inf"),
        ("data_sp_test.npy", lambda a: a.astype(np.float64) * 1e300, "must fit float32"),
        ("data_sp_test.npy", lambda a: a[:0], "N >= 1"),
        ("labels_train.npy", lambda a: a + 1, "labels must be whole numbers from 0 to 9"),
        ("labels_train.npy", lambda a: a - 1, "is -1"),
        ("labels_train.npy", lambda a: a + 0.5, "whole numbers"),
        ("labels_train.npy", lambda a: np.where(a == 2, np.nan, a), "is nan"),
        ("labels_train.npy", lambda a: np.where(a == 7, 1, a), "every digit must have rows, 7 (seven) has none"),
        ("labels_train.npy", lambda a: np.eye(10)[a], "shape must be (N,)"),
        ("labels_train.npy", lambda a: a.astype(str), "dtype must be a real number type"),
        ("labels_train.npy", lambda a: a.astype(object), "pickled"),
        ("data_sp_train.npy", lambda a: a.astype(object), "pickled"),
    ],
)
def test_a_bad_array_is_refused_by_name(
    khacef: Path, name: str, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    np.save(khacef / name, change(np.load(khacef / name)), allow_pickle=True)
    refused(khacef, name, said)


@pytest.mark.parametrize("keep", [0, 4, 70, 5000])
def test_a_truncated_file_is_refused(khacef: Path, folder: Path, keep: int) -> None:
    for path in (khacef / "data_sp_train.npy", folder / TRAIN):
        path.write_bytes(path.read_bytes()[:keep])
        refused(path.parent, path.name, "must be")


def test_a_file_that_goes_on_is_refused(khacef: Path) -> None:
    with (khacef / "data_sp_train.npy").open("ab") as file:
        file.write(b"more")
    refused(khacef, "data_sp_train.npy", "bytes")


def test_one_changed_byte_is_refused(folder: Path) -> None:
    for name in (TRAIN, TEST):
        whole = (folder / name).read_bytes()
        for place in (len(whole) // 20, len(whole) // 2):
            (folder / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            refused(folder, name, "must be a complete .npz")
        (folder / name).write_bytes(whole)
    assert load(folder)


def change_arrays(folder: Path, **changes: Callable[[np.ndarray], np.ndarray]) -> None:
    with np.load(folder / TRAIN) as archive:
        arrays = dict(archive)
    np.savez(folder / TRAIN, **(arrays | {name: change(arrays[name]) for name, change in changes.items()}))


def test_another_content_is_refused_by_its_digest(folder: Path) -> None:
    change_arrays(folder, images=lambda a: np.maximum(a, 1))
    refused(folder, MANIFEST, "digest must be that of the content")
    assert load(folder, verify=False)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("clip_index", lambda a: a + 1, "clip_index must lie in 0..39"),
        ("clip_index", lambda a: a - 1, "clip_index must lie in 0..39"),
        ("clip_index", lambda a: a[:-1], "clip_index must be (90,)"),
        ("clip_index", lambda a: a.astype(np.float64), "of type i8"),
        ("clip_index", lambda a: a.astype(">i8"), "of type i8"),
        ("clip_index", lambda a: np.where(a == 5, 15, a), "every clip must be paired with an image, clip 5 is not"),
        ("clip_index", lambda a: np.roll(a, 1), "must be paired with images of one digit"),
        ("clip_id", lambda a: np.append(a, "spare"), "clips must be (41, 39, 13)"),
        ("clip_id", lambda a: np.full_like(a, "same"), "clip ids must be unique, same occurs 40 times"),
        ("speaker", lambda a: a[:-1], "speaker must be"),
        ("speaker", lambda a: a.astype(object), "pickled"),
        ("speaker", lambda a: np.full_like(a, "a\nb"), "speaker must be text"),
        ("labels", lambda a: np.where(a == 7, 1, a), "every digit must have rows, 7 (seven) has none"),
        ("labels", lambda a: a + 1, "labels must lie in 0..9, got 10"),
        ("labels", lambda a: np.array(3), "images must be (1, 28, 28)"),
        ("labels", lambda a: a[:0], "images must be (0, 28, 28)"),
        ("images", lambda a: a.reshape(90, -1), "images must be (90, 28, 28)"),
        ("clips", lambda a: np.where(a > 0.5, np.nan, a), "clips must be finite"),
        ("waveforms", lambda a: a[1:], "waveforms must be (40, 16000)"),
    ],
)
def test_bad_arrays_of_ours_are_refused(
    folder: Path, name: str, change: Callable[[np.ndarray], np.ndarray], said: str, verify: bool
) -> None:
    change_arrays(folder, **{name: change})
    with pytest.raises(InputError) as caught:
        load(folder, verify=verify)
    assert TRAIN in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 1}, "format must be 2, got 1"),
        ({"name": 3}, "name must be a str, got 3"),
        ({"provenance": None}, "provenance must be a dict"),
        ({"digest": "0" * 64}, "digest must be that of the content"),
        ({"features": {"mean": [1]}}, "feature statistics must have the fields"),
        ({"features": STATS.to_json() | {"std": [0.0] * 13}}, "positive"),
        ({"features": STATS.to_json() | {"low": float("nan")}}, "finite"),
    ],
)
def test_a_bad_manifest_is_refused(folder: Path, change: dict[str, object], said: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | change))
    refused(folder, MANIFEST, said)


@pytest.mark.parametrize("name", ["data_sp_test.npy", TEST, MANIFEST])
def test_random_damage_is_refused_or_harmless(folder: Path, khacef: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    path = (khacef if name in KHACEF_FILES else folder) / name
    whole = path.read_bytes()
    head = len(whole) if name == TEST else 128
    refusals = []
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, head, 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            load(path.parent, verify=False)
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert not any("\n" in line for line in refusals)


def test_half_a_set_is_refused(folder: Path) -> None:
    manifest = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text("{")
    refused(folder, MANIFEST, "JSON")
    (folder / MANIFEST).unlink()
    refused(folder, f"must have {MANIFEST}, or data_wr_train.npy")
    (folder / MANIFEST).write_text(manifest)
    (folder / TEST).unlink()
    refused(folder, TEST, "is missing")


def test_save_replaces_a_data_set_and_nothing_else(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    other = replace(dataset, train=dataset.test, test=dataset.train)
    assert load(save(other, folder).folder).digest != load(save(dataset, tmp_path / "b").folder).digest
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match="something else"):
        save(dataset, precious)
    with pytest.raises(InputError, match="something else"):
        save(dataset, precious / "chapter.txt")
    assert (precious / "chapter.txt").read_text() == "years of work"
    assert {path.name for path in tmp_path.iterdir()} == {"set", "b", "thesis"}


def test_an_invalid_data_set_is_not_saved(dataset: Dataset, tmp_path: Path) -> None:
    unused = replace(dataset.train, clip_index=np.where(dataset.train.clip_index == 5, 15, dataset.train.clip_index))
    with pytest.raises(InputError, match="clip 5 is not"):
        save(replace(dataset, train=unused), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_killed_save_leaves_the_old_set_whole(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    before = load(folder).digest
    program = """
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from mmtune.data.store import load, save
folder = Path(sys.argv[1])
dataset = load(folder)
print("go", flush=True)
while True:
    for name in ("one", "two"):
        save(replace(dataset, name=name), folder.with_name("target"))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, env=environment
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.15)
        writer.send_signal(signal.SIGKILL)
    assert load(folder).digest == before
    if (tmp_path / "target").exists():
        assert load(tmp_path / "target").name in {"one", "two"}
