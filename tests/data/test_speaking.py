"""Voices beside one's own recordings: the same for a seed, named as FSDD's, all of them or none."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from mmtune.base.errors import InputError
from mmtune.data.building.asking import asked
from mmtune.data.building.build import build
from mmtune.data.building.sources import How
from mmtune.data.bundled.speaking import parse_words, write_voices
from mmtune.data.bundled.voices import MEN, WOMEN

WORDS = {"yes": "yes", "no": "no, thanks"}


def test_voices_are_recordings_of_as_many_speakers(tmp_path: Path) -> None:
    made = write_voices(WORDS, tmp_path / "said")
    assert len(made) == len({*made}) == 2 * 3 * len({*WOMEN, *MEN})
    assert sorted(made) == sorted((tmp_path / "said").iterdir())
    with wave.open(str(made[0])) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        assert 0.1 < file.getnframes() / file.getframerate() < 3
    again = write_voices(WORDS, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in made]
    what = asked(table=None, images=None, audio=[str(tmp_path / "said")], test_images=None, test_audio=None,
                 image_form="", audio_form=["speech"], image=[], array=[], vector=[], split="")  # fmt: skip
    built = build(what, tmp_path / "set", How(keep_apart="speaker"))
    assert built.classes == ("no", "yes")
    speakers = {*built.train.groups["speaker"]} | {*built.require_test().groups["speaker"]}
    assert speakers == {*WOMEN, *MEN}


def test_what_is_there_is_left_alone_and_nothing_is_added_to_it(tmp_path: Path) -> None:
    (tmp_path / "no_steph_6.wav").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"no_steph_6\.wav must not be there yet"):
        write_voices(WORDS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["no_steph_6.wav"]


def test_an_accent_that_nobody_has_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="accents must be those of espeak-ng, such as en-us or de, got klingon"):
        write_voices({"yes": "yes"}, tmp_path / "out", ["klingon"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("texts", [[], ["a_b"], ["a/b=c"], ["yes", "yes=oui"], ["=word"]])
def test_words_have_labels_of_their_own(texts: list[str]) -> None:
    with pytest.raises(InputError, match="words must have labels, each once and without / or _, got"):
        parse_words(texts)


def test_a_word_may_have_another_label() -> None:
    assert parse_words(["0=zero", "cat = the cat", "no"]) == {"0": "zero", "cat": "the cat", "no": "no"}
