"""A mark on paper, or on a board, as its photograph shows it: light levelled, ruled lines and specks left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]
LONGEST = 640
"""Pixels of the longer side in which marks are looked for; what is larger is averaged."""
COARSE = 160
"""And in which the ground is levelled, where a stroke is narrower than a quarter of it."""
STRONGEST = 0.001
"""The share of pixels, the darkest of all, that say how dark ink is."""
SURE, PERHAPS, FAINT = 0.5, 0.25, 0.1
"""Shares of that: what is ink, what is if it hangs together with ink, and what is if it is the soft edge of such."""
LIGHT, DARK, UNLIKELY = 140, 80, 0.4
"""Grounds above or below these levels have dark or light ink, unless it stands out by less than that share."""
ALIKE = 0.85
"""What stands out less than so much of what stands out to the other side is no ink."""
DARKEST = 32.0
"""Of a ground, of 255: in deeper shadow nothing is told by shares."""
THIN, WRITTEN = 0.06, 0.09
"""Shares of a mark's longer side: strokes thinner than the first are made as wide as the second, as MNIST's pen was."""
RUN, EDGE, THINNEST = 8, 30, 80
"""A ruled line has runs of an eighth of the picture's width, begins on its edge, and is thinner than an 80th."""
GAP = 0.15
"""And how far parts of one mark lie apart at most."""


def mark_of(grey: NDArray[Any]) -> Grey:
    """How much ink is where, (h, w) in [0, 1], of the one mark that grey levels (H, W) in 0..255 show.

    Ink may be darker or lighter than its ground, which may be lit unevenly and ruled. Raises InputError where there are
    several marks of about one size, or none.
    """
    small = shrunk(grey.astype(np.float32), LONGEST)
    ink = freed(ink_of(small, is_light(small)))
    ink = without_lines(np.minimum(ink / max(strongest(ink), 1e-6), 1.0))
    mask = one_mark(hysteresis(ink))
    return thickened(np.where(edged(mask) & (ink >= FAINT), ink, 0.0).astype(np.float32), mask)


def shrunk(grey: Grey, longest: int) -> Grey:
    """Averaged to at most so many pixels on the longer side."""
    from PIL import Image

    scale = longest / max(grey.shape)
    if scale >= 1:
        return grey
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BOX))


def is_light(grey: Grey) -> bool:
    """Whether the ink is lighter than its ground: of what stands out to either side, ink lies around the other."""
    coarse = shrunk(grey, COARSE)
    apart = [freed(ground_of(own) - own) for own in (coarse, 255 - coarse)]
    dark, light = map(strongest, apart)
    ground = float(np.median(grey))
    if ground > LIGHT or ground < DARK:
        likely, other = (dark, light) if ground > LIGHT else (light, dark)
        return (ground < DARK) == (likely >= UNLIKELY * other)
    if min(dark, light) < ALIKE * max(dark, light):
        return light > dark
    dark_extent, light_extent = (extent(own >= SURE * most) for own, most in zip(apart, (dark, light), strict=True))
    return light_extent > dark_extent


def freed(ink: Grey) -> Grey:
    """Ink without what is dark from the border on, such as a shadow or a table; all of it where little else is dark."""
    before = strongest(ink)
    mask = ink >= SURE * before
    left = np.where(mask & ~inside(mask), 0.0, ink).astype(np.float32)
    return left if strongest(left) >= PERHAPS * before else ink


def ground_of(grey: Grey) -> Grey:
    """The level of the light ground under what is darker and narrower than a quarter of the longer side."""
    from scipy.ndimage import grey_closing

    side = max(3, max(grey.shape) // 4 | 1)
    found: Grey = grey_closing(grey, size=(side, side), mode="nearest")
    return found


def extent(mask: Mask) -> int:
    """The area of the rectangle around what does not touch the border, or around all where everything does."""
    height, width = sides_of(inside(mask))
    return height * width


def sides_of(mask: Mask) -> tuple[int, int]:
    """Height and width of the rectangle around a mask, 0 of an empty one."""
    places = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    height, width = (int(np.ptp(own)) + 1 if len(own) else 0 for own in places)
    return height, width


def inside(mask: Mask) -> Mask:
    """What hangs together with nothing on the border; all of it where nothing else is left."""
    from scipy.ndimage import label

    named, count = label(mask, np.ones((3, 3)))
    border = np.unique(np.concatenate([named[0], named[-1], named[:, 0], named[:, -1]]))
    kept = np.isin(named, np.setdiff1d(np.arange(1, count + 1), border))
    return kept if kept.any() else mask


def ink_of(grey: Grey, light: bool) -> Grey:
    """How dark each pixel is beside the ground around it, (h, w) of about 0 to 1; how light, if ink is `light`."""
    from PIL import Image

    own = 255 - grey if light else grey
    ground = ground_of(shrunk(own, COARSE))
    if ground.shape != own.shape:
        ground = np.asarray(Image.fromarray(ground).resize(own.shape[::-1], Image.Resampling.BILINEAR))
    return np.asarray(np.maximum(ground - own, 0.0) / np.maximum(ground, DARKEST), np.float32)


def strongest(ink: Grey) -> float:
    """How dark ink is: the mean of the darkest pixels."""
    count = max(1, round(STRONGEST * ink.size))
    return float(np.partition(ink.ravel(), -count)[-count:].mean())


def hysteresis(ink: Grey) -> Mask:
    """What is ink, and what perhaps is and hangs together with it."""
    from scipy.ndimage import binary_propagation

    perhaps = ink >= PERHAPS
    grown: Mask = binary_propagation(ink >= SURE, np.ones((3, 3)), mask=perhaps)
    return grown


def edged(mask: Mask) -> Mask:
    """A mark with its soft edges."""
    from scipy.ndimage import binary_dilation

    grown: Mask = binary_dilation(mask, np.ones((3, 3)), iterations=max(1, max(mask.shape) // 50))
    return grown


def without_lines(ink: Grey) -> Grey:
    """Ink without straight lines from side to side, up or across; strokes that cross them are closed again."""
    return lines_out(lines_out(ink).T).T


def lines_out(ink: Grey) -> Grey:
    """Without lines across, which may lean a little."""
    from scipy.ndimage import binary_dilation, binary_opening, label

    height, width = ink.shape
    seen = ink >= FAINT
    thin = seen & ~binary_opening(seen, np.ones((max(4, height // THINNEST), 1)))
    # Over the lines that cross it; and a pixel more above and below makes long runs of what leans.
    runs = binary_opening(binary_dilation(closed(thin, (1, 9)), np.ones((3, 1))), np.ones((1, max(3, width // RUN))))
    named, _ = label(runs, np.ones((3, 3)))
    # What is written cuts a line in two.
    edge = max(1, width // EDGE)
    lines = np.isin(named, np.setdiff1d(np.concatenate([named[:, :edge], named[:, -edge:]], axis=None), [0]))
    if not lines.any():
        return ink
    lines |= thin & binary_dilation(lines, np.ones((1, width)))
    rest = np.where(lines, 0.0, ink).astype(np.float32)
    thick = round(float(lines.sum(axis=0).mean()) / max(1, label(lines[:, width // 2])[1])) + 3
    return np.where(lines & closed(rest >= PERHAPS, (thick, 1)), ink, rest).astype(np.float32)


def closed(mask: Mask, sides: tuple[int, int]) -> Mask:
    """A mask with what gaps it has that a rectangle does not fit into, those at its border too."""
    from scipy.ndimage import binary_closing

    reach = max(sides)
    found: Mask = binary_closing(np.pad(mask, reach), np.ones(sides))[reach:-reach, reach:-reach]
    return found


def one_mark(mask: Mask) -> Mask:
    """The parts of the one mark that a mask shows; InputError where it shows several."""
    from scipy.ndimage import binary_dilation, find_objects, label

    mask = inside(mask)
    if not mask.any():
        raise InputError("must show one digit, nothing in it hangs together")
    named, count = label(mask, np.ones((3, 3)))
    areas = np.bincount(named.ravel(), minlength=count + 1)[1:]
    largest = int(np.argmax(areas)) + 1
    box = find_objects(named)[largest - 1]
    side = max(own.stop - own.start for own in box)
    reach = max(1, round(GAP * side))
    near, _ = label(binary_dilation(mask, iterations=max(1, reach // 2)), np.ones((3, 3)))
    own = mask & (near == near[named == largest][0])
    rest, _ = label(mask & ~own, np.ones((3, 3)))
    sides = [max(part.stop - part.start for part in parts) for parts in find_objects(rest)]
    several = sum(size >= 0.5 * side for size in sides)
    if several:
        raise InputError(f"must show one digit, shows {several + 1} marks of about one size")
    # Dots and specks of what is no part of it.
    return own


def thickened(ink: Grey, mask: Mask) -> Grey:
    """Ink with strokes of the width that a pen of MNIST's had, where they are thinner."""
    from scipy.ndimage import distance_transform_edt, grey_dilation

    side = max(sides_of(mask))
    # Along a stroke of width w the distances to its edge have the mean w / 4.
    width = 4 * float(distance_transform_edt(mask)[mask].mean())
    if width >= THIN * side:
        return ink
    more = max(1, round(WRITTEN * side - width))
    y, x = np.ogrid[-more / 2 : more / 2 : (more + 1) * 1j, -more / 2 : more / 2 : (more + 1) * 1j]
    disc = x * x + y * y <= (more / 2) ** 2 + 0.5
    return np.asarray(grey_dilation(np.pad(ink, more), footprint=disc), np.float32)
