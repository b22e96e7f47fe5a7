"""Pictures from files: of one digit in the form of MNIST (light ink on black, centred by mass), or as they are."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.bounds import MEBIBYTE, read_bounded
from mmtune.base.errors import InputError
from mmtune.data.media.paper import mark_of

SIDE = 28
IMAGE_SHAPE = (SIDE, SIDE)
BOX = 20  # MNIST's digits fit a box of 20 x 20 pixels
MAX_SIDE = 4096
MOST_PIXELS = 200_000_000
"""Of a JPEG, which is decoded at a reduced scale."""
KINDS = "PNG, JPEG or WebP"
HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
MOST_BYTES = 64 * MEBIBYTE
JPEG, START_OF_SCAN = b"\xff\xd8", b"\xff\xda"
MAX_SCANS = 100  # encoders write ten or so
MIN_CONTRAST = 32.0  # of 255
TWELVE_BITS = 4095
INK = 0.25  # of the darkest ink: what bounds the digit


def read_digit(path: Path) -> NDArray[np.uint8]:
    """(28, 28) uint8 of a PNG, JPEG, WebP or HEIC, whatever its size, colour, depth, alpha or polarity.

    A 28 x 28 picture with light ink passes unchanged. Raises InputError where the file is no such picture, is
    truncated, has several frames, is larger than 4096 pixels a side (a JPEG 200 megapixels) or 64 MiB, or shows
    nothing or several marks.
    """
    path = Path(path)
    grey = read_grey(path)
    low, high = float(grey.min()), float(grey.max())
    contrast = high - low
    if contrast < MIN_CONTRAST:
        raise InputError(
            f"{path}: ink must stand out by {MIN_CONTRAST:g} of 255 levels, the picture spans {contrast:.0f}"
        )
    if grey.shape == IMAGE_SHAPE:
        paper = paper_level(grey)
        light = paper <= (low + high) / 2
        if light or paper == high == 255:
            return np.rint(grey if light else 255 - grey).astype(np.uint8)
    try:
        return normalise(mark_of(grey))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_picture(path: Path, height: int, width: int, colour: bool) -> NDArray[np.uint8]:
    """A picture, upright, over white where it is transparent, stretched to so many pixels.

    (height, width) uint8 in grey, or (3, height, width) in colour. Raises InputError as `read_digit` does, but for
    what it shows, and where a picture of 16 bits uses 12 of them at most.
    """
    from PIL import Image

    def convert(picture: Any) -> NDArray[np.uint8]:
        # Of 16 bits of grey Pillow would make white whatever exceeds 8.
        deep = picture.mode.startswith("I")
        if deep:
            require_depth(path, np.asarray(picture))
        seen = (Image.fromarray(np.rint(to_grey(picture)).astype(np.uint8)) if deep else picture).convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB" if colour else "L")
        pixels = np.asarray(flat.resize((width, height), Image.Resampling.BICUBIC))
        return np.ascontiguousarray(np.moveaxis(pixels, -1, 0) if colour else pixels)

    made: NDArray[np.uint8] = opened(path, convert)
    return made


def read_grey(path: Path) -> NDArray[Any]:
    """Grey levels (height, width), uint8 or float32 in 0..255, as seen: upright, alpha over a contrasting ground."""
    return opened(path, to_grey)


def opened(path: Path, convert: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    """What becomes of a picture that Pillow has opened, upright; InputError as `read_digit` but for what it shows."""
    from PIL import Image, ImageOps

    content = read_bounded(path, MOST_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with pillow(path, content) as picture:  # which decodes nothing yet
                require_side(path, picture.size)
                frames = getattr(picture, "n_frames", 1)
                if frames > 1:
                    raise InputError(f"{path}: must be a single picture, has {frames} frames")
                return convert(ImageOps.exif_transpose(picture))
    except InputError:
        raise
    except Exception as error:  # a broken picture, or its Exif data, make Pillow raise errors of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = re.sub(r"cannot identify image file <_io\.BytesIO[^>]*>", "it cannot be identified as one", reason)
        raise InputError(f"{path}: must be a whole {KINDS} picture: {reason}") from error


def pillow(path: Path, content: bytes) -> Any:
    """A picture as Pillow opens it, a large JPEG at a reduced scale; InputError where that would take too much."""
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

    if content[4:8] == b"ftyp" and content[8:12] in HEIC:
        return heic(path, content)
    if not content.startswith(JPEG):
        return Image.open(BytesIO(content), formats=("PNG", "WEBP"))
    scans = content.count(START_OF_SCAN)
    if scans > MAX_SCANS:  # each may be a few bytes long and yet goes over the whole picture
        raise InputError(f"{path}: must have at most {MAX_SCANS} scans, has {scans}")
    # Of several pictures in one file, as cameras write them (MPO), this is the first.
    picture = JpegImageFile(BytesIO(content))
    if max(picture.size) > MAX_SIDE:
        # Of a progressive one all coefficients would be held, whatever the scale.
        most = MAX_SIDE**2 if picture.info.get("progressive") else MOST_PIXELS
        if picture.width * picture.height > most:
            size = f"{picture.width} x {picture.height}"
            raise InputError(f"{path}: must have at most {most:,} pixels, is {size}")
        # Of the sides' two scales the smaller counts: both are to be the same.
        share = MAX_SIDE // 2 / max(picture.size)
        picture.draft(picture.mode, (max(1, int(picture.width * share)), max(1, int(picture.height * share))))
    return picture


def heic(path: Path, content: bytes) -> Any:
    """A picture of a phone that writes HEIC; InputError where nothing here reads them."""
    try:
        from pillow_heif import open_heif
    except ImportError as error:
        raise InputError(f"{path}: HEIC pictures need pillow-heif: pip install 'mmtune[media]'") from error
    picture = open_heif(BytesIO(content), convert_hdr_to_8bit=True)
    require_side(path, picture.size)
    return picture.to_pillow()


def require_side(path: Path, size: tuple[int, int]) -> None:
    """Raise InputError where a picture of this width and height is too large to be decoded."""
    if max(size) > MAX_SIDE:
        raise InputError(f"{path}: must be at most {MAX_SIDE} pixels a side, is {size[0]} x {size[1]}")


def require_depth(path: Path, levels: NDArray[np.integer[Any]]) -> None:
    """Raise InputError where 16 bits of grey use so little of their range that 8 bits would keep few levels."""
    low, high = int(levels.min()), int(levels.max())
    if low < high <= TWELVE_BITS:
        raise InputError(
            f"{path}: 16 bits of grey must reach beyond level {TWELVE_BITS:,}, as 8 of them are kept; its levels are "
            f"{low:,} to {high:,}: scale all pictures alike, to 65,535"
        )


def to_grey(picture: Any) -> NDArray[Any]:
    """Grey levels of a picture of any mode that Pillow reads."""
    if picture.mode.startswith("I"):  # 16 bits of grey
        return np.asarray(picture).astype(np.float32) / np.float32(257)
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("L"))
    pair = np.asarray(picture.convert("RGBA").convert("LA")).astype(np.uint16)
    level, opacity = pair[..., 0], pair[..., 1]
    shown = level * opacity  # of 255 x 255, which 16 bits hold
    seen = float(shown.sum(dtype=np.int64) / max(opacity.sum(dtype=np.int64), 1))
    ground = 255 if seen < 128 else 0
    return (shown + ground * (255 - opacity)).astype(np.float32) / np.float32(255)


def paper_level(grey: NDArray[Any]) -> float:
    """The level of the ground: the median along the border."""
    return float(np.median(np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])))


def normalise(ink: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """MNIST's form of an ink map (h, w) in [0, 1]: cropped, longer side 20 pixels, centred by mass in 28 x 28."""
    from PIL import Image

    rows, columns = np.flatnonzero((ink >= INK).any(axis=1)), np.flatnonzero((ink >= INK).any(axis=0))
    crop = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    scale = BOX / max(crop.shape)
    height, width = (max(1, round(side * scale)) for side in crop.shape)
    small = np.asarray(Image.fromarray(crop).resize((width, height), Image.Resampling.BICUBIC))
    small = np.clip(small / min(float(small.max()), 1.0), 0.0, 1.0)  # bicubic overshoots; thin ink comes out faint
    canvas = np.zeros(IMAGE_SHAPE)
    top, left = (offset(small.sum(axis=1 - axis)) for axis in (0, 1))
    canvas[top : top + height, left : left + width] = small
    return np.rint(canvas * 255.0).astype(np.uint8)


def offset(profile: NDArray[Any]) -> int:
    """Where a profile of ink begins for its centre of mass to fall on pixel 14, as in MNIST, without being cut."""
    centre = float((profile * np.arange(len(profile))).sum() / profile.sum())
    return min(max(round(SIDE / 2 - centre), 0), SIDE - len(profile))
