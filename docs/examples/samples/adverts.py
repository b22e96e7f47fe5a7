"""Small adverts, a sentence and a sketch each: `python adverts.py OUT` writes OUT/samples.csv and files.

Made here, not collected. Four of ten sentences say nothing of what is sold, and a wheel and a clock look much alike in
a sketch, so that neither is enough. A third of the adverts has no sketch. The vector of a sentence is scikit-learn's
hashed word counts; put any other in its place, such as what a language model makes of it.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from sklearn.feature_extraction.text import HashingVectorizer

ROWS, WORDS, SIDE = 360, 64, 32
OPENINGS = ("For sale:", "To give away,", "Moving house,", "Found in the attic:", "Bought last year,")
CLOSINGS = ("pick it up in the evening.", "price on request.", "as good as new.", "a few scratches.", "call after six.")
HINTS: Mapping[str, tuple[str, ...]] = {
    "bicycle": ("new tyres", "three gears", "the chain is oiled", "with a basket"),
    "clock": ("keeps time", "strikes the hour", "needs a battery", "to wind up"),
    "lamp": ("warm light", "needs a bulb", "with a shade", "the cable is long"),
    "table": ("seats six", "solid oak", "one drawer", "four legs"),
}
OF_ANY = ("heavy", "brass", "some rust", "with a bell", "green", "from my aunt", "made in Leiden", "forty years old")
SAYS_LITTLE = 0.4  # of all adverts


def vector_of(sentence: str) -> NDArray[np.float32]:
    """The hashed word counts (64,) of a sentence, of length 1."""
    hashed = HashingVectorizer(n_features=WORDS, alternate_sign=False)
    return hashed.transform([sentence]).toarray()[0].astype(np.float32)


def sentence_of(label: str, rng: np.random.Generator) -> str:
    """An opening, two of what may be said of anything, a closing, and mostly a hint at what it is."""
    said = rng.choice(OF_ANY, 2, replace=False).tolist()
    if rng.random() > SAYS_LITTLE:
        said.append(str(rng.choice(HINTS[label])))
    return f"{rng.choice(OPENINGS)} {', '.join(said)}, {rng.choice(CLOSINGS)}"


def sketch(label: str, rng: np.random.Generator) -> Image.Image:
    """A drawing in grey: of a bicycle often only a wheel, of a clock its face."""
    picture = Image.new("L", (SIDE, SIDE), int(rng.integers(200, 255)))
    pen, ink = ImageDraw.Draw(picture), int(rng.integers(0, 90))
    x, y = rng.uniform(-3, 3, 2)
    if label in ("bicycle", "clock"):
        pen.ellipse((7 + x, 7 + y, 25 + x, 25 + y), outline=ink, width=2)
        for turn in rng.uniform(0, 2 * np.pi, 2 if label == "clock" else 3):
            pen.line((16 + x, 16 + y, 16 + x + 8 * np.cos(turn), 16 + y + 8 * np.sin(turn)), fill=ink)
    elif label == "lamp":
        pen.polygon((16 + x, 5 + y, 8 + x, 15 + y, 24 + x, 15 + y), fill=ink)
        pen.line((16 + x, 15 + y, 16 + x, 27 + y), fill=ink, width=2)
    else:
        pen.rectangle((5 + x, 12 + y, 27 + x, 15 + y), fill=ink)
        for leg in (7, 25):
            pen.line((leg + x, 15 + y, leg + x, 26 + y), fill=ink, width=2)
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1)))


def write(folder: Path) -> None:
    """samples.csv with a row for each of 360 adverts, and new.npy with new.png, a bicycle that is in no row."""
    rng = np.random.default_rng(0)
    for name in ("words", "sketches"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / "samples.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["label", "words", "sketch", "sentence"])
        for row in range(ROWS):
            label = [*HINTS][row % len(HINTS)]
            sentence, words, drawn = sentence_of(label, rng), f"words/{row:03}.npy", f"sketches/{row:03}.png"
            np.save(folder / words, vector_of(sentence))
            sketch(label, rng).save(folder / drawn)
            table.writerow([label, words, drawn if rng.random() < 2 / 3 else "", sentence])
    np.save(folder / "new.npy", vector_of("Moving house, some rust, green, three gears, price on request."))
    sketch("bicycle", rng).save(folder / "new.png")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
