"""The bundled sample: real handwritten digits with spoken ones, made on this machine in seconds from what is installed.

Handwriting: scikit-learn's 1,797 digits (UCI optdigits), 8 x 8, enlarged as MNIST was made. Speech: espeak-ng.
"""

from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.asking import AUDIO, IMAGE, sounds
from mmtune.data.atomic import require_writable
from mmtune.data.building import finished
from mmtune.data.dataset import RECORDING, SPEAKER, Bank, Dataset, Partition, Progress
from mmtune.data.digits import DIGITS, WORDS
from mmtune.data.espeak import Utterance, speak
from mmtune.data.forms import Digit
from mmtune.data.identity import distinct
from mmtune.data.pairing import pair
from mmtune.data.pictures import normalise
from mmtune.data.recordings import at_rate, to_float, to_int16
from mmtune.data.sources import Asked
from mmtune.data.store import FORMAT, load, save

VERSION = 1  # raise it whenever the sample's content changes: caches of older versions are then left alone
ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")
# the variants of espeak-ng that sound like people: no robots, whispers or singers
# fmt: off
VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "Alex", "Alicia", "Andrea",
    "Andy", "Annie", "Denis", "Diogo", "Henrique", "Hugo", "Jacky", "Lee", "Mario", "Michael", "Mike", "Nguyen",
    "adam", "anika", "antonio", "aunty", "belinda", "boris", "caleb", "ed", "edward", "grandma", "grandpa",
    "ian", "john", "linda", "marcelo", "max", "norbert", "pablo", "paul", "quincy", "rob", "robert", "sandro",
    "shelby", "steph", "victor", "zac",
)
# fmt: on
TRAIN_VOICES, TEST_VOICES, TAKES = 40, 9, 3
RATES, PITCHES, RANGES = (125, 225), (25, 75), (30, 70)
TEST_IMAGES = 297


def sample_folder(seed: int = 0, cache: Path | None = None, on_progress: Progress | None = None) -> Path:
    """The folder of `sample`."""
    return sample(seed, cache=cache, on_progress=on_progress).folder


def sample(seed: int = 0, *, cache: Path | None = None, on_progress: Progress | None = None) -> Dataset:
    """The bundled sample of a seed, made first, in seconds, where it is not there yet or is damaged.

    About 1,500 + 297 pairs of a written digit (`image`, uint8 (28, 28)) and its spoken name (`audio`, features (39,
    13); `waveform`, int16 (16000,)), the recordings and speakers of which are known.
    cache: where to keep it; by default `mmtune` in the user's cache folder. InputError where that cannot be written.
    on_progress: called with (what, done, total).
    """
    folder = (cache or cache_folder()) / f"sample-v{VERSION}.{FORMAT}-seed{seed}"
    if folder.exists():
        try:
            return load(folder)
        except InputError:
            shutil.rmtree(folder, ignore_errors=True)
    require_writable(folder)
    report = on_progress or (lambda what, done, total: None)
    report("synthesising speech", 0, 3)
    return save(make_sample(seed, report), folder, keep=True)


def cache_folder() -> Path:
    """`mmtune` in $XDG_CACHE_HOME, or else in ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".cache") / "mmtune"
    except RuntimeError as error:
        raise InputError(f"the cache folder needs $XDG_CACHE_HOME or a home folder: {error}") from error


def make_sample(seed: int, report: Progress) -> Dataset:
    """The sample in memory: about 1,500 + 297 pairs, 40 + 9 speakers, nobody in both partitions."""
    rng = np.random.default_rng([VERSION, seed])
    recordings = [to_recordings(plan, *speak(plan)) for plan in plan_voices(rng)]
    report("computing features", 1, 3)
    provenance = {
        "source": "bundled sample",
        "images": "scikit-learn load_digits (UCI optdigits), enlarged to 28 x 28",
        "audio": "espeak-ng, English voices",
        "version": VERSION,
        "seed": seed,
    }
    train, test = (pair(*both, rng) for both in zip(handwriting(seed), recordings, strict=True))
    dataset = finished("sample", DIGITS, train, test, [Asked(IMAGE, IMAGE, Digit()), *sounds(())], provenance)
    report("writing", 2, 3)
    return dataset


def plan_voices(rng: np.random.Generator) -> tuple[list[Utterance], list[Utterance]]:
    """What is said by the training voices, and by the test voices: every digit, several takes each."""
    variants = rng.permutation(VARIANTS)[: TRAIN_VOICES + TEST_VOICES]
    voices = [f"{ACCENTS[i % len(ACCENTS)]}+{variant}" for i, variant in enumerate(variants)]
    takes = [take for voice in voices for word in WORDS for take in plan_takes(word, voice, rng)]
    cut = TRAIN_VOICES * len(WORDS) * TAKES
    return takes[:cut], takes[cut:]


def plan_takes(word: str, voice: str, rng: np.random.Generator) -> list[Utterance]:
    """Takes of one word: slow to fast, never the same rate twice."""
    edges = np.linspace(*RATES, TAKES + 1).astype(int)
    return [
        Utterance(word, voice, int(rng.integers(low, high)), int(rng.integers(*PITCHES)), int(rng.integers(*RANGES)))
        for low, high in pairwise(edges)
    ]


def to_recordings(plan: list[Utterance], spoken: list[NDArray[np.int16]], rate: int) -> Partition:
    """One-second recordings of a plan; a repeated or silent one would be a fault of ours."""
    waves = np.stack([to_int16(at_rate(to_float(samples), rate)) for samples in spoken])
    assert len(np.unique(waves, axis=0)) == len(waves), "two utterances are the same samples"
    assert np.abs(waves.astype(np.int32)).max(axis=1).min() > 1000, "an utterance is silent"
    return Partition(
        banks={AUDIO: Bank(values=waves, index=np.arange(len(waves)))},
        labels=np.array([WORDS.index(u.word) for u in plan], np.int64),
        groups={
            RECORDING: np.array([f"{u.word}_{u.voice}_{i % TAKES}" for i, u in enumerate(plan)]),
            SPEAKER: np.array([u.voice for u in plan]),
        },
    )


def handwriting(seed: int) -> list[Partition]:
    """scikit-learn's digits as MNIST would show them, for training and for test, classes in proportion."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    enlarged = np.stack([normalise(digit / 16.0) for digit in pixels.reshape(-1, 8, 8)])
    parts = train_test_split(np.arange(len(labels)), test_size=TEST_IMAGES, random_state=seed, stratify=labels)
    return [
        Partition(banks={IMAGE: distinct(enlarged[rows])}, labels=labels[rows].astype(np.int64), groups={})
        for rows in parts
    ]
