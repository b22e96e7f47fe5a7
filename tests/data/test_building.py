"""Data sets from folders: any classes, every partition rule, pairs, doubled and broken files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from filesets import ARABIC, WORDS, pictures, random_idx, recordings, refusal, write_idx, write_picture, write_wav
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mmtune.base.errors import InputError
from mmtune.data.building import reading
from mmtune.data.building.asking import Folders, table_of
from mmtune.data.building.build import build
from mmtune.data.building.pairing import match
from mmtune.data.building.sources import How
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.forms import Digit, LogMel, Mfcc, Picture, Waveform
from mmtune.data.identity import shared
from mmtune.data.info import found
from mmtune.data.media.pictures import read_digit, read_picture
from mmtune.data.protocols import leakage, split
from mmtune.data.storage.store import load

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
PROTOCOLS = ("as_reported", "clip_disjoint", "speaker_disjoint", "disjoint:content")
FORTY = [f"{first}{second}" for first in ("bar", "cam", "den", "fol", "gus") for second in "abcdefgh"]


def mnist(folder: Path, digits: Digits) -> Path:
    """The digits as MNIST has them, 120 + 20."""
    test = np.arange(len(digits[1])) % 7 == 0
    for stem, rows in (("train", ~test), ("t10k", test)):
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", digits[0][rows])
        write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", digits[1][rows])
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> Path:
    return mnist(tmp_path_factory.mktemp("mnist"), digits)


def parts_of(made: Dataset) -> tuple[Partition, Partition]:
    return made.train, made.require_test()


def assert_paired_lawfully(part: Partition) -> None:
    """Every recording once before any twice, always one of the row's own class, and equal pictures with one."""
    index = part.banks["audio"].index
    assert np.array_equal(index, part.banks["waveform"].index)
    for label in np.unique(part.labels):
        _, first = np.unique(part.banks["image"].index[part.labels == label], return_index=True)
        _, times = np.unique(index[part.labels == label][first], return_counts=True)
        assert times.max() - times.min() <= 1


def test_fsdd_with_mnist(images: Path, fsdd: Path, tmp_path: Path, digits: Digits) -> None:
    made = build(Folders(images, fsdd), tmp_path / "set", How(seed=3))
    loaded = load(tmp_path / "set")
    train, test = parts_of(loaded)
    assert (loaded.digest, loaded.name, loaded.classes) == (made.digest, "set", tuple("0123456789"))
    assert (len(train), len(test)) == (120, 20)
    assert np.array_equal(test.banks["image"].of_rows(np.arange(20)), digits[0][::7])
    assert np.array_equal(test.labels, digits[1][::7])
    for part, indices in ((train, {"5", "6"}), (test, {"0", "4"})):
        assert_paired_lawfully(part)
        said, speaker, index = np.array([name.split("_") for name in part.groups["recording"]]).T
        assert set(index) <= indices
        assert np.array_equal(part.groups["speaker"], speaker)
        assert np.array_equal(said.astype(int), part.labels)
    features = train.banks["audio"].values
    assert (features.min(), features.max()) == (0, 1)  # fitted on the training recordings alone
    assert isinstance(loaded.forms["audio"], Mfcc)
    raw = loaded.forms["audio"].of_waves(test.banks["waveform"].values)
    assert np.allclose(loaded.forms["audio"].scaled(raw), test.banks["audio"].values)


def test_the_same_files_are_the_same_set(images: Path, fsdd: Path, tmp_path: Path) -> None:
    first = build(Folders(images, fsdd), tmp_path / "a")
    assert build(Folders(images, fsdd / "recordings"), tmp_path / "b").digest == first.digest
    assert build(Folders(images, fsdd), tmp_path / "c", How(seed=1)).digest != first.digest


def test_forty_words_with_pictures_of_letters(tmp_path: Path) -> None:
    pictures(tmp_path / "images", [word.title() for word in FORTY], each=3, size=(20, 24))
    recordings(tmp_path / "audio", [f"{who}/{word}_{turn}.flac" for word in FORTY for who in "abc" for turn in (1, 2)])
    made = build(Folders(tmp_path / "images", tmp_path / "audio"), tmp_path / "set")
    assert made.classes == tuple(word.title() for word in FORTY)
    assert made.forms["image"] == Picture(height=20, width=24)
    assert sum(map(len, parts_of(made))) == 120
    for part in parts_of(made):
        assert set(part.labels) == set(range(40))
        assert_paired_lawfully(part)
        said = [name.split("/")[1].split("_")[0].title() for name in part.groups["recording"]]
        assert said == [made.classes[label] for label in part.labels]
    assert not set(made.train.groups["speaker"]) & set(made.require_test().groups["speaker"])


@pytest.mark.parametrize(
    "spell", ["0{}".format, "digit_{}".format, lambda d: WORDS[d].title(), ARABIC.__getitem__], ids=range(4)
)
def test_digits_by_any_name_are_the_same_digits(tmp_path: Path, digits: Digits, spell: Callable[[int], str]) -> None:
    made = []
    for name, own in (("plain", str), ("other", spell)):
        for row, digit in enumerate(digits[1].tolist()):
            path = tmp_path / name / "images" / own(digit) / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(digits[0][row]).save(path)
            if row % 2:
                write_wav(tmp_path / name / "audio" / own(digit) / f"{row}.wav.wav", str(row))
        made.append(build(Folders(tmp_path / name / "images", tmp_path / name / "audio"), tmp_path / name / "set"))
    assert made[0].classes == made[1].classes == tuple("0123456789")
    assert made[1].forms["image"] == Digit()
    for ours, theirs in zip(*map(parts_of, made), strict=True):
        assert np.array_equal(np.sort(ours.labels), np.sort(theirs.labels))
        shown = [{v.tobytes() for v in part.banks["image"].values} for part in (ours, theirs)]
        assert len(shown[0]) == len(shown[1])
    assert "speaker_disjoint is not possible" in "\n".join(found(made[1]))


def test_letters_with_spoken_letters(tmp_path: Path) -> None:
    labels = [1, 2, 3] * 14
    for kind, array in zip(("images-idx3", "labels-idx1"), random_idx(labels), strict=True):
        write_idx(tmp_path / "images" / f"emnist-letters-train-{kind}-ubyte.gz", array)
    recordings(tmp_path / "audio", [f"{letter}/{who}.wav" for letter in "abcd" for who in range(9)])
    made = build(Folders(tmp_path / "images", tmp_path / "audio"), tmp_path / "set")
    assert made.classes == ("A", "B", "C")
    assert made.provenance["audio"]["other_classes"] == {"d": 9}
    assert (len(made.train), len(made.require_test())) == (36, 6)


def test_words_that_no_picture_shows_are_left_out_and_pictures_without_words_are_refused(
    images: Path, tmp_path: Path
) -> None:
    names = [f"{word}/{who:04x}ab_nohash_0.wav" for word in (*WORDS, "cat") for who in range(9)]
    recordings(tmp_path / "audio", names)
    made = build(Folders(images, tmp_path / "audio"), tmp_path / "set")
    assert made.provenance["audio"]["other_classes"] == {"cat": 9}
    assert made.classes == tuple("0123456789")
    alone = build(Folders(audio=tmp_path / "audio"), tmp_path / "alone")
    assert alone.classes == tuple(sorted((*WORDS, "cat")))
    assert list(alone.forms) == ["audio", "waveform", "speech"]
    shutil.rmtree(tmp_path / "audio" / "four")
    assert "none are of 4" in refusal(lambda: build(Folders(images, tmp_path / "audio"), tmp_path / "no"))


@pytest.mark.parametrize("kind", ["images", "audio"])
def test_one_folder_makes_a_set_of_one_modality(tmp_path: Path, kind: str, fsdd: Path) -> None:
    own = fsdd if kind == "audio" else pictures(tmp_path / "images", FORTY[:3], size=(9, 9), colour=True)
    made = build(Folders(**{kind: own}), tmp_path / "set")
    if kind == "images":
        assert made.forms == {"image": Picture(height=9, width=9, colour=True)}
        known = {read_picture(path, 9, 9, True).tobytes(): path.parent.name for path in own.rglob("*.png")}
        for part in parts_of(made):
            values = part.banks["image"].of_rows(np.arange(len(part)))
            assert [known[v.tobytes()] for v in values] == [made.classes[label] for label in part.labels]
    else:
        assert (len(made.train), len(made.require_test())) == (40, 40)


def test_forms_that_are_asked_for(tmp_path: Path, fsdd: Path) -> None:
    write_picture(pictures(tmp_path / "images", ["a", "b"]) / "a" / "large.png", "a", size=(300, 40))
    assert build(Folders(tmp_path / "images"), tmp_path / "set").forms["image"] == Picture(height=32, width=32)
    asked = Folders(tmp_path / "images", image_form="10x12:rgb")
    assert build(asked, tmp_path / "set").train.banks["image"].values.shape[1:] == (3, 10, 12)
    heard = Folders(audio=fsdd, audio_forms=("logmel:0.5s", "mfcc:0.5", "waveform:0.5"))
    made = build(heard, tmp_path / "heard")
    assert list(made.forms) == ["audio", "audio_mfcc", "waveform"]
    assert isinstance(made.forms["audio"], LogMel)
    assert made.forms["waveform"] == Waveform(seconds=0.5)
    assert abs(made.train.banks["audio"].values.mean()) < 0.1


def test_pictures_keep_their_own_partition(fsdd: Path, tmp_path: Path, digits: Digits) -> None:
    test = np.arange(140) % 2 == 0
    for row in range(140):
        path = tmp_path / "images" / ("test" if test[row] else "train") / str(digits[1][row]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[0][row]).save(path)
    made = build(Folders(tmp_path / "images", fsdd), tmp_path / "set")
    assert (len(made.train), len(made.require_test())) == (70, 70)
    values = made.require_test().banks["image"].values
    assert {image.tobytes() for image in values} == {image.tobytes() for image in digits[0][test]}


@pytest.mark.parametrize("doubled", ["images", "audio"])
def test_with_every_file_there_twice_nothing_leaks(tmp_path: Path, doubled: str) -> None:
    pictures(tmp_path / "images", FORTY[:4], each=14)
    recordings(tmp_path / "audio", [f"{w}/{who}_nohash_{n}.wav" for w in FORTY[:4] for who in "abcdef" for n in (0, 1)])
    once = build(Folders(tmp_path / "images", tmp_path / "audio"), tmp_path / "once")
    for path in sorted((tmp_path / doubled).rglob("*.*")):
        who, dash, rest = path.stem.partition("_")
        shutil.copy(path, path.with_name(f"{who}{dash}{rest}7{path.suffix}"))
    made = build(Folders(tmp_path / "images", tmp_path / "audio"), tmp_path / "twice")
    train, test = parts_of(made)
    assert (
        made.provenance[doubled]["equal"] == sum(len(p.banks["image"].values) for p in (train, test))
        or doubled == "audio"
    )
    for bank in ("image", "audio", "waveform"):
        values = [{value.tobytes() for value in part.banks[bank].values} for part in (train, test)]
        assert not values[0] & values[1]
        assert len(values[0]) == len(train.banks[bank].values)
    assert sum(len(p.banks["waveform"].values) for p in (train, test)) == sum(
        len(p.banks["waveform"].values) for p in parts_of(once)
    )
    for protocol in PROTOCOLS:
        shares = leakage(train, split(train, protocol, 0))
        assert shares["equal image"] == 0
        if protocol != "as_reported":
            assert (shares["recording"], shares["equal audio"], shares["equal waveform"]) == (0, 0, 0)
    assert leakage(train, split(train, "speaker_disjoint", 0))["speaker"] == 0


def test_what_the_test_has_is_left_out_of_training(tmp_path: Path, fsdd: Path) -> None:
    own = shutil.copytree(fsdd, tmp_path / "fsdd") / "recordings"
    for digit in range(10):
        shutil.copy(own / f"{digit}_ann_0.wav", own / f"{digit}_ann_9.wav")
    made = build(Folders(audio=own), tmp_path / "set")
    assert made.provenance["audio"]["left_out"] == 10
    assert (len(made.train), len(made.require_test())) == (40, 40)
    said = "\n".join(found(made))
    assert "10 left out of training, as their content is in the test too" in said
    assert "leakage     0 of 40 test rows" in said


def test_equal_pictures_of_two_classes_are_paired_by_their_class(tmp_path: Path) -> None:
    pictures(tmp_path / "images", ["a", "b"], each=20)
    for turn in range(8):
        shutil.copy(tmp_path / "images" / "a" / f"{turn}.png", tmp_path / "images" / "b" / f"a{turn}.png")
    recordings(tmp_path / "audio", [f"{label}/{turn}.wav" for label in "ab" for turn in range(20)])
    made = build(Folders(tmp_path / "images", tmp_path / "audio"), tmp_path / "set")
    assert made.provenance["images"]["of_two_classes"] == 8
    for part in parts_of(made):
        assert [name[0] for name in part.groups["recording"]] == [made.classes[label] for label in part.labels]


def test_another_corpus_is_the_test(images: Path, fsdd: Path, tmp_path: Path, digits: Digits) -> None:
    recordings(tmp_path / "other", [f"zed/{word}_{turn}.wav" for word in (*WORDS, "yes") for turn in range(3)])
    for row in range(0, 140, 2):
        path = tmp_path / "drawn" / WORDS[digits[1][row]] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[0][row]).save(path)
    made = build(Folders(images, fsdd, tmp_path / "drawn", tmp_path / "other"), tmp_path / "set")
    train, test = parts_of(made)
    assert set(test.groups["speaker"]) == {"zed"}
    assert set(train.groups["speaker"]) == {"ann", "bob"}
    assert (len(train), len(test)) == (70, 70)  # what is in both is for the test
    assert made.provenance["audio"]["test_source"]["other_classes"] == {"yes": 3}
    only = build(Folders(images, fsdd, test_audio=tmp_path / "other"), tmp_path / "set")
    assert (len(only.train), len(only.require_test())) == (120, 20)
    assert "--test-images needs --images" in refusal(
        lambda: build(Folders(audio=fsdd, test_images=images), tmp_path / "no")
    )


def test_a_group_to_keep_apart_draws_the_test_anew(fsdd: Path, tmp_path: Path) -> None:
    made = build(Folders(audio=fsdd), tmp_path / "set", How(keep_apart="speaker"))
    assert {*made.train.groups["speaker"]} ^ {*made.require_test().groups["speaker"]} == {"ann", "bob"}
    assert load(made.folder).keep_apart == "speaker"


def test_voices_that_only_the_training_knows_are_unknown_in_the_test(fsdd: Path, tmp_path: Path) -> None:
    recordings(tmp_path / "other", [f"{digit}/{turn}.wav" for digit in range(10) for turn in range(2)])
    made = build(Folders(audio=fsdd, test_audio=tmp_path / "other"), tmp_path / "set")
    assert made.train.known("speaker")
    assert set(made.require_test().groups["speaker"].tolist()) == {""}
    assert load(made.folder).digest == made.digest


def test_groups_by_regexes_over_paths(tmp_path: Path) -> None:
    names = [
        f"site{place}/{word}/{who}-{turn}.wav"
        for place in (1, 2)
        for word in "ab"
        for who in "cdefghi"
        for turn in "12"
    ]
    recordings(tmp_path / "audio", names)
    pictures(tmp_path / "images", "ab", each=14)
    asked = Folders(tmp_path / "images", tmp_path / "audio")
    how = How(label="([ab])/[^/]*$", groups=("speaker=([a-z])-", "site=site(.)"), keep_apart="site")
    made = build(asked, tmp_path / "set", how)
    train, test = parts_of(made)
    assert (set(train.groups["site"]) | set(test.groups["site"])) == {"1", "2"}
    assert not set(train.groups["site"]) & set(test.groups["site"])
    assert set(train.groups["speaker"]) == set("cdefghi")
    shares = leakage(train, split(train, "speaker_disjoint", 0))
    assert shares["speaker"] == shares["equal audio"] == 0


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (How(groups=("speaker=(",)), "--group must be a regex over paths"),
        (How(groups=("speaker=x",)), "one pair of parentheses"),
        (How(groups=("speaker",)), "--group must be NAME=REGEX"),
        (How(groups=("a b=(.)",)), "--group must be NAME=REGEX"),
        (How(groups=("speaker=(zebra)",)), "matches none"),
        (How(label="(.)(.)"), "one pair of parentheses"),
        (
            How(keep_apart="patient"),
            "--keep-apart must name a group of recording, speaker (--group makes one), got 'patient'",
        ),
    ],
)
def test_what_cannot_be_grouped_is_refused(fsdd: Path, tmp_path: Path, how: How, said: str) -> None:
    assert said in refusal(lambda: build(Folders(audio=fsdd), tmp_path / "set", how))


def test_all_bad_files_are_named_and_nothing_is_written(images: Path, fsdd: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(fsdd, tmp_path / "fsdd")) / "recordings"
    (own / "7_bob_5.wav").write_bytes((own / "7_bob_5.wav").read_bytes()[:700])
    (own / "3_bob_5.wav").write_bytes(b"")
    (own / "3_ann_5.wav").write_bytes(b"noise" * 99)
    (own / "seven.wav").write_bytes((own / "0_bob_5.wav").read_bytes())
    line = refusal(lambda: build(Folders(images, own), tmp_path / "set"))
    assert "4 files or lines cannot be used (--skip-bad" in line
    for part in (
        "7_bob_5.wav: must be complete",
        "3_bob_5.wav: must be an audio file, is empty",
        "seven.wav: must be named",
    ):
        assert part in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fsdd"]
    made = build(Folders(images, own), tmp_path / "set", How(skip_bad=True))
    facts = load(made.folder).provenance["audio"]
    assert (facts["skipped"], facts["train"]) == (4, 37)
    assert [name.partition(":")[0].split("/")[1] for name in facts["skipped_first"]][1:] == [
        "3_ann_5.wav",
        "3_bob_5.wav",
        "7_bob_5.wav",
    ]


def test_bad_pictures_and_bad_recordings_are_named_together(tmp_path: Path) -> None:
    pictures(tmp_path / "images", FORTY[:2])
    recordings(tmp_path / "audio", [f"{label}/{turn}.wav" for label in FORTY[:2] for turn in range(5)])
    (tmp_path / "images" / FORTY[0] / "3.png").write_bytes(b"")
    (tmp_path / "audio" / FORTY[1] / "4.wav").write_bytes(b"")
    line = refusal(lambda: build(Folders(tmp_path / "images", tmp_path / "audio"), tmp_path / "set"))
    for part in ("2 files or lines", f"images/{FORTY[0]}/3.png: ", f"audio/{FORTY[1]}/4.wav: "):
        assert part in line


def test_many_bad_files_are_counted(tmp_path: Path) -> None:
    pictures(tmp_path / "images", FORTY[:2], each=30)
    for turn in range(30):
        (tmp_path / "images" / FORTY[0] / f"{turn}.png").write_bytes(b"no picture")
    line = refusal(lambda: build(Folders(tmp_path / "images"), tmp_path / "set"))
    assert "30 files or lines cannot be used" in line
    assert line.count("must be a whole PNG") == 20
    assert "and 10 more" in line


def test_folders_that_hold_nothing_of_use_are_refused(images: Path, fsdd: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for asked, said in (
        (Folders(tmp_path / "empty", fsdd), "pictures (png, jpg, jpeg, mpo, webp, heic, heif) must be named"),
        (Folders(images, tmp_path / "empty"), "recordings (wav, flac, mp3, ogg, oga, opus, m4a, webm) must be named"),
        (Folders(tmp_path / "none", fsdd), "none: must be a folder, is missing"),
        (Folders(images, tmp_path / "none"), "none: must be a folder, is missing"),
        (Folders(), "must be built of --images, --audio or both"),
    ):
        assert said in refusal(lambda asked=asked: build(asked, tmp_path / "set"))
        assert not (tmp_path / "set").exists()


def test_what_is_no_data_set_is_never_replaced(images: Path, fsdd: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="something else"):
        build(Folders(images, fsdd), images)
    assert len(list(images.iterdir())) == 4
    first = build(Folders(images, fsdd), tmp_path / "set")
    assert build(Folders(images, fsdd), tmp_path / "set", How(seed=1)).digest != first.digest


def test_large_banks_are_read_into_a_file(
    images: Path, fsdd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(Folders(images, fsdd), tmp_path / "a")
    monkeypatch.setattr(reading, "LARGE", 1)
    assert build(Folders(images, fsdd), tmp_path / "b").digest == first.digest
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "must have room for" in refusal(lambda: build(Folders(images, fsdd), tmp_path / "c"))


@given(
    shown=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    spare=st.lists(st.integers(0, 5), max_size=80),
    seed=st.integers(0, 99),
)
def test_each_recording_has_its_turn_before_any_has_two(shown: list[int], spare: list[int], seed: int) -> None:
    pictured, heard = np.array(shown), np.array([*set(shown), *spare])
    index = match(pictured, heard, np.random.default_rng(seed))
    assert np.array_equal(heard[index], pictured)
    for label in set(shown):
        times = np.bincount(index[pictured == label], minlength=len(heard))[heard == label]
        assert times.max() - times.min() <= 1


def test_digits_are_made_as_they_are_at_predict_time(tmp_path: Path, digits: Digits) -> None:
    for row in range(0, 140, 2):
        path = tmp_path / "images" / str(digits[1][row]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - digits[0][row]).resize((90, 70)).save(path)
    made = build(Folders(tmp_path / "images"), tmp_path / "set")
    known = {read_digit(path).tobytes() for path in (tmp_path / "images").rglob("*.png")}
    assert {v.tobytes() for part in parts_of(made) for v in part.banks["image"].values} == known


@pytest.mark.slow
def test_mnist_and_fsdd_as_they_are(tmp_path: Path) -> None:
    """The real thing: 60,000 + 10,000 pairs in less than 1.5 GB."""
    root = os.environ.get("MMTUNE_REAL_DATA")
    if not root:
        pytest.skip("MMTUNE_REAL_DATA names no folder with mnist/ and fsdd/")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from mmtune.data.building.asking import Folders\n"
        "from mmtune.data.building.build import build\n"
        "made = build(Folders(Path(sys.argv[1]) / 'mnist', Path(sys.argv[1]) / 'fsdd'), Path(sys.argv[2]))\n"
        "print(*(n for p in (made.train, made.test) for n in (len(p), len(p.banks['waveform'].values))))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, root, str(tmp_path / "set")]
    counts, kilobytes = subprocess.run(command, env=environment, capture_output=True, check=True).stdout.splitlines()
    assert counts.split() == [b"60000", b"2700", b"10000", b"300"]
    assert int(kilobytes) < 1.5e6


def of_people(folder: Path, people: str) -> Path:
    """Pictures of two classes, three by each of some people."""
    for word in "ab":
        for who in people:
            for turn in range(3):
                write_picture(folder / word / f"{who}-{turn}.png", word)
    return folder


BY_PERSON = How(groups=("who=([a-z])-",), keep_apart="who")


def test_nobody_of_what_is_kept_apart_is_in_both_corpora(tmp_path: Path) -> None:
    ours, theirs = of_people(tmp_path / "ours", "pqr"), of_people(tmp_path / "theirs", "rst")
    said = refusal(lambda: build(Folders(images=ours, test_images=theirs), tmp_path / "set", BY_PERSON))
    assert "training and test must have no who in common, 1 of the test's 3 are in both, such as r" in said
    assert not (tmp_path / "set").exists()
    others = of_people(tmp_path / "others", "st")
    made = build(Folders(images=ours, test_images=others), tmp_path / "set", BY_PERSON)
    assert set(made.require_test().groups["who"]) == {"s", "t"}


def test_who_is_paired_by_class_alone_cannot_be_kept_apart(tmp_path: Path) -> None:
    """A row would be of one person by its picture and of another by its sound."""
    seen = of_people(tmp_path / "seen", "pqrs")
    said = recordings(
        tmp_path / "said", [f"{word}/{who}-{turn}.wav" for word in "ab" for who in "pqrs" for turn in "12"]
    )
    assert "--keep-apart who is of pictures and of recordings, which are paired by class alone" in refusal(
        lambda: build(Folders(seen, said), tmp_path / "set", BY_PERSON)
    )


def test_pictures_that_are_no_digits_under_names_of_digits_are_refused_with_the_way_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for row in range(12):
        path = tmp_path / "images" / str(row % 2) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(path)
    said = refusal(lambda: build(Folders(images=tmp_path / "images"), tmp_path / "set"))
    assert "as all classes are digits, pictures are read as such; --image-form 32x32:rgb takes them as they are" in said
    made = build(Folders(images=tmp_path / "images", image_form="32x32:rgb"), tmp_path / "set")
    assert made.forms["image"] == Picture(height=32, width=32, colour=True)


def test_one_word_at_several_places_is_one_of_what_is_made_of_it(tmp_path: Path) -> None:
    """Recordings that differ, of which a bank is the same: it is not to be on both sides."""
    rng = np.random.default_rng(0)
    rows = ["clip,label"]
    for word in range(12):
        sound = rng.normal(size=4000) * np.hanning(4000) * 0.3
        for start in (1600, 3200, 4800):
            wave = np.zeros(16000)
            wave[start : start + 4000] = sound
            soundfile.write(tmp_path / f"{word}-{start}.wav", wave, 16000)
            rows.append(f"{word}-{start}.wav,{'xy'[word % 2]}")
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    made = build(table_of(tmp_path / "rows.csv", audio=["clip:speech"]), tmp_path / "set")
    train, test = parts_of(made)
    assert not shared(test, train).any()
    assert len(train) + len(test) == 36
    assert len(train.banks["clip"].values) == len(train) / 3


def test_who_is_known_in_one_corpus_alone_cannot_be_kept_apart(tmp_path: Path) -> None:
    people, nobody = of_people(tmp_path / "people", "pqrs"), pictures(tmp_path / "nobody", "ab")
    for ours, theirs, side in ((people, nobody, "test"), (nobody, people, "training")):
        said = refusal(lambda a=ours, b=theirs: build(Folders(images=a, test_images=b), tmp_path / "set", BY_PERSON))
        assert f"who must be known of every row to be kept apart, of the {side} rows it is not" in said


def test_what_is_said_of_something_that_is_not_there_is_refused(tmp_path: Path, digits: Digits) -> None:
    seen, idx = pictures(tmp_path / "seen", "ab"), mnist(tmp_path / "idx", digits)
    said = recordings(tmp_path / "said", [f"{word}/{turn}.wav" for word in "ab" for turn in range(7)])
    out = tmp_path / "set"
    for what, how, rule in (
        (Folders(images=seen, audio_forms=("logmel",)), How(), "--audio-form needs --audio"),
        (Folders(audio=said, image_form="32x32:rgb"), How(), "--image-form needs --images"),
        (
            Folders(images=idx),
            How(label="x(.)"),
            "--label is for files whose paths say it, IDX files hold their labels",
        ),
    ):
        assert rule in refusal(lambda what=what, how=how: build(what, out, how))
    assert "--seed must be a whole number from 0 to 2147483647, got" in refusal(lambda: How(seed=2**32))


def test_one_picture_of_another_size_or_in_colour_is_never_overlooked(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "seen", "ab", each=20, size=(12, 10))
    form = build(Folders(images=folder), tmp_path / "grey").forms["image"]
    assert form == Picture(height=12, width=10, colour=False)
    write_picture(folder / "b" / "13.png", "b", size=(12, 10), colour=True)
    assert build(Folders(images=folder), tmp_path / "colour").forms["image"] == replace(form, colour=True)
    write_picture(folder / "a" / "7.png", "a", size=(12, 11))
    assert build(Folders(images=folder), tmp_path / "two").forms["image"].shape == (3, 32, 32)


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "seen", "ab")
    (folder / "again").symlink_to(folder, target_is_directory=True)
    assert build(Folders(images=folder), tmp_path / "set").classes == ("a", "b")
