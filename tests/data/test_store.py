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
from typing import Any

import numpy as np
import pytest
from filesets import random_partition, refusal

from mmtune.base.errors import InputError
from mmtune.data.building.arrays import from_arrays
from mmtune.data.checks import content_digest
from mmtune.data.dataset import Bank, Dataset, Partition
from mmtune.data.forms import Mfcc, Vector, form_to_json
from mmtune.data.storage.atomic import require_writable
from mmtune.data.storage.khacef import KHACEF_FILES
from mmtune.data.storage.store import MANIFEST, kept, load, save


@pytest.fixture
def khacef(tmp_path: Path, dataset: Dataset) -> Path:
    """The same pairs in the six files that Khacef published."""
    folder = tmp_path / "khacef"
    folder.mkdir()
    for part, own in (("train", dataset.train), ("test", dataset.require_test())):
        rows = np.arange(len(own))
        np.save(folder / f"data_wr_{part}.npy", own.banks["image"].of_rows(rows).reshape(-1, 784))
        np.save(folder / f"data_sp_{part}.npy", own.banks["audio"].of_rows(rows).reshape(-1, 507))
        np.save(folder / f"labels_{part}.npy", own.labels)
    return folder


def refused(folder: Path, *parts: str) -> None:
    """Loading must fail with one line that has all of `parts`."""
    line = refusal(lambda: load(folder))
    for part in parts:
        assert part in line


def parts_of(made: Dataset) -> tuple[Partition, Partition]:
    return made.train, made.require_test()


def arrays_of(part: Partition) -> dict[str, np.ndarray]:
    """Every array of a partition by its file."""
    found = {"labels.npy": part.labels}
    for name, bank in part.banks.items():
        found |= {f"{name}.values.npy": bank.values, f"{name}.index.npy": bank.index}
    return found | {f"{name}.group.npy": group for name, group in part.groups.items()}


@pytest.mark.parametrize("verify", [True, False])
def test_save_then_load_is_the_identity(dataset: Dataset, folder: Path, verify: bool) -> None:
    loaded = load(folder, verify=verify)
    for field in ("name", "classes", "forms", "provenance"):
        assert getattr(loaded, field) == getattr(dataset, field)
    assert loaded.digest == content_digest(dataset.classes, *parts_of(dataset))
    for ours, theirs in zip(parts_of(dataset), parts_of(loaded), strict=True):
        mine, read = arrays_of(ours), arrays_of(theirs)
        assert mine.keys() == read.keys()
        for name, array in mine.items():
            assert np.array_equal(array, read[name]), name
            assert array.dtype.kind == read[name].dtype.kind


def test_sets_without_a_test_or_with_empty_banks_are_kept(dataset: Dataset, tmp_path: Path) -> None:
    alone = save(replace(dataset, test=None), tmp_path / "alone")
    assert load(alone.folder).test is None
    nothing = Bank(values=np.zeros((0, 39, 13), np.float32), index=np.full(30, -1))
    test = dataset.require_test()
    made = save(replace(dataset, test=replace(test, banks={**test.banks, "audio": nothing})), tmp_path / "empty")
    assert not load(made.folder).require_test().banks["audio"].of_rows(np.arange(30)).any()


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_a_set_of_khacefs_in_any_type_has_one_digest_and_one_value_per_distinct_row(
    dataset: Dataset, khacef: Path, scale: float
) -> None:
    plain = load(khacef)
    for part in ("train", "test"):
        for kind, factor in (("data_wr", scale), ("data_sp", 1.0), ("labels", 1.0)):
            path = khacef / f"{kind}_{part}.npy"
            np.save(path, np.load(path).astype(np.float64) * factor)
    loaded = load(khacef)
    assert loaded.digest == plain.digest
    rows = np.arange(len(dataset.train))
    for name in ("image", "audio"):
        ours, theirs = loaded.train.banks[name], dataset.train.banks[name]
        assert len(ours.values) == len(theirs.values)
        assert np.array_equal(ours.of_rows(rows), theirs.of_rows(rows))
        assert np.array_equal(ours.index[:, None] == ours.index, theirs.index[:, None] == theirs.index)
    heard = loaded.train.groups["recording"]
    assert np.array_equal(
        heard[:, None] == heard, loaded.train.banks["audio"].index[:, None] == loaded.train.banks["audio"].index
    )
    assert load(save(loaded, khacef.with_name("again")).folder).digest == loaded.digest


def test_equal_rows_are_one_recording_and_signed_zeros_too(khacef: Path) -> None:
    audio, labels = np.load(khacef / "data_sp_train.npy"), np.load(khacef / "labels_train.npy")
    audio[labels == 3] = 0.0
    audio[np.flatnonzero(labels == 3)[0]] = -0.0
    audio[labels == 4] = 0.0
    np.save(khacef / "data_sp_train.npy", audio)
    train = load(khacef).train
    chosen = np.isin(labels, (3, 4))
    assert len(set(train.banks["audio"].index[chosen])) == len(set(train.groups["recording"][chosen])) == 1


def test_the_digest_tells_contents_apart(dataset: Dataset) -> None:
    train, test = parts_of(dataset)
    one = content_digest(dataset.classes, train, test)
    assert content_digest(dataset.classes, test, train) != one
    assert content_digest(dataset.classes[::-1], train, test) != one
    for name, array in arrays_of(train).items():
        changed = array.copy()
        changed.flat[0] = "other" if changed.dtype.kind == "U" else changed.flat[0] + 1
        assert content_digest(dataset.classes, with_array(train, name, changed), test) != one, name


def with_array(part: Partition, file: str, array: np.ndarray) -> Partition:
    """A partition with another array in the place of a file's."""
    name, kind = file.removesuffix(".npy").partition(".")[::2]
    if not kind:
        return replace(part, labels=array)
    if kind == "group":
        return replace(part, groups={**part.groups, name: array})
    return replace(part, banks={**part.banks, name: replace(part.banks[name], **{kind: array})})


def saved(rows: int, folder: Path, dataset: Dataset) -> Path:
    parts = [random_partition(count, count // 2, seed) for seed, count in enumerate((rows, rows // 7))]
    return save(replace(dataset, train=parts[0], test=parts[1]), folder).folder


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


def test_nothing_is_done_row_by_row(tmp_path: Path, dataset: Dataset) -> None:
    few, many = saved(140, tmp_path / "few", dataset), saved(7_000, tmp_path / "many", dataset)
    load(few)
    assert calls_of_loading(many) < calls_of_loading(few) + 1_000  # some for each thousand rows


@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="what is read is counted by the kernel")
def test_banks_are_mapped_and_not_read(tmp_path: Path, dataset: Dataset) -> None:
    def read() -> int:
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

    folder = saved(3_500, tmp_path / "many", dataset)
    before = read()
    loaded = load(folder, verify=False)
    assert read() - before < 2_000_000 < sum(bank.values.nbytes for bank in loaded.train.banks.values())
    assert not any(bank.values.flags.owndata for part in parts_of(loaded) for bank in part.banks.values())


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
        ("labels_train.npy", lambda a: np.where(a == 7, 1, a), "every class must have rows, 7 has none"),
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
    for path in (khacef / "data_sp_train.npy", folder / "train" / "image.values.npy"):
        path.write_bytes(path.read_bytes()[:keep])
        refused(path.parent if path.parent == khacef else folder, path.name, "must be")


def test_a_file_that_goes_on_is_refused(khacef: Path, folder: Path) -> None:
    for path, own in ((khacef / "data_sp_train.npy", khacef), (folder / "test" / "audio.values.npy", folder)):
        with path.open("ab") as file:
            file.write(b"more")
        refused(own, path.name, "bytes")


def test_one_changed_byte_is_refused(folder: Path) -> None:
    for path in sorted(folder.rglob("*.npy")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
        refused(folder)
        path.write_bytes(whole)
    assert load(folder)


def test_a_link_that_leads_out_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (folder / "test").rename(outside)
    (folder / "test").symlink_to(outside)
    refused(folder, "must lie in its own folder")
    (folder / "test").unlink()
    outside.rename(folder / "test")
    (folder / "test" / "labels.npy").rename(tmp_path / "labels.npy")
    (folder / "test" / "labels.npy").symlink_to(tmp_path / "labels.npy")
    refused(folder, "must lie in its own folder")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("audio.index", lambda a: a + 1, "audio index must lie in -1..39"),
        ("audio.index", lambda a: a - 2, "audio index must lie in -1..39"),
        ("audio.index", lambda a: a[:-1], "audio index must be (90,)"),
        ("audio.index", lambda a: a.astype(np.float64), "of int64, got (90,) float64"),
        ("audio.index", lambda a: a.astype(">i8"), "got (90,) >i8"),
        ("audio.index", lambda a: np.where(a == 5, 15, a), "every value must be some row's, value 5 is not"),
        ("speaker.group", lambda a: a[:-1], "group speaker must be (90,) of text"),
        ("speaker.group", lambda a: a.astype(object), "must be a valid .npy"),
        ("speaker.group", lambda a: np.full_like(a, "a\nb", "U9"), "group speaker must be text, row 0"),
        ("speaker.group", lambda a: a.astype("U2000"), "1024 characters at most"),
        ("labels", lambda a: np.where(a == 7, 1, a), "every class must have rows, 7 has none"),
        ("labels", lambda a: a + 1, "labels must lie in 0..9, got 10"),
        ("labels", lambda a: a[:0], "index must be (0,) of int64"),
        ("labels", lambda a: a.astype(np.int32), "labels must be (90,) of int64"),
        ("image.values", lambda a: a.reshape(90, -1), "image must be (90, 28, 28)"),
        ("image.values", lambda a: a.astype(np.int16), "of uint8"),
        ("audio.values", lambda a: np.where(a > 0.5, np.nan, a).astype(a.dtype), "audio must be finite"),
        ("waveform.values", lambda a: a[:, :-1], "waveform must be (40, 1600)"),
    ],
)
def test_bad_arrays_of_ours_are_refused(
    folder: Path, name: str, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    path = folder / "train" / f"{name}.npy"
    np.save(path, change(np.load(path)), allow_pickle=True)
    refused(folder, str(folder / "train"), said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format must be 3, got 2"),
        ({"name": 3}, "name must be a str, got 3"),
        ({"name": "../x"}, "without /"),
        ({"provenance": None}, "provenance must be a dict"),
        ({"digest": "0" * 64}, "digest must be that of the content"),
        ({"classes": ["a"]}, "classes must be 2 to"),
        ({"classes": ["a"] * 10}, "different names"),
        ({"classes": ["a\x1b", *"bcdefghij"]}, "printable letters"),
        ({"classes": [*"abcdefghijk"]}, "every class must have rows"),
        ({"classes": [1, 2]}, "classes must be names"),
        ({"forms": {}}, "banks must be 1 to 64"),
        ({"forms": {"../x": {"kind": "digit"}}}, "must have a name such as"),
        ({"forms": {"image": {"kind": "cake"}}}, "must be one of"),
        ({"forms": {"image": 3}}, "must be one of"),
        ({"forms": {"audio": form_to_json(Mfcc()) | {"std": [0.0] * 13}}}, "positive"),
        ({"forms": {"other": {"kind": "digit"}}}, "other.values.npy: cannot be read, is missing"),
        ({"groups": ["../x"]}, "must have a name such as speaker"),
        ({"groups": [["x"]]}, "groups must be names"),
        ({"groups": ["patient"]}, "patient.group.npy: cannot be read, is missing"),
        ({"partitions": ["test"]}, "partitions must be train"),
        ({"partitions": ["train", "../x"]}, "partitions must be train"),
    ],
)
def test_a_bad_manifest_is_refused(folder: Path, change: dict[str, Any], said: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | change))
    refused(folder, str(folder), said)


@pytest.mark.parametrize("name", ["data_sp_test.npy", "test/audio.index.npy", "test/speaker.group.npy", MANIFEST])
def test_random_damage_is_refused_or_harmless(folder: Path, khacef: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    own = khacef if name in KHACEF_FILES else folder
    whole = (own / name).read_bytes()
    head = len(whole) if name == MANIFEST else 200
    refusals, sound = [], load(own)
    for _ in range(80):
        damaged = bytearray(whole)
        for place in rng.integers(0, head, 3):
            damaged[place] = rng.integers(0, 256)
        (own / name).write_bytes(damaged)
        try:
            found = load(own)
        except InputError as error:
            refusals.append(str(error))
        else:
            # Khacef's files have no digest of their own: other numbers are another data set.
            assert own == khacef or (found.digest, found.classes) == (sound.digest, sound.classes)
    assert len(refusals) > 20
    assert all(line.isprintable() for line in refusals)


def test_half_a_set_is_refused(folder: Path) -> None:
    manifest = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text("{")
    refused(folder, MANIFEST, "JSON")
    (folder / MANIFEST).unlink()
    refused(folder, f"must have {MANIFEST}, or data_wr_train.npy")
    (folder / MANIFEST).write_text(manifest)
    (folder / "test" / "labels.npy").unlink()
    refused(folder, "labels.npy", "is missing")


def test_save_replaces_a_data_set_and_nothing_else(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    other = replace(dataset, train=dataset.require_test(), test=dataset.train)
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda part: with_array(part, "audio.index.npy", part.banks["audio"].index * 0),
            "every value must be some row's",
        ),
        (lambda part: replace(part, groups={}), "groups must be those of training"),
        (lambda part: replace(part, groups={**part.groups, "a/b": part.groups["speaker"]}), "groups must be those"),
        (lambda part: replace(part, banks={"image": part.banks["image"]}), "banks must be image, audio, waveform"),
    ],
)
def test_an_invalid_data_set_is_not_saved(
    dataset: Dataset, tmp_path: Path, change: Callable[[Partition], Partition], said: str
) -> None:
    assert said in refusal(lambda: save(replace(dataset, test=change(dataset.require_test())), tmp_path / "x"))
    assert not list(tmp_path.iterdir())


def test_a_killed_save_leaves_the_old_set_whole(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    before = load(folder).digest
    program = """
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from mmtune.data.storage.store import load, save
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
        while not (tmp_path / "target").exists():
            assert writer.poll() is None
            time.sleep(0.01)
        time.sleep(0.15)
        writer.send_signal(signal.SIGKILL)
    assert load(folder).digest == before
    # Killed between two renames nothing stands there, until the next that writes there finds what stood.
    require_writable(tmp_path / "target")
    assert load(tmp_path / "target").name in {"one", "two"}


def test_a_set_whose_files_become_something_else_is_another_one(tmp_path: Path) -> None:
    """Equal numbers under columns in another order: the digest does not tell them apart, a table does."""
    orders = [("age", "height"), ("height", "age")]
    for columns in orders * 2:
        made = from_arrays(labels=[0, 1] * 10, forms={"v": Vector(columns=columns)}, v=np.arange(40.0).reshape(20, 2))
        assert kept(made, tmp_path).forms["v"] == Vector(columns=columns)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["mine", "set[1]"])
def test_what_a_kill_has_left_of_a_set_is_its_own(dataset: Dataset, tmp_path: Path, name: str) -> None:
    save(replace(dataset, name="mine.v2"), tmp_path / "mine.v2")
    left = tmp_path / ".mine.v2.0123456789ab.old"
    (tmp_path / "mine.v2").rename(left)
    own = save(replace(dataset, name="mine"), tmp_path / name)
    own.folder.rename(tmp_path / f".{name}.0123456789ab.old")
    require_writable(tmp_path / name)
    assert load(tmp_path / name).digest == own.digest
    assert left.is_dir()
    require_writable(tmp_path / "mine.v2")
    assert load(tmp_path / "mine.v2").name == "mine.v2"
