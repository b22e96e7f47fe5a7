"""What `mmtune data info` and `build` say, and what is drawn."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filesets import pictures, random_partition, recordings
from PIL import Image

from mmtune.base.errors import InputError
from mmtune.data.building.arrays import from_arrays
from mmtune.data.building.asking import Folders
from mmtune.data.building.build import build
from mmtune.data.dataset import Dataset
from mmtune.data.figure import draw_rows
from mmtune.data.info import found, lines
from mmtune.data.protocols import leakage, split


def test_the_lines_carry_what_can_be_counted(folder: Path, dataset: Dataset) -> None:
    text = "\n".join(lines(dataset))
    for part in (
        "90 rows of 10 classes",
        "30 rows of 10 classes",
        "digit 28 x 28; 90 + 30 values",
        "made by the tests",
    ):
        assert part in text
    assert "speaker     4 in training, 2 in the test, 2 in both" in text
    assert "leakage     0 of 30 test rows" in text


def test_the_lines_say_what_leaks(dataset: Dataset) -> None:
    part = random_partition(600, 240)
    said = {line.split()[0]: line for line in lines(replace(dataset, train=part, test=None)) if line}
    for protocol in ("as_reported", "clip_disjoint", "speaker_disjoint", "disjoint:content"):
        own = split(part, protocol, 0)
        for name, share in leakage(part, own).items():
            assert f"{name} {share:.1%}" in said[protocol]
        assert f"{len(own.train)} + {len(own.validation)} rows" in said[protocol]


def test_protocols_that_are_not_possible_say_why(tmp_path: Path) -> None:
    made = build(Folders(pictures(tmp_path / "images", ["a", "b"], each=9)), tmp_path / "set")
    text = "\n".join(lines(made))
    assert "speaker     unknown, so speaker_disjoint is not possible" in text
    assert "clip_disjoint     not possible: " in text
    some = replace(made.train, groups={"patient": np.where(np.arange(len(made.train)) < 3, "", "p")})
    text = "\n".join(lines(replace(made, train=some, test=None)))
    assert "unknown for 3 rows, so disjoint:patient is not possible" in text
    assert "disjoint:patient  not possible: disjoint:patient needs the patient of every row, unknown for 3" in text


def test_what_was_found_is_said_at_once_and_later(tmp_path: Path) -> None:
    names = [f"{word}_{who}_{n}.wav" for word in ("ant", "bee") for who in ("x", "y", "z") for n in range(1, 5)]
    recordings(tmp_path / "audio", names)
    (tmp_path / "audio" / "notes.txt").write_text("")
    made = build(Folders(audio=tmp_path / "audio"), tmp_path / "set")
    text = "\n".join(found(made))
    assert "recordings  by the naming FSDD, 16 for training and 8 for the test; test: drawn, no speaker on both" in text
    assert "1 of the files are ignored: notes.txt" in text
    assert "16 rows of 2 classes, 8 each: ant 8, bee 8" in text
    assert "2 in training, 1 in the test, 0 in both" in text
    assert set(found(made)) < set(lines(made))


def test_content_of_the_test_in_training_is_counted(dataset: Dataset) -> None:
    leaking = replace(dataset, test=dataset.train.take(np.arange(7)))
    assert "7 of 7 test rows have a picture, sound or array of training" in "\n".join(found(leaking))


def test_many_classes_and_strange_words_stay_short_and_printable(dataset: Dataset) -> None:
    made = from_arrays(labels=np.arange(2000) % 500, x=np.random.default_rng(0).normal(size=(2000, 2)))
    said = found(replace(made, provenance={"source": "a\x1b[31m\nb", "images": {"naming": ["x"], "ignored": 1}}))
    assert all(line.isprintable() and len(line) < 300 for line in said)
    assert "500 classes" in "\n".join(said)
    assert "and 488 more" in "\n".join(said)


@pytest.mark.parametrize("count", [1, 8])
def test_the_picture_shows_every_bank(dataset: Dataset, tmp_path: Path, count: int) -> None:
    draw_rows(dataset, tmp_path / "rows.png", count)
    with Image.open(tmp_path / "rows.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 150 * count
        assert picture.height > 500
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["rows.png"]


def test_banks_of_any_shape_are_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"v": (3,), "w": (99,), "m": (4, 5), "t": (2, 3, 4)}
    banks = {name: rng.normal(size=(20, *shape)) for name, shape in shapes.items()}
    banks["m"][::2] = np.nan
    colour = rng.integers(0, 255, (20, 3, 6, 6), np.uint8)
    frames = rng.integers(0, 255, (20, 5, 6, 6), np.uint8)
    draw_rows(from_arrays(labels=["$a^", "b_"] * 10, c=colour, f=frames, **banks), tmp_path / "rows.png", 4)
    assert (tmp_path / "rows.png").stat().st_size > 5000


def test_a_picture_that_cannot_be_written_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.*could not be written"):
        draw_rows(dataset, tmp_path / "nowhere" / "rows.png")


def test_no_module_loads_what_is_heavy_before_it_is_needed() -> None:
    program = (
        "import importlib, pkgutil, sys, mmtune.data as d\n"
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(d.__path__, 'mmtune.data.')]\n"
        "heavy = {'torch', 'soxr', 'sklearn', 'matplotlib', 'requests', 'PIL', 'soundfile', 'pandas', 'scipy'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
