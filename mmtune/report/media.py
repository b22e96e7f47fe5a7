"""Rows of a data set as a page holds them: pictures, sounds one can play, what sounds look like, and numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmtune.data.dataset import Dataset, Partition
from mmtune.data.features import SHORT_WINDOW, log_mel
from mmtune.data.forms import Form, Sound
from mmtune.data.recordings import SAMPLE_RATE
from mmtune.tracking import StudyRun

SIDE, SECONDS = 96, 2.0
"""Pixels of a picture's longer side, and seconds of a sound, at most."""
BANDS, MOST_NUMBERS = 40, 6


def same_data(dataset: Dataset | None, run: StudyRun, validation: Mapping[str, NDArray[Any]]) -> str:
    """Why rows of a study cannot be shown from a data set, "" where they can. validation: its stored answers."""
    if dataset is None or dataset.digest != run.key.digest:
        return "the data of this study are not where they were"
    rows = validation["row"]
    if rows.max() >= len(dataset.train) or not np.array_equal(dataset.train.labels[rows], validation["label"]):
        return "the stored answers are not of these data"
    return ""


class Media:
    """The pictures, sounds and numbers of rows as a page holds them, until there are `most` bytes of them.

    banks: what the network reads; forms: what banks were made of, by name.
    """

    def __init__(self, part: Partition, banks: Sequence[str], forms: Mapping[str, Form], most: int) -> None:
        self.part, self.banks, self.left = part, banks, most
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

    def pictures(self, place: int) -> dict[str, str]:
        """What is a picture already."""
        own = self.values(self.banks, place)
        return self.kept({bank: of_pixels(value) for bank, value in own.items() if value.dtype == np.uint8})

    def maps(self, place: int) -> dict[str, str]:
        """What sounds look like; features over time where nothing is played."""
        heard = {bank: of_map(bands_of(value)) for bank, value in self.values(self.played, place).items()}
        if heard:
            return self.kept(heard)
        own = self.values(self.banks, place)
        over_time = {bank: value for bank, value in own.items() if value.ndim == 2 and value.dtype.kind == "f"}
        return self.kept({bank: of_map(value) for bank, value in over_time.items()})

    def sounds(self, place: int) -> dict[str, str]:
        """What can be heard."""
        return self.kept({bank: of_samples(value) for bank, value in self.values(self.played, place).items()})

    def numbers(self, place: int) -> dict[str, str]:
        """The first numbers of vectors."""
        return {
            bank: ", ".join(f"{own:.3g}" for own in value[:MOST_NUMBERS])
            + (" ..." if len(value) > MOST_NUMBERS else "")
            for bank, value in self.values(self.banks, place).items()
            if value.ndim == 1 and value.dtype != np.int16
        }


def of_pixels(value: NDArray[np.uint8]) -> str:
    """A picture (H, W), (1, H, W) or (3, H, W), of a sequence its middle one, as a PNG's data URI."""
    while value.ndim > 3:
        value = value[len(value) // 2]
    if value.ndim == 3:
        value = np.moveaxis(value, 0, -1) if len(value) == 3 else value[len(value) // 2]
    return png(Image.fromarray(np.ascontiguousarray(value)))


def of_map(values: NDArray[np.float32]) -> str:
    """Features over time (T, F) as a picture, time to the right and the last feature on top, as a PNG's data URI."""
    from matplotlib import colormaps

    low, high = float(values.min()), float(values.max())
    share = (values.T[::-1] - low) / ((high - low) or 1.0)
    return png(Image.fromarray((colormaps["magma"](share)[..., :3] * 255).astype(np.uint8)))


def png(picture: Image.Image) -> str:
    """A picture's data URI, made smaller where it is larger than SIDE."""
    picture.thumbnail((2 * SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def of_samples(samples: NDArray[np.int16]) -> str:
    """Samples (n,) at 16 kHz, the first SECONDS of them, as the data URI of a WAV, of eight bits a sample (mu-law)."""
    import soundfile

    buffer = io.BytesIO()
    played = np.ascontiguousarray(samples[: round(SECONDS * SAMPLE_RATE)])
    soundfile.write(buffer, played, SAMPLE_RATE, format="WAV", subtype="ULAW")
    return f"data:audio/wav;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def bands_of(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """The logarithm of the power of samples (n,) in mel bands, floored 50 dB below its greatest, (T, BANDS)."""
    padded = np.pad(samples[: round(SECONDS * SAMPLE_RATE)], (0, max(0, SHORT_WINDOW - len(samples))))
    made = log_mel(padded[None], BANDS)[0]
    return made.clip(min=made.max() - np.float32(50 * np.log(10) / 10))
