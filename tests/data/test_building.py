"""Data sets from raw files: every naming, every partition rule, every refusal."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mmtune.base.errors import InputError
from mmtune.data.audio_sources import recognise
from mmtune.data.building import build, match
from mmtune.data.dataset import Partition
from mmtune.data.digits import WORDS
from mmtune.data.store import load

WriteWav = Callable[..., Path]
Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


def write_pictures(folder: Path, digits: Digits, rows: NDArray[np.int64], named: Callable[[int], str] = str) -> None:
    for row in rows:
        path = folder / named(int(digits[1][row])) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[0][row]).save(path)


def as_speech_commands(folder: Path, write_wav: WriteWav, speakers: int = 9) -> Path:
    for word in (*WORDS, "cat"):
        for speaker in range(speakers):
            for take in range(2):
                write_wav(folder / word / f"{speaker:04x}ab_nohash_{take}.wav", rate=16000, seconds=1.0)
    return folder


def as_audio_mnist(folder: Path, write_wav: WriteWav) -> Path:
    for speaker in range(1, 8):
        for digit in range(10):
            write_wav(folder / f"{speaker:02d}" / f"{digit}_{speaker:02d}_0.wav", rate=48000, seconds=0.6)
    return folder


def as_labelled(folder: Path, write_wav: WriteWav) -> Path:
    for digit in range(10):
        for take in range(4):
            write_wav(folder / (WORDS[digit] if digit % 2 else str(digit)) / f"take {take}.WAV", channels=2)
    return folder


def assert_paired_lawfully(part: Partition) -> None:
    """Every clip once before any twice, and always with its own digit."""
    for digit in range(10):
        _, times = np.unique(part.clip_index[part.labels == digit], return_counts=True)
        assert times.max() - times.min() <= 1
    assert len(np.unique(part.clip_index)) == len(part.clips)


def test_fsdd_with_mnist(idx_folder: Path, fsdd_folder: Path, tmp_path: Path, digits: Digits) -> None:
    made = build(idx_folder, fsdd_folder, tmp_path / "set", seed=3)
    loaded = load(tmp_path / "set")
    assert loaded.digest == made.digest
    assert loaded.name == "set"
    assert (len(loaded.train), len(loaded.test)) == (120, 20)
    assert np.array_equal(loaded.test.images, digits[0][np.arange(140) % 7 == 0])
    assert np.array_equal(loaded.train.labels, digits[1][np.arange(140) % 7 != 0])
    for part, indices in ((loaded.train, {"5", "6"}), (loaded.test, {"0", "4"})):
        assert_paired_lawfully(part)
        said, speaker, index = (np.array(x) for x in zip(*(c.split("_") for c in part.clip_id), strict=True))
        assert set(index) <= indices
        assert np.array_equal(part.speaker, speaker)
        assert np.array_equal(said[part.clip_index].astype(int), part.labels)
    facts = loaded.provenance["audio"]
    assert (facts["naming"], facts["train"], facts["test"], facts["speakers"]) == ("FSDD", 40, 40, 2)
    assert loaded.provenance["images"]["naming"] == "IDX"
    clips = loaded.train.clips
    assert (clips.min(), clips.max()) == (0, 1)  # fitted on the training clips alone


def test_the_recordings_folder_itself_and_plain_idx_do_as_well(
    idx_folder: Path, fsdd_folder: Path, tmp_path: Path
) -> None:
    first = build(idx_folder, fsdd_folder, tmp_path / "a")
    for path in idx_folder.iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert build(idx_folder, fsdd_folder / "recordings", tmp_path / "b").digest == first.digest
    assert build(idx_folder, fsdd_folder, tmp_path / "c", seed=1).digest != first.digest


def test_speech_commands_by_its_list(idx_folder: Path, tmp_path: Path, write_wav: WriteWav) -> None:
    audio = as_speech_commands(tmp_path / "sc", write_wav, speakers=3)
    listed = [f"{word}/0001ab_nohash_{take}.wav" for word in (*WORDS, "cat") for take in range(2)]
    (audio / "testing_list.txt").write_text("\n".join(listed) + "\n")
    made = build(idx_folder, audio, tmp_path / "set")
    assert set(made.test.speaker) == {"0001ab"}
    assert set(made.train.speaker) == {"0000ab", "0002ab"}
    assert made.provenance["audio"]["naming"] == "Speech Commands"
    assert made.provenance["audio"]["ignored"] == 6
    assert made.provenance["audio"]["partition"] == "its own"


@pytest.mark.parametrize("source", [as_speech_commands, as_audio_mnist])
def test_without_a_list_the_test_has_speakers_of_its_own(
    idx_folder: Path, tmp_path: Path, write_wav: WriteWav, source: Callable[..., Path]
) -> None:
    audio = source(tmp_path / "audio", write_wav)
    made = build(idx_folder, audio, tmp_path / "set", seed=5)
    assert not set(made.train.speaker) & set(made.test.speaker)
    assert made.train.speakers_known
    for part in (made.train, made.test):
        assert_paired_lawfully(part)
    assert made.provenance["audio"]["partition"] == "speaker-disjoint, seed 5"
    assert build(idx_folder, audio, tmp_path / "again", seed=5).digest == made.digest


def test_labelled_folders_of_both(tmp_path: Path, write_wav: WriteWav, digits: Digits) -> None:
    write_pictures(tmp_path / "images", digits, np.arange(140), lambda digit: WORDS[digit])
    audio = as_labelled(tmp_path / "audio", write_wav)
    made = build(tmp_path / "images", audio, tmp_path / "set")
    assert (len(made.train), len(made.test)) == (120, 20)
    assert np.all(np.bincount(made.test.labels) == 2)
    assert not made.train.speakers_known
    assert not set(made.train.clip_id) & set(made.test.clip_id)
    assert made.provenance["audio"]["naming"] == "label/*.wav"
    known = {image.tobytes(): label for image, label in zip(*digits, strict=True)}
    for image, label in zip(made.train.images, made.train.labels, strict=True):
        assert known[image.tobytes()] == label


def test_pictures_keep_their_own_partition(fsdd_folder: Path, tmp_path: Path, digits: Digits) -> None:
    test = np.arange(140) % 2 == 0
    write_pictures(tmp_path / "images" / "train", digits, np.flatnonzero(~test))
    write_pictures(tmp_path / "images" / "test", digits, np.flatnonzero(test))
    made = build(tmp_path / "images", fsdd_folder, tmp_path / "set")
    assert (len(made.train), len(made.test)) == (70, 70)
    assert {i.tobytes() for i in made.test.images} == {i.tobytes() for i in digits[0][test]}


def test_more_recordings_than_images_are_left_out() -> None:
    rng = np.random.default_rng(0)
    index = match(np.arange(30) % 10, np.arange(500) % 10, rng)
    assert len(np.unique(index)) == 30
    assert np.array_equal(index % 10, np.arange(30) % 10)
    few = match(np.arange(230) % 10, np.arange(50) % 10, rng)
    assert set(np.bincount(few)) == {4, 5}


IDX_FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("train-labels-idx1-ubyte.gz", lambda p: p.unlink(), "must have train-labels-idx1-ubyte or"),
    "misnamed": ("t10k-images-idx3-ubyte.gz", lambda p: p.rename(p.with_name("test.gz")), "t10k-images-idx3-ubyte"),
    "cut": ("train-images-idx3-ubyte.gz", lambda p: p.write_bytes(p.read_bytes()[:-900]), "must be a whole gzip"),
    "no gzip": ("train-images-idx3-ubyte.gz", lambda p: p.write_bytes(b"x" * 99), "must be a whole gzip"),
    "empty": ("train-images-idx3-ubyte.gz", lambda p: p.write_bytes(b""), "header of 16 bytes, has 0"),
    "flipped": (
        "train-images-idx3-ubyte.gz",
        lambda p: p.write_bytes(p.read_bytes()[:-8] + bytes([p.read_bytes()[-8] ^ 1]) + p.read_bytes()[-7:]),
        "must be a whole gzip",
    ),
    "magic": (
        "train-images-idx3-ubyte.gz",
        lambda p: p.write_bytes(gzip.compress(b"\0\0\x08\x01" + gzip.decompress(p.read_bytes())[4:])),
        "magic number must be 2051, got 2049",
    ),
    "short": (
        "t10k-labels-idx1-ubyte.gz",
        lambda p: p.write_bytes(gzip.compress(gzip.decompress(p.read_bytes())[:-3])),
        "must hold 20 bytes after its header, has 17",
    ),
    "long": (
        "t10k-labels-idx1-ubyte.gz",
        lambda p: p.write_bytes(gzip.compress(gzip.decompress(p.read_bytes()) + b"\0")),
        "must hold 20 bytes after its header, has more",
    ),
    "label 10": (
        "train-labels-idx1-ubyte.gz",
        lambda p: p.write_bytes(gzip.compress(gzip.decompress(p.read_bytes())[:-1] + b"\x0a")),
        "labels must lie in 0..9, got 10",
    ),
    "huge": (
        "train-images-idx3-ubyte.gz",
        lambda p: p.write_bytes(gzip.compress(b"\0\0\x08\x03" + b"\0\xff\xff\xff" * 3)),
        "must hold items of shape (28, 28)",
    ),
    "no nines": (
        "train-labels-idx1-ubyte.gz",
        lambda p: p.write_bytes(gzip.compress(gzip.decompress(p.read_bytes()).replace(b"\x09", b"\x08"))),
        "every digit must have training images",
    ),
}


@pytest.mark.parametrize("fault", IDX_FAULTS)
def test_broken_mnist_is_refused(idx_folder: Path, fsdd_folder: Path, tmp_path: Path, fault: str) -> None:
    name, spoil_file, said = IDX_FAULTS[fault]
    spoil_file(idx_folder / name)
    assert_refused(idx_folder, fsdd_folder, tmp_path / "set", said, str(idx_folder))


def assert_refused(images: Path, audio: Path, out: Path, *said: str) -> None:
    with pytest.raises(InputError) as caught:
        build(images, audio, out)
    line = str(caught.value)
    assert "\n" not in line
    for part in said:
        assert part in line
    assert not out.exists()
    assert not list(out.parent.glob(".*"))


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "is empty"), (b"noise" * 99, "can be decoded"), (None, "must be complete")],
    ids=["empty", "not audio", "cut"],
)
def test_a_bad_recording_is_named(
    idx_folder: Path, fsdd_folder: Path, tmp_path: Path, data: bytes | None, said: str
) -> None:
    bad = fsdd_folder / "recordings" / "7_bob_5.wav"
    bad.write_bytes(bad.read_bytes()[:700] if data is None else data)
    assert_refused(idx_folder, fsdd_folder, tmp_path / "set", said, "7_bob_5.wav")


def test_a_digit_nobody_says_is_refused(idx_folder: Path, fsdd_folder: Path, tmp_path: Path) -> None:
    for path in (fsdd_folder / "recordings").glob("4_*_[56].wav"):
        path.unlink()
    assert_refused(idx_folder, fsdd_folder, tmp_path / "set", "training recordings", "4 (four) has none")
    for path in (fsdd_folder / "recordings").glob("4_*"):
        path.unlink()
    assert_refused(idx_folder, fsdd_folder, tmp_path / "set", "must have recordings, 4 (four) has none")


def test_a_file_named_otherwise_is_refused(idx_folder: Path, fsdd_folder: Path, tmp_path: Path) -> None:
    shutil.copy(fsdd_folder / "recordings" / "7_bob_5.wav", fsdd_folder / "recordings" / "seven.wav")
    assert_refused(idx_folder, fsdd_folder, tmp_path / "set", "seven.wav", "named as the other recordings of FSDD")


def test_folders_that_hold_nothing_of_use_are_refused(idx_folder: Path, fsdd_folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_refused(empty, fsdd_folder, tmp_path / "set", "IDX files or pictures in label/*.png")
    assert_refused(idx_folder, empty, tmp_path / "set", "must be named as in FSDD")
    assert_refused(tmp_path / "none", fsdd_folder, tmp_path / "set", "is missing")
    assert_refused(idx_folder, tmp_path / "none", tmp_path / "set", "is missing")


def test_a_bad_picture_is_named(fsdd_folder: Path, tmp_path: Path, digits: Digits) -> None:
    write_pictures(tmp_path / "images", digits, np.arange(140))
    (tmp_path / "images" / "3" / "x.png").write_bytes(b"no picture")
    assert_refused(tmp_path / "images", fsdd_folder, tmp_path / "set", "x.png", "must be a whole PNG or JPEG")


def test_what_is_no_data_set_is_never_replaced(idx_folder: Path, fsdd_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="something else"):
        build(idx_folder, fsdd_folder, idx_folder)
    assert len(list(idx_folder.iterdir())) == 4
    out = tmp_path / "set"
    first = build(idx_folder, fsdd_folder, out)
    assert build(idx_folder, fsdd_folder, out, seed=1).digest != first.digest


def test_namings_are_told_apart(tmp_path: Path, write_wav: WriteWav, fsdd_folder: Path) -> None:
    assert recognise(fsdd_folder)[0] == "FSDD"
    assert recognise(as_audio_mnist(tmp_path / "am" / "data", write_wav).parent)[0] == "AudioMNIST"
    assert recognise(as_speech_commands(tmp_path / "sc", write_wav, 1))[0] == "Speech Commands"
    assert recognise(as_labelled(tmp_path / "l", write_wav))[0] == "label/*.wav"


@pytest.mark.slow
def test_mnist_and_fsdd_as_they_are(tmp_path: Path) -> None:
    """The real thing: 60,000 + 10,000 pairs in less than 1.5 GB."""
    root = os.environ.get("MMTUNE_REAL_DATA")
    if not root:
        pytest.skip("MMTUNE_REAL_DATA names no folder with mnist/ and fsdd/")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from mmtune.data.building import build\n"
        "made = build(Path(sys.argv[1]) / 'mnist', Path(sys.argv[1]) / 'fsdd', Path(sys.argv[2]))\n"
        "print(len(made.train), len(made.test), len(made.train.clips), len(made.test.clips))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, root, str(tmp_path / "set")]
    counts, kilobytes = subprocess.run(command, env=environment, capture_output=True, check=True).stdout.splitlines()
    assert counts.split() == [b"60000", b"10000", b"2700", b"300"]
    assert int(kilobytes) < 1.5e6
