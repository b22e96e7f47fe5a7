"""Who speaks the bundled sample's digits: voices of espeak-ng, those of the test unlike those of training."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mmtune.data.bundled.espeak import Utterance
from mmtune.data.digits import WORDS

# the variants of espeak-ng that sound like people: no robots, whispers or singers
# fmt: off
WOMEN = (
    "f1", "f2", "f3", "f4", "f5", "Alicia", "Andrea", "Annie", "anika", "aunty", "belinda", "grandma", "linda",
    "shelby", "steph", "steph2", "steph3",
)
MEN = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Alex", "Andy", "Denis", "Diogo", "Henrique", "Hugo", "Jacky",
    "Lee", "Mario", "Michael", "Mike", "Nguyen", "adam", "antonio", "boris", "caleb", "ed", "edward", "grandpa", "ian",
    "john", "marcelo", "max", "norbert", "pablo", "paul", "quincy", "rob", "robert", "sandro", "victor", "zac",
)
# fmt: on
TAKES = 3
INTONATIONS = ("", ".", "?", "!")
Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Cast:
    """So many women and men, their accents, and between what their takes are drawn.

    rate: words a minute; pitch, pitch_range: of espeak-ng's 0..99.
    """

    women: int
    men: int
    accents: tuple[str, ...]
    rate: Span
    pitch: Span
    pitch_range: Span


TRAINING = Cast(
    women=13,
    men=35,
    accents=("en-us", "en", "en-gb-scotland", "en-gb-x-gbcwmd", "en-029"),
    rate=(130, 210),
    pitch=(30, 70),
    pitch_range=(30, 70),
)
TEST = Cast(
    women=4,
    men=5,
    accents=("en-gb-x-rp", "en-gb-x-gbclan", "en-us-nyc"),
    rate=(125, 220),
    pitch=(25, 75),
    pitch_range=(25, 75),
)


def plan_voices(rng: np.random.Generator) -> tuple[list[Utterance], list[Utterance]]:
    """What is said by the training voices, and by the test voices: every digit, several takes each."""
    women, men = rng.permutation(WOMEN).tolist(), rng.permutation(MEN).tolist()
    ours = women[: TRAINING.women] + men[: TRAINING.men]
    theirs = women[TRAINING.women :][: TEST.women] + men[TRAINING.men :][: TEST.men]
    return plan_cast(TRAINING, ours, rng), plan_cast(TEST, theirs, rng)


def plan_cast(cast: Cast, variants: list[str], rng: np.random.Generator) -> list[Utterance]:
    """All that a cast says; each variant of a voice is one speaker, in one accent a take."""
    return [take for variant in variants for word in WORDS for take in plan_takes(word, variant, cast, rng)]


def plan_takes(word: str, variant: str, cast: Cast, rng: np.random.Generator) -> list[Utterance]:
    """Takes of one word: slow to fast, never the same rate twice."""
    edges = np.linspace(*cast.rate, TAKES + 1).astype(int)
    return [
        Utterance(
            word + rng.choice(INTONATIONS),
            f"{rng.choice(cast.accents)}+{variant}",
            int(rng.integers(low, high)),
            int(rng.integers(*cast.pitch)),
            int(rng.integers(*cast.pitch_range)),
        )
        for low, high in pairwise(edges)
    ]


def said(utterance: Utterance) -> int:
    """The digit that an utterance says."""
    return WORDS.index(utterance.word.rstrip("".join(INTONATIONS)))


def speaker(utterance: Utterance) -> str:
    """Who says it, whatever the accent."""
    return utterance.voice.partition("+")[2]
