"""What a registered model of digits makes of what is none: how much is better not answered, alone and in a pair.

    python -m benchmarks.garbage mel_fusion --data data/mnist_fsdd --store mlruns

Good parts are those of the data set's test partition. Words are espeak-ng's, letters of the fonts that matplotlib has
and of drawn strokes; the rest is computed. Noise, stripes, tones, halves and what lies over another are like what a
recipe's `outliers` are made of; letters, words, scribbles, music and clicks are like nothing in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.ndimage import gaussian_filter

from mmtune.api.loading import load
from mmtune.base.errors import InputError
from mmtune.data.bundled.espeak import Utterance, speak
from mmtune.data.bundled.voices import MEN, TRAINING, WOMEN
from mmtune.data.dataset import Dataset
from mmtune.data.forms import Digit, Form, Waveform
from mmtune.data.media.pictures import normalise
from mmtune.data.media.recordings import SAMPLE_RATE, at_rate, resampled, to_float, to_int16
from mmtune.data.storage.store import load as load_dataset
from mmtune.serve.answer.prediction import Prediction
from mmtune.serve.answer.predictor import Predictor

COUNT = 300
Rng = np.random.Generator
Values = NDArray[Any]
Wave = NDArray[np.float64]

# ---- pictures, 28 x 28 in light ink

CANVAS, SIDE = 160, 28
FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "cmr10.ttf", "cmmi10.ttf", "cmtt10.ttf", "STIXGeneral.ttf")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TWINS = "OoQDIliSsZzBbgq"
"""Letters that look like digits."""
PLAIN = "".join(own for own in LETTERS if own not in TWINS)
STROKES = {
    "A": "0,9 4,0 8,9; 2,5 6,5",
    "E": "8,0 0,0 0,9 8,9; 0,4 6,4",
    "F": "8,0 0,0 0,9; 0,4 6,4",
    "H": "0,0 0,9; 8,0 8,9; 0,4 8,4",
    "K": "0,0 0,9; 8,0 0,5 8,9",
    "M": "0,9 1,0 4,5 7,0 8,9",
    "N": "0,9 0,0 7,9 7,0",
    "P": "0,9 0,0 5,0 7,2 6,4 0,4",
    "R": "0,9 0,0 5,0 7,2 6,4 0,4 7,9",
    "U": "0,0 0,6 4,9 7,6 7,0",
    "V": "0,0 4,9 8,0",
    "W": "0,0 2,9 4,3 6,9 8,0",
    "X": "0,0 8,9; 8,0 0,9",
    "Y": "0,0 4,4 8,0; 4,4 4,9",
    "e": "1,6 7,6 6,3 4,2 1,5 3,9 7,8",
    "h": "1,0 1,9; 1,6 4,4 7,6 7,9",
    "k": "1,0 1,9; 7,4 1,7 7,9",
    "m": "0,4 0,9; 0,5 2,4 4,5 4,9; 4,5 6,4 8,5 8,9",
    "n": "1,4 1,9; 1,6 4,4 7,6 7,9",
    "t": "4,0 4,7 7,9; 1,3 7,3",
}
"""Polylines of points x,y in a square of 9."""


def shown(canvas: Image.Image, rng: Rng) -> Values:
    """A canvas slanted, turned and blurred as a hand and a camera do, then as a digit's picture is made."""
    slant = rng.uniform(-0.15, 0.15)
    turned = canvas.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR)
    along = (1, slant, -slant * CANVAS / 2, 0, 1, 0)
    slanted = turned.transform(canvas.size, Image.Transform.AFFINE, along, Image.Resampling.BILINEAR)
    ink = np.asarray(slanted.filter(ImageFilter.GaussianBlur(rng.uniform(1, 3))), np.float32)
    return normalise(ink / ink.max())


def printed(letters: str, rng: Rng) -> Values:
    """One of the letters, in one of the fonts."""
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(str(fonts / rng.choice(FONTS)), 100)
    canvas = Image.new("L", (CANVAS, CANVAS))
    middle = (CANVAS / 2, CANVAS / 2)
    ImageDraw.Draw(canvas).text(
        middle, rng.choice(list(letters)), fill=255, font=font, anchor="mm", stroke_width=int(rng.integers(0, 4))
    )
    return shown(canvas, rng)


def drawn(lines: Sequence[Wave], rng: Rng) -> Values:
    """Polylines (n, 2) in a square of 1, by an unsteady pen."""
    canvas = Image.new("L", (CANVAS, CANVAS))
    pen, width = ImageDraw.Draw(canvas), int(rng.integers(5, 13))
    for line in lines:
        points = 32 + 96 * (line + rng.normal(0, 0.04, line.shape))
        pen.line([(x, y) for x, y in points], fill=255, width=width, joint="curve")
        for x, y in points[[0, -1]]:
            pen.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)
    return shown(canvas, rng)


def drawn_letter(rng: Rng) -> Values:
    """One of STROKES."""
    lines = STROKES[rng.choice(list(STROKES))].split(";")
    return drawn([np.array([point.split(",") for point in line.split()], float) / 9 for line in lines], rng)


def stripes(rng: Rng) -> Values:
    """A wave of any direction."""
    y, x = np.mgrid[:SIDE, :SIDE]
    angle, fast = rng.uniform(0, np.pi), rng.uniform(0.3, 1.5)
    return (127.5 * (1 + np.sin(fast * (np.cos(angle) * x + np.sin(angle) * y)))).astype(np.uint8)


def part_of(digit: Values, rng: Rng) -> Values:
    """The half of a digit at one of its sides."""
    turns = int(rng.integers(4))
    kept = np.rot90(digit, turns).copy()
    kept[: SIDE // 2] = 0
    return normalise(np.rot90(kept, -turns) / 255.0)


def halves(one: Values, other: Values) -> Values:
    """The left of one and the right of another."""
    return np.concatenate([one[:, : SIDE // 2], other[:, SIDE // 2 :]], axis=1)


Pictures = Mapping[str, Callable[[Values, Values, Rng], Values]]
PICTURES: Pictures = {
    "uniform noise": lambda _, __, rng: rng.integers(0, 256, (SIDE, SIDE)),
    "soft noise": lambda _, __, rng: 128 + 220 * gaussian_filter(rng.normal(size=(SIDE, SIDE)), 0.8),
    "salt": lambda _, __, rng: 255 * (rng.random((SIDE, SIDE)) < rng.uniform(0.05, 0.3)),
    "stripes": lambda _, __, rng: stripes(rng),
    "inverted": lambda digit, _, __: 255 - digit,
    "letters of fonts": lambda _, __, rng: printed(PLAIN, rng),
    "letters drawn": lambda _, __, rng: drawn_letter(rng),
    "letters like digits": lambda _, __, rng: printed(TWINS, rng),
    "scribbles": lambda _, __, rng: drawn([rng.uniform(0, 1, (rng.integers(5, 12), 2))], rng),
    "two over another": lambda digit, other, _: np.maximum(digit, other),
    "halves of two": lambda digit, other, _: halves(digit, other),
    "part of one": lambda digit, _, rng: part_of(digit, rng),
    "a quarter turned": lambda digit, _, __: np.rot90(digit),
}

# ---- recordings, one second at 16 kHz

TIME = np.arange(SAMPLE_RATE) / SAMPLE_RATE
# fmt: off
WORDS = (
    "up", "down", "left", "right", "stop", "go", "yes", "no", "on", "off", "dog",
    "cat", "bed", "wow", "house", "tree", "bird", "happy", "computer", "banana", "water", "visual",
    "forward", "backward", "follow", "learn", "table", "window", "music", "orange", "paper", "green", "monday",
    "apple", "river", "garden", "mother", "school",
)
# fmt: on


def burst(wave: Wave, rng: Rng) -> Wave:
    """As long as a word may be."""
    return wave[: rng.integers(SAMPLE_RATE // 4, SAMPLE_RATE)]


def pitched(low: float, high: float, rng: Rng) -> float:
    """Hz, the logarithm uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def coloured(rng: Rng) -> Wave:
    """Noise whose power falls by 3 to 6 dB an octave."""
    spectrum = np.fft.rfft(rng.normal(size=SAMPLE_RATE))
    return np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** rng.uniform(0.5, 1), SAMPLE_RATE)


def chirp(rng: Rng) -> Wave:
    """A tone that rises or falls."""
    first, last = (pitched(100, 6000, rng) for _ in range(2))
    return np.sin(2 * np.pi * (first * TIME + (last - first) * TIME**2 / 2))


def music(rng: Rng) -> Wave:
    """Notes and chords that fade."""
    wave, start = np.zeros(SAMPLE_RATE), 0
    while start < SAMPLE_RATE:
        base, chord = 110 * 2 ** (rng.integers(0, 25) / 12), rng.choice([(0, 0, 0), (0, 4, 7), (0, 3, 7)])
        rest = TIME[: SAMPLE_RATE - start]
        for step in chord:
            hertz = base * 2 ** (step / 12)
            harmonics = sum(np.sin(2 * np.pi * hertz * n * rest) / n**1.5 for n in range(1, 6))
            wave[start:] += harmonics * np.exp(-rest * rng.uniform(4, 12))
        start += int(SAMPLE_RATE * rng.choice([0.125, 0.25, 0.5]))
    return wave


def clicks(rng: Rng) -> Wave:
    """Short knocks."""
    wave = rng.normal(size=SAMPLE_RATE) * 1e-3
    for start in rng.integers(0, SAMPLE_RATE - 400, rng.integers(2, 12)):
        count = rng.integers(10, 300)
        wave[start : start + count] += rng.normal(size=count) * np.exp(-np.arange(count) / 50)
    return wave


Recordings = Mapping[str, Callable[[Sequence[Wave], Rng], Wave]]
RECORDINGS: Recordings = {
    "white noise": lambda _, rng: burst(rng.normal(size=SAMPLE_RATE), rng),
    "coloured noise": lambda _, rng: burst(coloured(rng), rng),
    "tones": lambda _, rng: burst(np.sin(2 * np.pi * pitched(100, 4000, rng) * TIME), rng),
    "chirps": lambda _, rng: burst(chirp(rng), rng),
    "music": lambda _, rng: music(rng),
    "clicks": lambda _, rng: clicks(rng),
    "reversed digits": lambda digits, _: digits[0][::-1],
    "halves of two": lambda digits, _: np.concatenate([digits[0][: SAMPLE_RATE // 2], digits[1][SAMPLE_RATE // 2 :]]),
    "a crowd": lambda digits, _: np.mean(digits, axis=0),
}


def other_words(rng: Rng) -> list[Wave]:
    """Words that are no digits, by many voices."""
    plan = [
        Utterance(
            str(rng.choice(WORDS)),
            f"{rng.choice(TRAINING.accents)}+{rng.choice(WOMEN + MEN)}",
            int(rng.integers(125, 225)),
            int(rng.integers(25, 75)),
            int(rng.integers(30, 70)),
        )
        for _ in range(COUNT)
    ]
    said, rate = speak(plan)
    return [resampled(to_float(own), rate).astype(np.float64) for own in said]


# ---- what a model makes of them


def values_of(form: Form, goods: Values, rng: Rng) -> dict[str, Values]:
    """By kind of garbage, COUNT values of a form; goods (N, *shape): some that are none."""
    if isinstance(form, Digit):
        numbers = rng.integers(len(goods), size=(len(PICTURES), COUNT, 2))
        made = zip(PICTURES.items(), numbers, strict=True)
        return {
            name: np.stack([np.clip(make(goods[a], goods[b], rng), 0, 255) for a, b in own]).astype(np.uint8)
            for (name, make), own in made
        }
    if not isinstance(form, Waveform):
        raise InputError(f"garbage is made of pictures of digits and of waveforms, the model reads {form.kind}")
    digits = [to_float(own).astype(np.float64) for own in goods]
    waves = {
        name: [make([digits[n] for n in rng.integers(len(digits), size=6)], rng) for _ in range(COUNT)]
        for name, make in RECORDINGS.items()
    }
    waves["other words"] = other_words(rng)
    # As of a data set's recordings, of several words the loudest counts; `predict` would refuse some of these.
    cut = {name: [at_rate(loud(own), SAMPLE_RATE, form.samples) for own in made] for name, made in waves.items()}
    return {name: form.of_waves(to_int16(np.stack(own))) for name, own in cut.items()}


def loud(wave: Wave) -> NDArray[np.float32]:
    """With a peak of nearly 1."""
    return (wave / np.abs(wave).max() * 0.99).astype(np.float32)


def turned_away(found: Prediction) -> str:
    """The share that is better not answered, in percent."""
    return f"{100 * found.abstained.mean():.1f}"


def lines(predictor: Predictor, dataset: Dataset, seed: int) -> list[str]:
    """A markdown table: by kind of garbage what is turned away alone and in a pair, and how often a pair is right."""
    rng, test = np.random.default_rng(seed), dataset.require_test()
    rows = {label: np.flatnonzero(test.labels == label) for label in range(len(dataset.classes))}
    banks = {bank: test.banks[bank] for bank in predictor.forms}
    some = rng.permutation(len(test))[: 10 * COUNT]
    goods = {bank: own.values[own.index[some]] for bank, own in banks.items()}
    whole = predictor.predict_values(**goods)
    right = 100 * (whole.label == test.labels[some]).mean()
    told = ["| garbage | alone, % | in a pair, % | classes right in a pair, % |", "|---|---|---|---|"]
    told.append(f"| none: test rows | | {turned_away(whole)} | {right:.1f} |")
    for bank, form in predictor.forms.items():
        others = [name for name in banks if name != bank]
        known = np.unique(banks[bank].index[banks[bank].index >= 0])
        alone = predictor.predict_values(**{bank: banks[bank].values[known]})
        told.append(f"| none: {form.source}s of the test alone | {turned_away(alone)} | | |")
        for name, values in values_of(form, goods[bank], rng).items():
            cells = [turned_away(predictor.predict_values(**{bank: values})), "", ""]
            if others:
                labels = rng.integers(len(rows), size=len(values))
                beside = np.array([rng.choice(rows[label]) for label in labels])
                given = {other: banks[other].values[banks[other].index[beside]] for other in others}
                pairs = predictor.predict_values(**{bank: values}, **given)
                cells[1:] = [turned_away(pairs), f"{100 * (pairs.label == labels).mean():.1f}"]
            told.append(f"| {form.source}: {name} | {' | '.join(cells)} |")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, default=Path("mlruns"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("\n".join(lines(load(given.model, store=given.store), load_dataset(given.data), given.seed)))


if __name__ == "__main__":
    main()
