"""Values as the pictures and sounds of a page, in data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmtune.data.media.features import SHORT_HOP, SHORT_WINDOW, log_mel, mel_power
from mmtune.data.media.recordings import SAMPLE_RATE

BANDS, FFT = 40, 512
MARK = (0, 229, 255)
"""A colour that neither greys nor those of `over_time` have."""
OPAQUE = 220
"""Of 255, that what is below may still be seen."""


def frame_of(value: NDArray[Any]) -> NDArray[Any]:
    """(H, W) or (3, H, W) of a picture (H, W), (1, H, W) or (3, H, W); of a sequence of them its middle one."""
    while value.ndim > 3:
        value = value[len(value) // 2]
    return value[len(value) // 2] if value.ndim == 3 and len(value) != 3 else value


def pixels(value: NDArray[np.uint8]) -> Image.Image:
    """The picture that `frame_of` gives."""
    frame = frame_of(value)
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(frame, 0, -1) if frame.ndim == 3 else frame))


def over_time(values: NDArray[np.float32]) -> Image.Image:
    """Features over time (T, F) as a picture, time to the right and the last feature on top."""
    from matplotlib import colormaps

    low, high = float(values.min()), float(values.max())
    share = (values.T[::-1] - low) / ((high - low) or 1.0)
    return Image.fromarray((colormaps["magma"](share)[..., :3] * 255).astype(np.uint8))


def marked(weights: NDArray[np.floating[Any]]) -> Image.Image:
    """Weights (H, W) >= 0 as a picture to lie over another: the greater half of them, the greatest the least clear.

    What lies beside counts too, as a gradient leaps from one number to the next.
    """
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(weights / (float(weights.max()) or 1.0), 1.0, mode="nearest")
    middle, top = float(np.median(smooth)), float(smooth.max())
    share = np.clip((smooth - middle) / ((top - middle) or 1.0), 0, 1)
    colour = np.broadcast_to(np.array(MARK, np.uint8), (*share.shape, 3))
    return Image.fromarray(np.dstack([colour, np.rint(share * OPAQUE).astype(np.uint8)]))


def png(picture: Image.Image, side: int) -> str:
    """A picture's data URI, made smaller where it is higher than `side` or wider than twice that."""
    picture.thumbnail((2 * side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def played(samples: NDArray[np.int16]) -> str:
    """Samples (n,) at 16 kHz as the data URI of a WAV, of eight bits a sample (mu-law)."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.ascontiguousarray(samples), SAMPLE_RATE, format="WAV", subtype="ULAW")
    return f"data:audio/wav;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def bands_of(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """The logarithm of the power of samples (n,) in mel bands, floored 50 dB below its greatest, (T, BANDS)."""
    made = log_mel(framable(samples)[None], BANDS)[0]
    return made.clip(min=made.max() - np.float32(50 * np.log(10) / 10))


def power_of(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """The power of samples (n,) in the same frames and bands as `bands_of` has, (T, BANDS)."""
    return mel_power(framable(samples)[None], SHORT_WINDOW, SHORT_HOP, "hann", BANDS, n_fft=FFT)[0].T


def framable(samples: NDArray[Any]) -> NDArray[Any]:
    """At least as many samples as a frame has, zeros after those that there are."""
    return np.pad(samples, (0, max(0, SHORT_WINDOW - len(samples))))
