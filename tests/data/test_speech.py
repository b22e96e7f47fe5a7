"""A word is found wherever it is, however loud, and nothing is found where nothing is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.signal import correlate

from mmtune.base.errors import InputError
from mmtune.data.forms import Speech, Waveform
from mmtune.data.media.recordings import SAMPLE_RATE, to_int16
from mmtune.data.media.speech import HOP, WINDOW, around, is_background, levels, only_word, require_heard, spoken, words

Wave = NDArray[np.float32]


def voice(seconds: float, peak: float = 0.5, seed: int = 0) -> Wave:
    """A vowel: harmonics of 120 Hz that swell and fade."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rng = np.random.default_rng(seed)
    tones = sum(np.sin(2 * np.pi * 120 * n * t + rng.uniform(0, 6)) / n for n in range(1, 20))
    wave = tones * np.sin(np.pi * t / seconds) ** 0.3
    return (peak * wave / np.abs(wave).max()).astype(np.float32)


def hiss(seconds: float, deviation: float = 1e-3, seed: int = 1) -> Wave:
    return np.random.default_rng(seed).normal(0, deviation, round(seconds * SAMPLE_RATE)).astype(np.float32)


def said_at(starts: list[float], seconds: float, length: float = 0.4, background: float = 1e-3) -> Wave:
    wave = hiss(seconds, background)
    for start in starts:
        own = voice(length)
        begin = round(start * SAMPLE_RATE)
        wave[begin : begin + len(own)] += own
    return wave


def write(path: Path, wave: Wave, rate: int = SAMPLE_RATE) -> Path:
    soundfile.write(path, wave, rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize("start", [0.0, 0.3, 1.55, 9.5])
def test_a_word_is_found_where_it_is(start: float) -> None:
    [found] = words(said_at([start], 10.0))
    assert found.start / SAMPLE_RATE == pytest.approx(start, abs=0.03)
    assert found.end / SAMPLE_RATE == pytest.approx(start + 0.4, abs=0.03)


def test_a_level_is_the_mean_square_of_what_a_voice_has() -> None:
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for amplitude in (1.0, 0.1):
        tone = (amplitude * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
        assert levels(tone) == pytest.approx(10 * np.log10(amplitude**2 / 2), abs=0.1)
    assert levels((np.sin(2 * np.pi * 30 * t) + 3).astype(np.float32)).max() < -30, "hum and an offset are no voice"


@pytest.mark.parametrize(("pause", "count"), [(0.1, 1), (0.2, 1), (0.5, 2), (2.0, 2)])
def test_a_pause_parts_two_words_and_a_stop_does_not(pause: float, count: int) -> None:
    assert len(words(said_at([0.2, 0.6 + pause], 4.0))) == count


def test_a_click_and_a_whisper_far_away_are_no_words() -> None:
    wave = said_at([1.0], 3.0)
    wave[8000:8100] += 0.9
    wave[40_000:46_000] += voice(0.375, peak=0.02)
    [found] = words(wave)
    assert found.start / SAMPLE_RATE == pytest.approx(1.0, abs=0.03)


def test_neither_level_nor_place_nor_padding_changes_what_is_spoken() -> None:
    word = to_int16(said_at([0.1], 0.7))
    once = np.pad(word, (0, SAMPLE_RATE - len(word)))
    moved = np.pad(word, (10 * HOP, SAMPLE_RATE - len(word) - 10 * HOP))
    found = spoken(np.stack([once, moved, once // 4 * 2, once // 4 * 4]))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[2], found[3])
    assert np.abs(found.astype(int)).max(axis=1).tolist() == pytest.approx([32767] * 4, abs=1)
    inside = np.flatnonzero(found[0])
    assert inside[0] + inside[-1] == pytest.approx(SAMPLE_RATE - 1, abs=2), "in the middle"


def test_what_is_longer_than_its_place_is_cut_to_its_middle() -> None:
    wave = to_int16(voice(1.0))
    [found] = spoken(wave[None])
    assert found.shape == wave.shape
    [short] = spoken(wave[None, :4000])
    assert short.shape == (4000,)
    assert np.abs(short.astype(int)).max() >= 32766


def test_a_part_with_its_surroundings_is_a_plain_cut() -> None:
    wave = hiss(1.0, 0.1)
    [part] = words(said_at([0.3], 1.0))
    middle = (part.start + part.end) // 2
    assert np.array_equal(around(wave, part, 2000), to_int16(wave)[middle - 1000 : middle + 1000])
    assert np.array_equal(around(wave, part, 40_000)[20_000 - middle : 36_000 - middle], to_int16(wave))


@pytest.mark.parametrize("deviation", [3e-4, 1e-3])
def test_a_faint_background_is_nothing_said(deviation: float) -> None:
    assert is_background(hiss(2.0, deviation))
    with pytest.raises(
        InputError, match=r"^my\.wav: nothing is said in it: at most -\d+ dB, and the same all the time$"
    ):
        require_heard(hiss(2.0, deviation), "my.wav")


def test_a_whisper_over_it_and_a_loud_noise_are_something() -> None:
    assert not is_background(hiss(1.0, 1e-4) + np.pad(voice(0.4, peak=2e-3), (0, 9600)))
    assert not is_background(hiss(1.0, 0.1))


def test_several_words_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^x: one word must be said in it, 3 are, at 0\.5, 2\.0, 4\.0 s$"):
        only_word(said_at([0.5, 2.0, 4.0], 5.0), "x")


def test_a_file_is_what_its_word_would_be_alone(tmp_path: Path) -> None:
    word = said_at([0.3], 1.0)
    alone = Speech().read(write(tmp_path / "word.wav", word))
    long = np.concatenate([hiss(6.0, seed=5), word, hiss(3.0, seed=6)])
    found = Speech().read(write(tmp_path / "long.wav", long))
    # Where a word begins is told by steps of 10 ms, and the loudest second may begin within it.
    alike = correlate(alone.astype(float), found.astype(float), "full") / np.square(alone.astype(float)).sum()
    assert float(alike.max()) == pytest.approx(1, abs=0.02)
    assert abs(int(alike.argmax()) - (SAMPLE_RATE - 1)) <= 2 * HOP
    assert np.array_equal(alone, Speech().of_waves(Waveform().read(tmp_path / "word.wav")[None])[0])


@pytest.mark.parametrize("start", [0.0, 0.3, 1.55, 2.6])
def test_what_is_longer_than_its_place_is_what_a_data_set_has_of_it(start: float, tmp_path: Path) -> None:
    path, form = write(tmp_path / "long.wav", said_at([start], 3.0)), Speech()
    assert np.array_equal(form.read(path), form.extract(path))


def test_a_word_is_found_where_something_else_is_louder(tmp_path: Path) -> None:
    hum = 0.9 * np.sin(2 * np.pi * 20 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    path = write(tmp_path / "hum.wav", np.concatenate([hum, said_at([1.0], 2.0)]))
    found, alone = Speech().read(path).astype(float), Speech().read(write(tmp_path / "x.wav", voice(0.4))).astype(float)
    assert correlate(found, alone).max() / np.square(alone).sum() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("count", [100, WINDOW - 1, WINDOW, WINDOW + HOP + 1])
def test_the_shortest_sounds_are_read(count: int) -> None:
    wave = hiss(count / SAMPLE_RATE, 0.1)
    assert Speech().cut(wave, "x").shape == (SAMPLE_RATE,)
    assert spoken(Speech().cut(wave, "x")[None]).shape == (1, SAMPLE_RATE)
