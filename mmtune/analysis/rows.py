"""Rows of a data set as a page holds them: pictures, sounds one can play, what sounds look like, and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.media import bands_of, over_time, pixels, played, png
from mmtune.data.dataset import RECORDING, Partition
from mmtune.data.forms import Form, Sound, Vector
from mmtune.data.media.recordings import SAMPLE_RATE

SIDE, SECONDS = 96, 2.0
"""Pixels of a picture's longer side, and seconds of a sound, at most."""
MOST_NUMBERS = 6


class Media:
    """The pictures, sounds and numbers of rows as a page holds them, until there are `most` bytes of them.

    banks: what the network reads; forms: what banks were made of, by name.
    """

    def __init__(self, part: Partition, banks: Sequence[str], forms: Mapping[str, Form], most: int) -> None:
        self.part, self.banks, self.forms, self.left = part, banks, forms, most
        heard = any(isinstance(forms[bank], Sound) for bank in banks)
        samples = [name for name, bank in part.banks.items() if bank.values.dtype == np.int16 and bank.values.ndim == 2]
        # What is heard as features is played from the samples, where the data have them.
        others = (["waveform"] if "waveform" in samples else samples[:1]) if heard else []
        self.played = [name for name in samples if name in banks] or others

    @property
    def full(self) -> bool:
        """Whether something was left out."""
        return self.left < 0

    def kept(self, made: Mapping[str, str]) -> dict[str, str]:
        """Data URIs as long as there is room for them."""
        found = {}
        for bank, uri in made.items():
            self.left -= len(uri)
            if self.left >= 0:
                found[bank] = uri
        return found

    def values(self, banks: Sequence[str], place: int) -> dict[str, NDArray[Any]]:
        """What a row has in banks, where it has something."""
        held = {bank: self.part.banks[bank] for bank in banks}
        return {bank: own.values[own.index[place]] for bank, own in held.items() if own.index[place] >= 0}

    def heard(self, place: int) -> dict[str, NDArray[Any]]:
        """The first SECONDS of what a row has to be played."""
        return {bank: own[: round(SECONDS * SAMPLE_RATE)] for bank, own in self.values(self.played, place).items()}

    def groups(self, place: int) -> dict[str, str]:
        """Whose row it is, as far as that is known; a recording's name says nothing to who hears it."""
        return {name: str(own[place]) for name, own in self.part.groups.items() if name != RECORDING and own[place]}

    def pictures(self, place: int) -> dict[str, str]:
        """What is a picture already."""
        own = self.values(self.banks, place)
        return self.kept({bank: png(pixels(value), SIDE) for bank, value in own.items() if value.dtype == np.uint8})

    def maps(self, place: int) -> dict[str, str]:
        """What sounds look like; features over time where nothing is played."""
        heard = {bank: png(over_time(bands_of(value)), SIDE) for bank, value in self.heard(place).items()}
        if heard:
            return self.kept(heard)
        own = self.values(self.banks, place)
        features = {bank: value for bank, value in own.items() if value.ndim == 2 and value.dtype.kind == "f"}
        return self.kept({bank: png(over_time(value), SIDE) for bank, value in features.items()})

    def sounds(self, place: int) -> dict[str, str]:
        """What can be heard."""
        return self.kept({bank: played(value) for bank, value in self.heard(place).items()})

    def numbers(self, place: int) -> dict[str, str]:
        """The first numbers of vectors, by name and in the units of the table where they are of one."""
        own = self.values(self.banks, place)
        vectors = {bank: value for bank, value in own.items() if value.ndim == 1 and value.dtype != np.int16}
        return {bank: numbers_of(self.forms[bank], value) for bank, value in vectors.items()}


def numbers_of(form: Form, value: NDArray[Any]) -> str:
    """The first numbers of a vector (D,), scaled as its form has it, as text."""
    names = [f"{name} " for name in form.columns] if isinstance(form, Vector) else [""] * len(value)
    # What is 0 on the scale to the last bit is not measured but filled.
    filled = (value == 0) & (isinstance(form, Vector) and form.filled)
    told = zip(names, form.unscaled(value[None])[0], filled, strict=True)
    shown = [f"{name}{own:.4g}{' (the mean)' * bool(gap)}" for name, own, gap in list(told)[:MOST_NUMBERS]]
    return ", ".join([*shown, *(["..."] if len(value) > MOST_NUMBERS else [])])
