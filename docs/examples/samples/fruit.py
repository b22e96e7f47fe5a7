"""Photos, weights and lengths of fruit from twelve orchards: `python fruit.py OUT` writes OUT/samples.csv and pictures.

Made here, not measured. An apple and a cherry are red and round in a photo, however large; their weight parts them. A
lemon and a lime weigh much the same; their colour parts them. Each orchard has a light of its own.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ORCHARDS, FROM_EACH, SIDE = 12, 24, 64


class Kind(NamedTuple):
    """colour: RGB; weight: grams; length: mm; roundness: height by width."""

    colour: tuple[int, int, int]
    weight: float
    length: float
    roundness: float


KINDS = {
    "apple": Kind((190, 40, 45), 160.0, 75.0, 0.95),
    "cherry": Kind((180, 30, 50), 8.0, 22.0, 0.95),
    "lemon": Kind((225, 205, 60), 90.0, 80.0, 0.65),
    "lime": Kind((95, 160, 60), 75.0, 65.0, 0.7),
}


def photo(kind: Kind, light: float, rng: np.random.Generator) -> Image.Image:
    """A fruit on a table, from a distance of nobody's choice."""
    picture = Image.new("RGB", (SIDE, SIDE), tuple(rng.integers(90, 150, 3).tolist()))
    width = rng.uniform(0.45, 0.8) * SIDE
    left, top = rng.uniform(2, SIDE - width - 2, 2)
    colour = tuple(np.clip(kind.colour + rng.normal(0, 12, 3), 0, 255).astype(int).tolist())
    ImageDraw.Draw(picture).ellipse((left, top, left + width, top + width * kind.roundness), fill=colour)
    seen = np.asarray(picture.filter(ImageFilter.GaussianBlur(1)), float) * light + rng.normal(0, 8, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))


def write(folder: Path) -> None:
    """samples.csv with a row for each of 288 fruits, their pictures, and new.png, a lime that is in no row."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    with (folder / "samples.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["label", "photo", "weight", "length", "orchard"])
        for orchard in range(ORCHARDS):
            light = rng.uniform(0.6, 1.2)
            for turn in range(FROM_EACH):
                label = [*KINDS][turn % len(KINDS)]
                path = f"photos/{orchard:02}-{turn:02}.png"
                photo(KINDS[label], light, rng).save(folder / path)
                weight, length = (KINDS[label].weight, KINDS[label].length) * rng.lognormal(0, (0.25, 0.1))
                table.writerow([label, path, f"{weight:.1f}", f"{length:.0f}", f"orchard {orchard}"])
    photo(KINDS["lime"], 1.0, rng).save(folder / "new.png")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
