"""Names of classes: digits are known however they are written, all other names stay as they are."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from mmtune.data.digits import WORDS

BEFORE = "digit|number|num|class|label"


def digit_of(name: str) -> str | None:
    """The digit that names such as 7, 07, Seven, digit_7 or ٧ stand for, "0" to "9"; None for other names."""
    plain = re.sub(rf"^(?:{BEFORE})[ _-]*", "", name.strip().casefold())
    if plain in WORDS:
        return str(WORDS.index(plain))
    # \d and int() know the digits of every script.
    number = int(plain) if re.fullmatch(r"\d{1,3}", plain) else len(WORDS)
    return str(number) if number < len(WORDS) else None


def classes_of(labels: Iterable[str]) -> dict[str, str]:
    """The class of each label: its digit where all of them are digits, otherwise its name."""
    named = dict.fromkeys(labels)
    digits = {label: digit_of(label) or "" for label in named}
    return digits if all(digits.values()) else {label: clean(label) for label in named}


def classes_among(labels: Iterable[str], wanted: Sequence[str]) -> dict[str, str]:
    """Which of the wanted classes each label is, those that are none left out.

    A label is a class by its name, else by what both are in any case or as a digit: cat is Cat, and 07 is seven.
    """
    times = Counter(map(likeness, wanted))
    alike = {likeness(name): name for name in wanted if times[likeness(name)] == 1}
    found = {label: clean(label) if clean(label) in wanted else alike.get(likeness(label)) for label in {*labels}}
    return {label: name for label, name in found.items() if name is not None}


def likeness(name: str) -> str:
    """What two names of one class have in common."""
    # So table programs write whole numbers of a column that has gaps.
    whole = re.sub(r"^([0-9]+)\.0+$", r"\1", clean(name).casefold())
    return digit_of(whole) or whole


def clean(name: str) -> str:
    """A name without spaces around it, its letters composed as people type them and macOS does not."""
    return unicodedata.normalize("NFC", name.strip())


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes, each once: numbers by their value, names by the alphabet."""
    found = set(names)
    numbers = all(re.fullmatch("[0-9]{1,18}", name) for name in found)
    return tuple(sorted(found, key=lambda name: (int(name) if numbers else 0, name)))
