"""Hostile files where data sets are read and built: one line, exit code 2, little memory and time, no code run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import hostile
import numpy as np
import pytest
from cases import MFCC, READY, Case, case, endless, fifo, npz_running, outside, running
from children import Ran, call, command, names, require_refusal
from world import write_khacef

from mmtune.data.storage.sequences import load_sequences
from mmtune.data.storage.store import MANIFEST, load


def manifest(said: str, **fields: object) -> Case:
    return case(MANIFEST, lambda path: hostile.change_json(path, **fields), said)


def form(said: str, bank: str = "image", **fields: object) -> Case:
    """One bank's form is another; a field that is None is left out."""
    own = {name: value for name, value in fields.items() if value is not None}

    def spoil(path: Path) -> None:
        forms = json.loads(path.read_text())["forms"]
        hostile.change_json(path, forms=forms | {bank: own})

    return case(MANIFEST, spoil, said)


def array(place: str, change: Callable[[np.ndarray], np.ndarray], said: str) -> Case:
    return case(place, lambda path: hostile.change_array(path, change), said)


LABELS, VALUES, INDEX = "train/labels.npy", "test/image.values.npy", "train/audio.index.npy"
GROUP = "train/speaker.group.npy"
DATA = {
    "pickled values": running(VALUES, hostile.pickled_npy, "pickled"),
    "pickled labels": running(LABELS, hostile.pickled_npy, "pickled"),
    "pickled names": running(GROUP, hostile.pickled_npy, "pickled"),
    "a pickle for values": running(VALUES, hostile.bare_pickle, "must be a .npy file"),
    "torch for values": running(VALUES, hostile.torch_pt, "must be a .npy file"),
    "a pickle for the manifest": running(MANIFEST, hostile.bare_pickle, "must be JSON"),
    "other values": array(VALUES, lambda old: old // 2 + np.arange(len(old), dtype=np.uint8)[:, None, None], "digest"),
    "a header of a GiB": case(VALUES, hostile.long_header_npy, "must be a valid .npy"),
    "a file of 8 TB": case(VALUES, lambda p: hostile.sparse(p, b"\x93NUMPY", 2**43), "must be a valid .npy"),
    "8 TB of values": case(
        VALUES, lambda p: hostile.sparse(p, hostile.header((2**33, 28, 28), "|u1"), 128 + 784 * 2**33), ".npy"
    ),
    "more values than rows": case(
        VALUES, lambda p: hostile.sparse(p, hostile.header((2**20, 28, 28), "|u1"), 128 + 784 * 2**20), "some row's"
    ),
    "a GiB of labels": case(
        LABELS, lambda p: hostile.sparse(p, hostile.header((2**27 - 16,), "<i8"), 2**30), "(134217712,)"
    ),
    "deep JSON": case(MANIFEST, hostile.deep_json, "must be JSON"),
    "JSON of a GiB": case(MANIFEST, lambda p: hostile.sparse(p, b"{", 2**30), "at most"),
    "a pipe": case(VALUES, fifo, "is no file"),
    "a device": case(MANIFEST, endless, "must lie in its own folder"),
    "a link out": case(LABELS, outside, "must lie in its own folder"),
    "a link out for values": case(VALUES, outside, "must lie in its own folder"),
    "a link out for a partition": case("train", outside, "must lie in its own folder"),
    "a link out for the manifest": case(MANIFEST, outside, "must lie in its own folder"),
    "nothing for values": case(VALUES, Path.unlink, "is missing"),
    "a name that leads out": manifest("without /", name="../../evil"),
    "a name of control characters": manifest("printable", name="a\u001b[2J"),
    "another format": manifest("format must be", format=[3]),
    "a digest that is none": manifest("digest must be a str", digest=3),
    "a source that is none": manifest("provenance must be a dict", provenance=[1]),
    "classes that are numbers": manifest("classes must be names", classes=list(range(10))),
    "one class": manifest("classes must be 2 to", classes=["a"]),
    "5,000 classes": manifest("classes must be 2 to", classes=list(map(str, range(5000)))),
    "classes twice": manifest("different names", classes=["a"] * 10),
    "a class of control characters": manifest("printable", classes=["\x1b[2J", *"bcdefghij"]),
    "a class too few": manifest("labels must lie in 0..8", classes=list("abcdefghi")),
    "a class too many": manifest("every class must have rows", classes=list("abcdefghijk")),
    "banks that are a list": manifest("forms must be a dict", forms=["image"]),
    "no bank": manifest("banks must be 1 to", forms={}),
    "a bank that leads out": manifest("must have a name such as", forms={"../../image": {"kind": "digit"}}),
    "a bank that is code": manifest("must have a name such as", forms={"__import__": {"kind": "digit"}}),
    "a thousand banks": manifest("banks must be 1 to", forms={f"b{n}": {"kind": "digit"} for n in range(1000)}),
    "a bank without files": manifest("is missing", forms={"video": {"kind": "digit"}}),
    "a form that is none": manifest("what a bank is must be one of", forms={"image": 3}),
    "an unknown form": form("what a bank is must be one of", kind="os.system"),
    "a form that is a list": form("what a bank is must be one of", kind=["digit"]),
    "a form that is an object": form("what a bank is must be one of", kind={"kind": "digit"}),
    "a form of other fields": form("digit does not take", kind="digit", height=3),
    "a form without fields": form("ready does not take", kind="ready"),
    "sides beyond all": form("sides of 1 or more", **READY, sides=[2**62, 2**62]),
    "sides below nought": form("sides of 1 or more", **READY, sides=[-1, -784]),
    "sides of text": form("sides must be", **READY, sides=["28", "28"]),
    "sides that are a text": form("sides must be", **READY, sides=""),
    "sides that are an object": form("sides must be", **READY, sides={"28": 28}),
    "truths for sides": form("sides must be", **READY, sides=[True, 28]),
    "another type": form("must be (120, 28, 28) of float32", **READY, sides=[28, 28]),
    "another shape": form("must be (120, 784) of uint8", kind="ready", of="uint8", sides=[784]),
    "a type that is code": form("float32, uint8 or int16", kind="ready", of="O", sides=[28, 28]),
    "a scale of NaN": form("finite numbers", "audio", **MFCC | {"low": float("nan")}),
    "a scale of nought": form("positive deviations", "audio", **MFCC | {"std": [0.0] * 13}),
    "a scale of text": form("mean must be", "audio", **MFCC | {"mean": "0" * 13}),
    "an endless recording": form("seconds of a recording", "audio", **MFCC | {"seconds": 1e9}),
    "groups that are an object": manifest("groups must be a list", groups={"speaker": 1}),
    "groups that are numbers": manifest("groups must be names", groups=[1]),
    "a group that leads out": manifest("must have a name such as speaker", groups=["../../speaker"]),
    "a group without a file": manifest("is missing", groups=["patient"]),
    "a group of a long name": manifest("must have a name such as speaker", groups=["a" * 300]),
    "a thousand groups": manifest("groups must be 64 at most", groups=["speaker"] * 1000),
    "a partition that leads out": manifest("partitions must be", partitions=["train", "../test"]),
    "no partition": manifest("partitions must be", partitions=[]),
    "partitions that are an object": manifest("partitions must be a list", partitions={"train": 1}),
    "labels of floats": array(LABELS, lambda old: old.astype(float), "of int64, got"),
    "labels of many axes": array(LABELS, lambda old: old[:, None], "of int64, got"),
    "one label": array(LABELS, lambda old: old[0], "of int64, got () int64"),
    "no label": array(LABELS, lambda old: old[:0], "index must be (0,)"),
    "labels below nought": array(LABELS, lambda old: old - 1, "labels must lie in 0..9"),
    "an index of other rows": array(INDEX, lambda old: old[1:], "index must be (120,)"),
    "an index beyond": array(INDEX, lambda old: old + 1, "index must lie in -1.."),
    "an index far below": array(INDEX, lambda old: old - 2**40, "index must lie in -1.."),
    "a value of no row": array(INDEX, lambda old: np.where(old == 3, 4, old), "value 3 is not"),
    "one number for values": array(VALUES, lambda old: old[0, 0, 0], "must be"),
    "values in another order": array("test/audio.values.npy", lambda old: old.astype(">f4"), "of float32"),
    "values of fields": array(VALUES, lambda old: old.view([("a", "u1")]), "of uint8"),
    "values that are not finite": array("test/audio.values.npy", lambda old: old * np.float32(np.inf), "finite"),
    "names of numbers": array(GROUP, lambda old: np.arange(len(old)), "of text"),
    "names of bytes": array(GROUP, lambda old: old.astype("S"), "of text"),
    "names of control characters": array(GROUP, lambda old: np.char.add(old, "\x1b[2J"), "control character"),
    "names of a megabyte": array(GROUP, lambda old: old.astype("U2000"), "1024 characters at most"),
}
KHACEF = {
    "pickled images": running("data_wr_train.npy", hostile.pickled_npy, "pickled"),
    "pickled labels": running("labels_test.npy", hostile.pickled_npy, "pickled"),
    "a pickle for audio": running("data_sp_train.npy", hostile.bare_pickle, "must be a .npy file"),
    "torch for audio": running("data_sp_test.npy", hostile.torch_pt, "must be a .npy file"),
    "a header of a GiB": case("data_wr_train.npy", hostile.long_header_npy, "must be a valid .npy"),
    "a file of 8 TB": case("data_wr_train.npy", lambda p: hostile.sparse(p, b"\x93NUMPY", 2**43), "at most"),
    "a GiB of labels": case(
        "labels_train.npy",
        lambda p: hostile.sparse(p, hostile.header((2**30 - 128,), "|u1"), 2**30),
        "must have as many rows as labels_train.npy (1073741696)",
    ),
    "a pipe": case("data_sp_train.npy", fifo, "missing data_sp_train.npy"),
    "a link out": case("labels_train.npy", outside, "must lie in its own folder"),
}


def info(data: Path, folder: Path) -> Ran:
    return command("data", "info", data, folder=folder)


@pytest.fixture
def data(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "set"))


@pytest.fixture
def khacef(built: Path, tmp_path: Path) -> Path:
    """The same pairs in the six files that Khacef published."""
    own = load(built)
    return write_khacef(tmp_path / "set", train=own.train, test=own.require_test())


def require_refused(case: Case, folder: Path, marker: Path, tmp_path: Path) -> None:
    """Spoil a sound data set, and see that it is refused without a trace."""
    case.spoil(folder / case.place, marker)
    before = names(tmp_path)
    require_refusal(info(folder, tmp_path), "mmtune: ", case.said)
    assert names(tmp_path) == before


@pytest.mark.parametrize("name", DATA)
def test_a_hostile_data_set_is_refused(name: str, data: Path, marker: Path, tmp_path: Path) -> None:
    require_refused(DATA[name], data, marker, tmp_path)


@pytest.mark.parametrize("name", KHACEF)
def test_hostile_files_of_khacefs_are_refused(name: str, khacef: Path, marker: Path, tmp_path: Path) -> None:
    require_refused(KHACEF[name], khacef, marker, tmp_path)


def test_a_study_refuses_what_info_refuses(data: Path, marker: Path, tmp_path: Path) -> None:
    hostile.pickled_npy(data / VALUES, marker)
    before = names(tmp_path)
    words = ("--data", data, "--store", tmp_path / "mlruns")
    require_refusal(command("study", "audio_rnn", *words, folder=tmp_path), "mmtune: ", "pickled")
    assert names(tmp_path) == before


def test_a_data_set_may_itself_be_a_link(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(data)
    assert load(tmp_path / "mine").folder == data
    (data / "train").rename(data / "kept")
    (data / "train").symlink_to("kept")
    (data / VALUES).rename(data / "test" / "kept")
    (data / VALUES).symlink_to("kept")
    assert load(data)


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    require_refusal(info(tmp_path / "a", tmp_path), "must be a folder")


# ---- sequences

SEQUENCES = {
    "pickled": running("", npz_running("person"), "pickled"),
    "a pickle": running("", hostile.bare_pickle, "complete .npz"),
    "torch": running("", hostile.torch_pt, "must hold the array"),
    "names with ../": running("", npz_running("../../../frames"), "frames once, holds it 0"),
    "a header of 256 MiB": case(
        "",
        lambda p: hostile.with_member(p, "frames", b"\x93NUMPY\x02\x00\x00\x00\x00\x10" + bytes(2**28)),
        "must be a complete .npz",
    ),
    "300 MB in 300 KB": case(
        "",
        lambda p: hostile.with_member(p, "frames", hostile.zeros_npy((4, 3, 5_000, 5_000), "|u1", 300_000_000)),
        "bytes at most",
    ),
    "a directory of 64 MiB": case("", lambda p: p.write_bytes(directory(p.read_bytes(), 2**26)), "complete .npz"),
}


def directory(archive: bytes, size: int) -> bytes:
    """An archive whose end says that its directory has so many bytes, which are there."""
    at = archive.rfind(b"PK\x05\x06")
    entry = b"PK\x01\x02" + bytes(42)
    end = bytearray(archive[at:])
    end[12:16] = (size // 46 * 46).to_bytes(4, "little")
    end[16:20] = at.to_bytes(4, "little")
    return archive[:at] + entry * (size // 46) + bytes(end)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_hostile_file_of_sequences_is_refused(name: str, marker: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    frames, mfcc = np.zeros((4, 3, 8, 8), np.uint8), np.ones((4, 3, 2), np.float32)
    rows = {"lengths": np.full(4, 3), "labels": np.arange(4) % 2, "person": np.array(["a", "b"] * 2)}
    held = {} if name == "names with ../" else {"frames": frames}
    np.savez(path, mfcc=mfcc, **rows, **held)
    SEQUENCES[name].spoil(path, marker)
    before = names(tmp_path)
    require_refusal(call(lambda: load_sequences(path)), SEQUENCES[name].said)
    require_refusal(command("data", "info", path, folder=tmp_path), "mmtune: ", SEQUENCES[name].said)
    assert names(tmp_path) == before


# ---- sources

IMAGES = "train-images-idx3-ubyte.gz"
SOURCES = {
    "torch for IDX": running(f"idx/{IMAGES}", hostile.torch_pt, "must be a whole gzip file"),
    "3 TB of pictures claimed": case(f"idx/{IMAGES}", hostile.idx_claim, "can hold"),
    "too many pictures unpacked": case(f"idx/{IMAGES}", lambda p: hostile.idx_bomb(p, 120, 2**28), "has more"),
    "a GiB of pictures": case(f"idx/{IMAGES}", lambda p: hostile.idx_bomb(p, 2**21, 2**20), "can hold"),
    "a pipe for IDX": case(f"idx/{IMAGES}", fifo, "is no file"),
    "a pickle for a recording": running("fsdd/recordings/0_ann_0.wav", hostile.bare_pickle, "WAV, FLAC, MP3"),
    "a WAV of 256 MiB": case("fsdd/recordings/0_ann_0.wav", lambda p: hostile.wav(p, riff=2**28), "must be complete"),
    "a thousand channels": case(
        "fsdd/recordings/0_ann_0.wav", lambda p: hostile.wav(p, channels=1000, rate=2_000_000), "sample rate"
    ),
    "a FLAC of 60 s at 655 kHz": case(
        "fsdd/recordings/0_ann_0.wav", lambda p: hostile.loud_flac(p, 39_000_000, 655_350), "must hold at most"
    ),
    "an endless FLAC": case(
        "fsdd/recordings/0_ann_0.wav", lambda p: hostile.loud_flac(p, 2**36 - 1, 8000), "at most 60 s"
    ),
    "a sparse WAV of 8 TB": case("fsdd/recordings/0_ann_0.wav", lambda p: hostile.sparse(p, b"RIFF", 2**43), "at most"),
    "a device for a recording": case("fsdd/recordings/0_ann_0.wav", endless, "is no file"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_hostile_source_is_refused(name: str, idx: Path, fsdd: Path, marker: Path, tmp_path: Path) -> None:
    for source in (idx, fsdd):
        shutil.copytree(source, tmp_path / source.name)
    SOURCES[name].spoil(tmp_path / SOURCES[name].place, marker)
    words = ("--images", tmp_path / "idx", "--audio", tmp_path / "fsdd", "--out", tmp_path / "made")
    ran = command("data", "build", *words, folder=tmp_path)
    require_refusal(ran, "mmtune: ", SOURCES[name].said)
    assert not (tmp_path / "made").exists()


# ---- tables

TABLES = {
    "a pickle": (hostile.bare_pickle, "must be a CSV file"),
    "torch": (hostile.torch_pt, "must be a CSV file"),
    "a GiB": (lambda p, m: hostile.sparse(p, b"label,photo", 2**30), "at most"),
    "60 MiB of commas": (lambda p, m: p.write_bytes(b"label,photo" + b"," * (60 * 2**20)), "cells at most"),
    "60 MiB of lines": (lambda p, m: p.write_bytes(b"label,photo" + b"\n" * (60 * 2**20)), "cells at most"),
    "a cell of 60 MiB": (lambda p, m: p.write_bytes(b"label,photo\n1," + b"x" * (60 * 2**20)), "must be a CSV file"),
    "a device for a picture": (lambda p, m: p.write_text("label,photo\na,/dev/zero\nb,/dev/zero\n"), "is no file"),
    "control characters": (lambda p, m: p.write_text("label,photo\na\x1b[2J,x.png\nb,y.png\n"), "is missing"),
    "a pipe": (lambda p, m: fifo(p), "is no file"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_hostile_table_is_refused(name: str, marker: Path, tmp_path: Path) -> None:
    spoil, said = TABLES[name]
    path = tmp_path / "t.csv"
    path.touch()
    spoil(path, marker)
    words = ("--table", path, "--image", "photo:8x8", "--out", tmp_path / "made")
    require_refusal(command("data", "build", *words, folder=tmp_path), "mmtune: ", said)
    assert not (tmp_path / "made").exists()


ARRAYS = {
    "pickled": (hostile.pickled_npy, "pickled"),
    "a pickle": (hostile.bare_pickle, "must be a .npy file"),
    "of 8 TB": (lambda p, m: hostile.sparse(p, b"\x93NUMPY", 2**43), "at most"),
    "a device": (lambda p, m: endless(p), "is no file"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_a_hostile_array_of_a_table_is_refused(name: str, marker: Path, tmp_path: Path) -> None:
    spoil, said = ARRAYS[name]
    (tmp_path / "a.npy").touch()
    spoil(tmp_path / "a.npy", marker)
    (tmp_path / "t.csv").write_text("label,gait\na,a.npy\nb,a.npy\n")
    words = ("--table", tmp_path / "t.csv", "--array", "gait:20", "--out", tmp_path / "made")
    require_refusal(command("data", "build", *words, folder=tmp_path), "mmtune: ", said)
    assert not (tmp_path / "made").exists()
