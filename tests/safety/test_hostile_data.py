"""Hostile files where data sets are read and built: one line, exit code 2, little memory and time, no code run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile
import numpy as np
import pytest
from cases import case, endless, fifo, npz_running, outside, running
from children import call, command, names, require_refusal
from world import write_fsdd, write_idx, write_khacef

from mmtune.data.asking import Folders
from mmtune.data.building import build
from mmtune.data.sequences import load_sequences
from mmtune.data.store import MANIFEST, load

VALUES, INDEX = "train/image.values.npy", "train/audio.index.npy"


def other_pairs(path: Path) -> None:
    """Values that are not those of the manifest's digest."""
    np.save(path, np.maximum(np.load(path), 1))


def far_outside(path: Path) -> None:
    hostile.link_out(path, path.parents[2] / "outside.npy")


def replaced(old: str, new: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(path.read_text().replace(old, new))


DATA = {
    "pickled images": running("data_wr_train.npy", hostile.pickled_npy, "pickled"),
    "pickled labels": running("labels_test.npy", hostile.pickled_npy, "pickled"),
    "a pickle for audio": running("data_sp_train.npy", hostile.bare_pickle, "must be a .npy file"),
    "torch for audio": running("data_sp_test.npy", hostile.torch_pt, "must be a .npy file"),
    "pickled speakers": running("train/speaker.group.npy", hostile.pickled_npy, "pickled"),
    "torch for a bank": running(VALUES, hostile.torch_pt, "must be a .npy file"),
    "a pickle for a bank": running(INDEX, hostile.bare_pickle, "must be a .npy file"),
    "a pickle for the manifest": running(MANIFEST, hostile.bare_pickle, "must be JSON"),
    "other pairs": case(VALUES, other_pairs, "digest must be that of the content"),
    "a bank of 8 TB": case(
        VALUES, lambda p: hostile.sparse(p, hostile.header((2**43 // 784, 28, 28), "|u1"), 2**43), "must be"
    ),
    "an index of 40 GB": case(
        INDEX, lambda p: hostile.sparse(p, hostile.header((5 * 10**9,), "<i8"), 128 + 40 * 10**9), "must be"
    ),
    "a header of a GiB": case("data_wr_train.npy", hostile.long_header_npy, "must be a valid .npy"),
    "a file of 8 TB": case("data_wr_train.npy", lambda p: hostile.sparse(p, b"\x93NUMPY", 2**43), "at most"),
    "a GiB of labels": case(
        "labels_train.npy",
        lambda p: hostile.sparse(p, hostile.header((2**30 - 128,), "|u1"), 2**30),
        "must have as many rows as labels_train.npy (1073741696)",
    ),
    "deep JSON": case(MANIFEST, hostile.deep_json, "must be JSON"),
    "JSON of a GiB": case(MANIFEST, lambda p: hostile.sparse(p, b"{", 2**30), "at most"),
    "a pipe": case("data_sp_train.npy", fifo, "missing data_sp_train.npy"),
    "a pipe for a bank": case(VALUES, fifo, "is no file"),
    "a device": case(MANIFEST, endless, "must lie in its own folder"),
    "a link out": case("labels_train.npy", outside, "must lie in its own folder"),
    "a link out for a bank": case(VALUES, far_outside, "must lie in its own folder"),
    "a link out for a partition": case("train", outside, "must lie in its own folder"),
    "a link out for the manifest": case(MANIFEST, outside, "must lie in its own folder"),
    "a name that leads out": case(MANIFEST, replaced('"name": "set"', '"name": "../../evil"'), "without /"),
    "a bank that leads out": case(MANIFEST, replaced('"image": {', '"../../x": {'), "must have a name such as image"),
    "a group that leads out": case(MANIFEST, replaced('"speaker"', '"../../x"'), "must have a name such as speaker"),
    "a name of control characters": case(MANIFEST, replaced('"name": "set"', '"name": "a\\u001b[2J"'), "printable"),
}
OURS = (MANIFEST, "train")


@pytest.fixture(scope="session")
def idx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("sources") / "idx")


@pytest.fixture(scope="session")
def fsdd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fsdd(tmp_path_factory.mktemp("sources") / "fsdd")


@pytest.fixture(scope="session")
def built(idx: Path, fsdd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(Folders(idx, fsdd), tmp_path_factory.mktemp("built") / "set").folder


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """The file that a payload would touch; no test may end with it there."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "hostile code ran"


@pytest.fixture
def data(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "set"))


@pytest.fixture
def khacef(data: Path) -> Path:
    """The same pairs in the six files that Khacef published, in place of ours."""
    own = load(data)
    made = write_khacef(data.with_name("khacef"), train=own.train, test=own.require_test())
    shutil.rmtree(data)
    return made.rename(data)


@pytest.mark.parametrize("name", DATA)
def test_a_hostile_data_set_is_refused(
    name: str, data: Path, request: pytest.FixtureRequest, marker: Path, tmp_path: Path
) -> None:
    own = DATA[name]
    if not own.place.startswith(OURS):
        request.getfixturevalue("khacef")
    own.spoil(data / own.place, marker)
    (tmp_path / "here").mkdir()
    before = names(tmp_path)
    ran = command("data", "info", data, folder=tmp_path / "here")
    require_refusal(ran, "mmtune: ", own.said)
    assert names(tmp_path) == before


def test_a_data_set_may_itself_be_a_link(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(data)
    assert load(tmp_path / "mine").folder == data
    (data / VALUES).rename(data / "train" / "kept")
    (data / VALUES).symlink_to("kept")
    assert load(data)


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    require_refusal(command("data", "info", tmp_path / "a", folder=tmp_path), "must be a folder")


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
    "a pickle for a recording": running("fsdd/recordings/0_ann_0.wav", hostile.bare_pickle, "WAV or FLAC"),
    "a WAV of 4 GB": case("fsdd/recordings/0_ann_0.wav", lambda p: hostile.wav(p, riff=2**32 - 16), "must be complete"),
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
