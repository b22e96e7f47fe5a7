"""The bundled sample: real handwritten digits with spoken ones, made on this machine in seconds from what is installed.

Handwriting: scikit-learn's 1,797 digits (UCI optdigits), 8 x 8, as other hands would write them. Speech: espeak-ng, in
rooms and by microphones that are made up. Both are varied so far that networks and recipes differ in what they reach.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.data.building.asking import AUDIO, IMAGE, sounds
from mmtune.data.building.build import finished, with_banks
from mmtune.data.building.pairing import pair
from mmtune.data.building.sources import Asked
from mmtune.data.bundled.espeak import Utterance, speak
from mmtune.data.bundled.handwriting import Hands, write
from mmtune.data.bundled.recording_chain import Conditions, record
from mmtune.data.bundled.voices import TAKES, plan_voices, said, speaker
from mmtune.data.dataset import RECORDING, SPEAKER, Bank, Dataset, Partition, Progress
from mmtune.data.digits import DIGITS, WORDS
from mmtune.data.forms import Digit
from mmtune.data.identity import distinct
from mmtune.data.media.recordings import SAMPLE_RATE, at_rate, to_float, to_int16
from mmtune.data.storage.atomic import require_writable
from mmtune.data.storage.store import FORMAT, load, save

VERSION = 3  # raise it whenever the sample's content changes: caches of older versions are then left alone
DRAWN = 2  # the version in which what is drawn was another one last
TEST_IMAGES = 297
BANKS = (Asked(IMAGE, IMAGE, Digit()), *sounds(()))


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
    require_count("--seed", seed, 0)
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
    """The sample in memory: 1,500 + 297 pairs, 48 + 9 speakers, nobody and no accent in both partitions."""
    rng = np.random.default_rng([DRAWN, seed])
    recordings = [to_recordings(plan, *speak(plan), rng) for plan in plan_voices(rng)]
    report("computing features", 1, 3)
    recordings = [with_banks(own, BANKS) for own in recordings]
    provenance = {
        "source": "bundled sample",
        "images": "scikit-learn load_digits (UCI optdigits), varied, 28 x 28",
        "audio": "espeak-ng, English voices, in rooms with noise",
        "version": VERSION,
        "seed": seed,
    }
    train, test = (pair(*both, rng) for both in zip(handwriting(seed, rng), recordings, strict=True))
    dataset = finished("sample", DIGITS, train, test, BANKS, provenance)
    report("writing", 2, 3)
    return dataset


def to_recordings(
    plan: list[Utterance], spoken: list[NDArray[np.int16]], rate: int, rng: np.random.Generator
) -> Partition:
    """One-second recordings of a plan, each in a room and by a microphone of its own.

    A repeated or silent one would be a fault of ours.
    """
    recorded = [record(to_float(samples), rate, rng, Conditions()) for samples in spoken]
    waves = np.stack([to_int16(at_rate(wave.astype(np.float32), SAMPLE_RATE)) for wave in recorded])
    assert len(np.unique(waves, axis=0)) == len(waves), "two recordings are the same samples"
    assert np.abs(waves.astype(np.int32)).max(axis=1).min() > 1000, "a recording is silent"
    return Partition(
        banks={AUDIO: Bank(values=waves, index=np.arange(len(waves)))},
        labels=np.array([said(own) for own in plan], np.int64),
        groups={
            RECORDING: np.array([f"{WORDS[said(u)]}_{u.voice}_{i % TAKES}" for i, u in enumerate(plan)]),
            SPEAKER: np.array([speaker(own) for own in plan]),
        },
    )


def handwriting(seed: int, rng: np.random.Generator) -> list[Partition]:
    """scikit-learn's digits, each by a hand and a camera of its own, for training and test, classes in proportion."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    digits = pixels.reshape(-1, 8, 8) / 16.0
    parts = train_test_split(np.arange(len(labels)), test_size=TEST_IMAGES, random_state=seed, stratify=labels)
    written = [np.stack([write(digits[row], rng, Hands()) for row in rows]) for rows in parts]
    return [
        Partition(banks={IMAGE: distinct(pictures)}, labels=labels[rows].astype(np.int64), groups={})
        for rows, pictures in zip(parts, written, strict=True)
    ]
