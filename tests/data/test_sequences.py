"""Audiovisual sequences: what comes in is what comes out, and whatever is odd is one line."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.media import archives
from mmtune.data.storage.sequences import load_sequences

Arrays = dict[str, NDArray[Any]]
ROWS, STEPS = 12, 7


def made(seed: int = 0) -> Arrays:
    """Twelve sequences of three classes by three persons, with noise beyond their lengths."""
    rng = np.random.default_rng(seed)
    return {
        "frames": rng.integers(0, 256, (ROWS, STEPS, 10, 9), np.uint8),
        "mfcc": rng.normal(size=(ROWS, STEPS, 5)).astype(np.float32),
        "lengths": rng.integers(1, STEPS + 1, ROWS),
        "labels": np.arange(ROWS) % 3,
        "person": np.array([f"person {n // 4}" for n in range(ROWS)]),
    }


def write(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def complaint(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_sequences(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def test_round_trip(tmp_path: Path) -> None:
    arrays = made()
    found = load_sequences(write(tmp_path / "lips.npz", arrays))
    frames, mfcc = (found.train.banks[name].of_rows(np.arange(ROWS)) for name in ("image", "audio"))
    labels = found.train.labels
    assert (found.name, len(found.train), found.test) == ("lips", ROWS, None)
    for row, length in enumerate(arrays["lengths"]):
        np.testing.assert_array_equal(frames[row, :length], arrays["frames"][row, :length])
        np.testing.assert_array_equal(mfcc[row, :length], arrays["mfcc"][row, :length])
        assert not frames[row, length:].any()
        assert not mfcc[row, length:].any()
    np.testing.assert_array_equal(labels, arrays["labels"])
    np.testing.assert_array_equal(found.train.groups["speaker"], arrays["person"])
    assert (frames.dtype, mfcc.dtype, labels.dtype) == (np.uint8, np.float32, np.int64)


def test_digest_is_of_the_content_alone(tmp_path: Path) -> None:
    arrays = made()
    other = dict(arrays, lengths=arrays["lengths"].astype(np.uint8), labels=arrays["labels"].astype(">i2"))
    other["frames"] = np.asfortranarray(arrays["frames"] / 255.0)
    other["mfcc"] = arrays["mfcc"].astype(">f8")
    other["person"] = arrays["person"].astype("<U40")
    for row, length in enumerate(arrays["lengths"]):
        other["mfcc"][row, length:] = np.nan
    np.savez(tmp_path / "b.npz", note=np.zeros(3), **other)
    first, second = load_sequences(write(tmp_path / "a.npz", arrays)), load_sequences(tmp_path / "b.npz")
    assert first.digest == second.digest
    for name in ("frames", "mfcc", "labels", "person"):
        changed = dict(arrays, **{name: np.roll(arrays[name], 1, axis=0)})
        if name == "labels":
            assert not np.array_equal(changed[name], arrays[name])
        assert load_sequences(write(tmp_path / f"{name}.npz", changed)).digest != first.digest


def test_every_sequence_is_a_pair_of_its_own(tmp_path: Path) -> None:
    partition = load_sequences(write(tmp_path / "s.npz", dict(made(), person=np.arange(ROWS) % 4))).train
    assert partition.groups["speaker"][:5].tolist() == ["0", "1", "2", "3", "0"]
    assert partition.groups["recording"][:2].tolist() == ["0/0", "1/1"]
    assert len(set(partition.groups["recording"])) == ROWS
    assert partition.known("speaker")


def test_equal_sequences_share_a_value(tmp_path: Path) -> None:
    arrays = {name: np.concatenate([array, array]) for name, array in made().items()}
    banks = load_sequences(write(tmp_path / "s.npz", arrays)).train.banks
    for bank in banks.values():
        assert len(bank.values) == ROWS
        np.testing.assert_array_equal(bank.index, np.tile(np.arange(ROWS), 2))


def with_value(name: str, index: object, value: object) -> Arrays:
    arrays = made()
    arrays["lengths"][:] = STEPS
    arrays[name] = arrays[name].astype(object if name == "person" else arrays[name].dtype)
    arrays[name][index] = value
    if name == "person":
        arrays[name] = arrays[name].astype(str)
    return arrays


def replaced(name: str, array: object) -> Arrays:
    return dict(made(), **{name: np.asarray(array)})


FRAMES, MFCC = made()["frames"], made()["mfcc"]
BAD: dict[str, tuple[Arrays, str]] = {
    "a dimension missing": (replaced("frames", FRAMES[:, 0]), "frames must have 4 axes"),
    "no rows": ({name: array[:0] for name, array in made().items()}, "none empty"),
    "frames of 16 bits": (replaced("frames", FRAMES.astype(np.uint16)), "uint8 or floats"),
    "frames signed": (replaced("frames", FRAMES.astype(np.int8)), "uint8 or floats"),
    "frames to 255 as floats": (replaced("frames", FRAMES.astype(np.float32)), "lie in [0, 1]"),
    "frames NaN": (replaced("frames", np.where(FRAMES > 9, np.nan, 0.5)), "lie in [0, 1]"),
    "frames negative": (replaced("frames", FRAMES / 255.0 - 0.1), "lie in [0, 1]"),
    "mfcc integers": (replaced("mfcc", MFCC.astype(int)), "of floats"),
    "mfcc complex": (replaced("mfcc", MFCC.astype(complex)), "of floats"),
    "mfcc NaN": (with_value("mfcc", (3, 0, 0), np.nan), "row 3 holds NaN"),
    "mfcc infinite": (with_value("mfcc", (3, 0, 0), -np.inf), "row 3 holds NaN"),
    "mfcc too large": (replaced("mfcc", MFCC.astype(float) * 1e300), "finite in float32"),
    "mfcc of other steps": (replaced("mfcc", MFCC[:, 1:]), "begin with (12, 7)"),
    "mfcc of other rows": (replaced("mfcc", MFCC[1:]), "begin with (12, 7)"),
    "last step silent": (with_value("mfcc", (5, STEPS - 1), 0.0), "row 5 has none"),
    "last step underflows": (replaced("mfcc", MFCC.astype(float) * 1e-60), "row 0 has none"),
    "length of zero": (with_value("lengths", 4, 0), "row 4 is 0"),
    "length too long": (with_value("lengths", 4, STEPS + 1), "lengths must lie in 1..7, row 4 is 8"),
    "lengths are floats": (replaced("lengths", np.ones(ROWS)), "of integers"),
    "a label missing": (replaced("labels", np.arange(ROWS) % 3 * 2), "got 0, 2, 4"),
    "labels from one": (replaced("labels", np.arange(ROWS) % 3 + 1), "got 1, 2, 3"),
    "one label": (replaced("labels", np.zeros(ROWS, int)), "C >= 2"),
    "labels boolean": (replaced("labels", np.arange(ROWS) % 2 == 0), "of integers"),
    "labels too few": (replaced("labels", np.arange(3)), "begin with (12,)"),
    "one person": (replaced("person", ["Ada"] * ROWS), "at least 2 persons"),
    "nameless person": (with_value("person", 2, ""), "printable"),
    "person with a newline": (with_value("person", 2, "a\nb"), "row 2 holds a control character"),
    "person is no text": (replaced("person", np.full(ROWS, 0x7FFFFFFF, np.uint32).view("<U1")), "no character"),
    "person beyond Unicode": (replaced("person", np.full(ROWS, 0x110000, np.uint32).view("<U1")), "no character"),
    "persons in bytes": (replaced("person", made()["person"].astype("S")), "text or integers"),
    "structured": (replaced("labels", np.zeros(ROWS, [("a", int)])), "of integers"),
}


@pytest.mark.parametrize("case", BAD)
def test_odd_arrays_are_refused(case: str, tmp_path: Path) -> None:
    arrays, words = BAD[case]
    assert words in complaint(write(tmp_path / "odd.npz", arrays))


@pytest.mark.parametrize("name", made())
def test_every_array_must_be_there(name: str, tmp_path: Path) -> None:
    arrays = {other: array for other, array in made().items() if other != name}
    assert f"{name} once, holds it 0 times" in complaint(write(tmp_path / "s.npz", arrays))


class Bomb:
    """Unpickling this makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("unpickled"),)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("frames", "person"):
        arrays = replaced(name, np.array([Bomb()] * ROWS, dtype=object))
        assert "pickled" in complaint(write(tmp_path / "s.npz", arrays))
    assert not Path("unpickled").exists()


@pytest.mark.parametrize("text", [b"", b"frames", b"\x93NUMPY\x01\x00v\x00"])
def test_other_files_are_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    path.write_bytes(text)
    assert "complete .npz" in complaint(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "is missing" in complaint(tmp_path / "none.npz")
    assert "is no file" in complaint(tmp_path)


def test_members_named_twice_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.npz", made())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("labels.npy", b"")
    assert "labels once, holds it 2 times" in complaint(path)


def declare(path: Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
    """Rewrite one member so that its header declares a shape that its data does not have."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    members[f"{name}.npy"] = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def test_declared_sizes_are_checked_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "s.npz", made())
    monkeypatch.setattr(archives, "SMALL", 5000)
    monkeypatch.setattr(archives, "MOST_RATIO", 0)
    monkeypatch.setattr(archives, "read_array", lambda *_: pytest.fail("unpacked"))
    assert "5000 bytes at most" in complaint(path)
    declare(path, "mfcc", (ROWS, STEPS, 10**15), "<f4")
    assert "mfcc must be" in complaint(path)


def test_compressed_zeros_that_would_fill_memory(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    shape = (ROWS, STEPS, 64, 10**6)
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    np.savez(path, **{name: array for name, array in made().items() if name != "frames"})
    with zipfile.ZipFile(path, "a") as archive:
        # The directory claims the size that the header needs; the data is not there to be unpacked.
        archive.writestr("frames.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        archive.getinfo("frames.npy").file_size += ROWS * STEPS * 64 * 10**6
    assert "bytes at most" in complaint(path)


WHOLE: list[bytes] = []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 0.9999), st.integers(0, 255), st.booleans())
def test_a_damaged_file_is_refused_or_read_as_it_was(tmp_path: Path, where: float, value: int, cut: bool) -> None:
    path = tmp_path / "s.npz"
    if not WHOLE:
        WHOLE.append(write(path, made()).read_bytes())
    expected = WHOLE[0]
    at = int(where * len(expected))
    path.write_bytes(expected[:at] if cut else expected[:at] + bytes([value]) + expected[at + 1 :])
    try:
        found = load_sequences(path).digest
    except InputError:
        assert complaint(path)
        return
    path.write_bytes(expected)
    assert found == load_sequences(path).digest
