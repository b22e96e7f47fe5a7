"""What paths say: every naming, told apart by classes that are known or by digits, and what is ignored."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from filesets import ARABIC, WORDS, refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.base.errors import InputError
from mmtune.data.building.layouts import Layout, files_of, recognise

ANIMALS = ("ant", "bee", "cat", "dog")
PEOPLE = ("ann", "bob", "cy")
Spell = Callable[[str, str, int], str]
SPELLED: dict[str, Spell] = {
    "FSDD": lambda label, who, take: f"{label}_{who}_{take}.wav",
    "FSDD in label/*": lambda label, who, take: f"{label}/{label}_{who}_{take}.wav",
    "AudioMNIST": lambda label, who, take: f"{who}/{label}_{who}_{take}.wav",
    "Speech Commands": lambda label, who, take: f"{label}/{who.encode().hex()}_nohash_{take}.wav",
    "speaker/word_take": lambda label, who, take: f"{who}/{label}_{take}.wav",
    "speaker/label/*": lambda label, who, take: f"{who}/{label}/take {take}.wav",
    "speaker_word_take": lambda label, who, take: f"{who}_{label}_{take}.wav",
    "label/*": lambda label, who, take: f"{label}/{who}-{take}.wav.wav",
}
FOLDER = Path("source")


def spelled(naming: str, labels: tuple[str, ...], takes: int = 3, root: str = "") -> list[str]:
    return [root + SPELLED[naming](label, who, take) for label in labels for who in PEOPLE for take in range(takes)]


def read(paths: list[str], wanted: tuple[str, ...] = ()) -> Layout:
    return recognise(FOLDER, "recordings", sorted(paths), wanted)


@pytest.mark.parametrize("root", ["", "recordings/", "data/", "deep/down/"])
@pytest.mark.parametrize("naming", SPELLED)
def test_digits_are_read_in_every_naming(naming: str, root: str) -> None:
    for digits in (tuple("0123456789"), WORDS, tuple(ARABIC)):
        found = read(spelled(naming, digits, root=root))
        assert found.naming == naming
        assert len(found.named) == 90
        assert {one.label for one in found.named} == set(digits)
        assert len({one.speaker for one in found.named}) == (1 if naming == "label/*" else 3)
        assert not any(one.name.endswith(".wav") or one.name.startswith(root or "/") for one in found.named)
        assert all(one.test is None for one in found.named)


@pytest.mark.parametrize("naming", SPELLED)
def test_words_are_read_in_every_naming_where_the_classes_are_known(naming: str) -> None:
    found = read(spelled(naming, ANIMALS), wanted=ANIMALS)
    assert found.naming == naming
    assert {one.label for one in found.named} == set(ANIMALS)


@pytest.mark.parametrize("naming", ["AudioMNIST", "Speech Commands", "FSDD", "FSDD in label/*", "label/*"])
def test_words_nobody_knows_are_read_in_the_usual_namings(naming: str) -> None:
    assert read(spelled(naming, ANIMALS)).naming == naming


def test_numbered_speakers_are_no_digits() -> None:
    people = [f"{who:02d}/{digit}_{take}.wav" for who in range(1, 8) for digit in range(10) for take in range(2)]
    assert read(people).naming == "speaker/word_take"
    labels = [f"{digit}/{who}_{take}.wav" for who in range(1, 8) for digit in range(10) for take in range(2)]
    assert read(labels).naming == "label/*"


def test_fsdd_says_what_is_for_the_test_where_every_label_has_both() -> None:
    found = read(spelled("FSDD", WORDS, takes=8))
    assert all(one.test == (int(one.name.rpartition("_")[2]) < 5) for one in found.named)
    lacking = [path for path in spelled("FSDD", WORDS, takes=8) if not re.fullmatch(r"six_.*_[5-7].wav", path)]
    assert all(one.test is None for one in read(lacking).named)


def test_folders_of_train_and_test_are_the_partition() -> None:
    for naming in ("label/*", "speaker/label/*"):
        paths = [f"{part}/{path}" for part in ("train", "Test") for path in spelled(naming, WORDS)]
        found = read([*paths, "notes/x.wav"])
        assert [one.test for one in found.named] == [one.path.startswith("Test") for one in found.named]
        assert len(found.named) == 180
        assert found.ignored == ["notes/x.wav"]
    three = [f"{part}/{path}" for part in ("train", "valid", "test") for path in spelled("label/*", ANIMALS)]
    assert [one.test for one in read(three).named] == [path.startswith("test") for path in sorted(three)]
    two = sorted(path for path in three if not path.startswith("test"))
    assert [one.test for one in read(two).named] == [path.startswith("valid") for path in two]
    one_sided = [f"train/{path}" for path in spelled("label/*", WORDS)]
    assert all(one.test is None for one in read(one_sided).named)


def test_the_list_of_speech_commands_is_the_partition(tmp_path: Path) -> None:
    paths = spelled("Speech Commands", WORDS)
    (tmp_path / "testing_list.txt").write_text("\n".join(path for path in paths if path.endswith("_2.wav")) + "\n")
    found = recognise(tmp_path, "recordings", [*paths, "_background_noise_/hum.wav", "testing_list.txt"])
    assert all(one.test == one.name.endswith("_2") for one in found.named)
    assert found.ignored == ["_background_noise_/hum.wav", "testing_list.txt"]


def test_a_class_may_begin_with_an_underscore() -> None:
    found = read([*spelled("label/*", ["__none__", "_private", "cat"]), "_background_noise_/hum.wav"])
    assert {one.label for one in found.named} == {"__none__", "_private", "cat"}
    assert found.ignored == ["_background_noise_/hum.wav"]


def test_what_lies_among_the_others_and_is_named_otherwise_is_a_stray() -> None:
    found = read([*spelled("FSDD", WORDS), "seven.wav", "notes.txt"])
    assert (found.strays, found.ignored) == (["seven.wav"], ["notes.txt"])


def test_a_regex_of_the_users_reads_anything() -> None:
    paths = [f"{who}-{take}-{word}.wav" for who in PEOPLE for take in range(3) for word in ANIMALS]
    found = recognise(FOLDER, "recordings", [*paths, "other.wav"], (), re.compile("-([a-z]+).wav$"))
    assert {one.label for one in found.named} == set(ANIMALS)
    assert found.ignored == ["other.wav"]


def test_a_regex_of_the_users_leaves_training_and_test_apart() -> None:
    paths = [f"{side}/{turn}-{word}.png" for side in ("train", "test") for turn in range(3) for word in ANIMALS]
    found = recognise(FOLDER, "pictures", [*paths, "more/1-cat.png"], (), re.compile("-([a-z]+).png$"))
    assert {(one.path.startswith("test/"), one.test) for one in found.named} == {(True, True), (False, False)}
    assert found.ignored == ["more/1-cat.png"]


def test_pictures_are_read_by_their_folder() -> None:
    paths = [f"{word}/more/{turn}_1_2.PNG" for word in ANIMALS for turn in range(3)]
    assert {one.label for one in recognise(FOLDER, "pictures", paths).named} == set(ANIMALS)


def test_what_no_naming_fits_is_refused() -> None:
    for paths in ([], ["a.wav", "b.wav"], ["notes.txt"], ["only/a.wav"]):
        assert "webm) must be named as in FSDD" in refusal(lambda own=paths: read(own))


def test_files_are_found_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", ".git/x.png", "__MACOSX/b/1.png", "b/.DS_Store", "a/b/c/d/e/f/g/h.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "b" / "round").symlink_to(tmp_path)  # a circle
    found = files_of(tmp_path)
    assert found[:2] == ["b/1.png", "b/2.png"]
    assert len(found) < 20
    assert "is missing" in refusal(lambda: files_of(tmp_path / "none"))
    assert "is a file" in refusal(lambda: files_of(tmp_path / "b" / "1.png"))
    (tmp_path / "b" / "a\x1b[31m.png").write_text("")
    assert "control character" in refusal(lambda: files_of(tmp_path))


PART = st.sampled_from(
    ["train", "test", "0", "one", "cat", "Dog", "ann", "ann_1", "1_ann_2", "cat_ann_7", "x", "_x", "data"]
)


@settings(max_examples=300, deadline=None)
@given(
    paths=st.sets(st.lists(PART, min_size=1, max_size=4).map(lambda parts: "/".join(parts) + ".wav"), max_size=30),
    notes=st.sets(PART.map("{}.txt".format), max_size=2),
    wanted=st.sampled_from([(), ("cat", "dog"), tuple("0123456789")]),
)
def test_every_path_is_read_or_a_stray_or_ignored(paths: set[str], notes: set[str], wanted: tuple[str, ...]) -> None:
    try:
        found = read([*paths, *notes], wanted)
    except InputError:
        return
    used = [one.path for one in found.named]
    assert sorted([*used, *found.strays, *found.ignored]) == sorted(paths | notes)
    assert all(one.label and one.name for one in found.named)
    sides = {one.test for one in found.named}
    assert None not in sides or len(sides) == 1
