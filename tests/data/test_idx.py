"""IDX files by all of MNIST's names, of any labels and sizes, and every way in which they can be broken."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filesets import random_idx, refusal, write_idx

from mmtune.data.building.folders import read_pictures
from mmtune.data.building.sources import How, Source
from mmtune.data.forms import Digit, Form, Picture

NAMES = {
    "plain": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    "gzip": (
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ),
    "dots": ("train-images.idx3-ubyte", "train-labels.idx1-ubyte", "t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"),
    "torchvision": tuple(
        f"MNIST/raw/{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ),
    "raw": tuple(
        f"raw/{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ),
    "kannada": (
        "X_kannada_MNIST_train-idx3-ubyte.gz",
        "y_kannada_MNIST_train-idx1-ubyte.gz",
        "X_kannada_MNIST_test-idx3-ubyte.gz",
        "y_kannada_MNIST_test-idx1-ubyte.gz",
    ),
    "prefixed": tuple(
        f"X_kannada_MNIST_{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ),
    "emnist": tuple(
        f"emnist-digits-{part}-{kind}-ubyte.gz" for part in ("train", "test") for kind in ("images-idx3", "labels-idx1")
    ),
}
TRAIN, TEST = random_idx(list(range(10)) * 3), random_idx(list(range(10)), seed=1)


def written(folder: Path, names: tuple[str, ...], *arrays: np.ndarray) -> Path:
    for name, array in zip(names, arrays or (*TRAIN, *TEST), strict=True):
        write_idx(folder / name, array)
    return folder


def read(folder: Path, form: Form | None = None) -> tuple[Source, Form]:
    return read_pictures(folder, form, (), How(), lambda what, done, total: None)


@pytest.mark.parametrize("names", NAMES)
def test_every_common_name_is_known(tmp_path: Path, names: str) -> None:
    source, form = read(written(tmp_path, NAMES[names]))
    assert form == Digit()
    assert source.classes == tuple("0123456789")
    assert source.test is not None
    assert np.array_equal(source.rows.banks["image"].values, np.concatenate([TRAIN[0], TEST[0]]))
    assert np.array_equal(source.rows.labels, np.concatenate([TRAIN[1], TEST[1]]))
    assert np.array_equal(source.test, np.arange(40) >= 30)
    assert source.facts["ignored"] == 0


@pytest.mark.parametrize("sides", [(28, 28), (8, 20), (1, 1), (64, 64)])
def test_any_size_and_any_labels_are_taken_as_they_are(tmp_path: Path, sides: tuple[int, int]) -> None:
    labels = [7, 255, 40, 7, 255, 40]
    source, form = read(written(tmp_path, NAMES["plain"][:2], *random_idx(labels, sides)))
    assert form == Picture(height=sides[0], width=sides[1])
    assert source.classes == ("7", "40", "255")
    assert [source.classes[label] for label in source.rows.labels] == list(map(str, labels))
    assert source.test is None
    asked = Picture(height=2, width=2)
    assert "taken as they are" in refusal(lambda: read(tmp_path, asked))


def test_labels_of_emnist_are_letters(tmp_path: Path) -> None:
    names = tuple(f"emnist-letters-train-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
    source, _ = read(written(tmp_path, names, *random_idx([1, 26, 2])))
    assert source.classes == ("A", "B", "Z")
    assert source.rows.labels.tolist() == [0, 2, 1]
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 97 65\n2 98 66\n26 122 90\n")
    assert read(tmp_path)[0].classes == ("a", "b", "z")
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 x\n")
    assert "mapping.txt: each line must be" in refusal(lambda: read(tmp_path))


def test_what_is_there_twice_is_read_once_and_two_sets_are_refused(tmp_path: Path) -> None:
    written(written(tmp_path, NAMES["plain"]), NAMES["gzip"])
    assert len(read(tmp_path)[0].rows) == 40
    assert read(tmp_path)[0].facts["ignored"] == 4
    written(tmp_path, NAMES["emnist"])
    assert "must have one set of IDX files, has MNIST, emnist-digits" in refusal(lambda: read(tmp_path))


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


FAULTS: dict[str, tuple[int, Callable[[Path], object], str]] = {
    "missing": (1, Path.unlink, "must have the labels of the train partition"),
    "cut": (0, lambda path: path.write_bytes(path.read_bytes()[:-900]), "must be a whole gzip"),
    "no gzip": (0, lambda path: path.write_bytes(b"x" * 99), "must be a whole gzip"),
    "empty": (0, lambda path: path.write_bytes(b""), "header of 16 bytes, has 0"),
    "magic": (0, rewritten(lambda data: b"\0\0\x08\x01" + data[4:]), "magic number must be 2051, got 2049"),
    "short": (3, rewritten(lambda data: data[:-3]), "must hold 10 bytes after its header, has 7"),
    "long": (3, rewritten(lambda data: data + b"\0"), "must hold 10 bytes after its header, has more"),
    "huge": (0, rewritten(lambda data: b"\0\0\x08\x03" + b"\0\xff\xff\xff" * 3), "must hold items of 1 to 4096"),
    "bomb": (0, rewritten(lambda data: b"\0\0\x08\x03\0\x0f\xff\xff" + data[8:]), "can hold"),
    "fewer": (1, rewritten(lambda data: data[:7] + b"\x1d" + data[8:-1]), "as many labels as there are images (30)"),
    "other size": (
        2,
        rewritten(lambda data: data[:11] + b"\x0e" + data[12:15] + b"\x38" + data[16:]),
        "must be (28, 28) as in training",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_files_are_refused(tmp_path: Path, fault: str) -> None:
    number, spoil, said = FAULTS[fault]
    written(tmp_path, NAMES["gzip"])
    spoil(tmp_path / NAMES["gzip"][number])
    line = refusal(lambda: read(tmp_path))
    assert said in line
    assert str(tmp_path) in line
