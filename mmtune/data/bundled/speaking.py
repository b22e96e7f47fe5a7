"""Words that espeak-ng says in many voices, as recordings to train on beside those of people: more speakers."""

from __future__ import annotations

import io
import re
import tempfile
import wave
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.files import make_folder
from mmtune.data.bundled.espeak import known_accents, speak
from mmtune.data.bundled.voices import MEN, TEST, TRAINING, WOMEN, plan_takes
from mmtune.data.dataset import Progress, quiet
from mmtune.data.media.recordings import SAMPLE_RATE, resampled, to_float, to_int16

ACCENTS = TRAINING.accents + TEST.accents
FIRST_TAKE = 5
"""Takes 0 to 4 are a test by FSDD's convention, and no test is to be of such voices."""


def parse_words(texts: Sequence[str]) -> dict[str, str]:
    """What is said by its label, of texts as WORD or LABEL=WORDS; InputError where a label is none, or stands twice."""
    pairs = [(label, said or label) for label, _, said in (text.partition("=") for text in texts)]
    words = {label.strip(): said.strip() for label, said in pairs}
    if not words or len(words) < len(pairs) or not all(re.fullmatch(r"[^/_\0]+", label) for label in words):
        raise InputError(f"words must have labels, each once and without / or _, got {', '.join(texts) or 'none'}")
    return words


def write_voices(
    words: Mapping[str, str],
    out: Path,
    accents: Sequence[str] = ACCENTS,
    seed: int = 0,
    advance: Progress = quiet,
) -> list[Path]:
    """Write LABEL_VOICE_TAKE.wav, named as FSDD's, three takes of each word in 57 voices, into a folder: all or none.

    words: what is said, by label. accents: of espeak-ng, one is drawn for each take. 16-bit samples, 16 kHz, as clean
    as a synthesiser is. Raises InputError where a file is there already or espeak-ng has no such accent.
    """
    unknown = sorted({*accents} - known_accents())
    if unknown or not accents:
        raise InputError(f"accents must be those of espeak-ng, such as en-us or de, got {', '.join(unknown) or 'none'}")
    rng, cast = np.random.default_rng(seed), replace(TRAINING, accents=tuple(accents))
    every = [(label, voice, said) for voice in (*WOMEN, *MEN) for label, said in words.items()]
    takes = [take for _, voice, said in every for take in plan_takes(said, voice, cast, rng)]
    each = len(takes) // len(every)
    names = [f"{label}_{voice}_{FIRST_TAKE + take}.wav" for label, voice, _ in every for take in range(each)]
    there = next((name for name in names if (out / name).exists()), None)
    if there is not None:
        raise InputError(f"{out / there} must not be there yet: voices are added to a folder once")
    advance("speaking", 0, len(takes))
    spoken, rate = speak(takes)
    with tempfile.TemporaryDirectory(dir=make_folder(out), prefix=".voices-") as folder:
        for done, (name, samples) in enumerate(zip(names, spoken, strict=True)):
            advance("writing", done, len(names))
            (Path(folder) / name).write_bytes(as_wav(to_int16(resampled(to_float(samples), rate))))
        for name in names:
            (Path(folder) / name).rename(out / name)
    advance("writing", len(names), len(names))
    return [out / name for name in names]


def as_wav(samples: NDArray[np.int16]) -> bytes:
    """A WAV file of samples (n,) at 16 kHz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()
