"""What `mmtune data info` says and draws."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.info import draw_pairs, lines
from mmtune.data.protocols import PROTOCOLS, leakage, split


def test_the_lines_carry_what_can_be_counted(tiny: Dataset) -> None:
    text = "\n".join(lines(tiny))
    speakers = len(set(tiny.test.speaker))
    for part in (tiny.digest, "300 pairs, 120 clips, 12 speakers", "clip_disjoint", "made by"):
        assert part in text
    assert f"{len(tiny.test)} pairs, {len(tiny.test.clips)} clips, {speakers} speakers" in text
    assert max(map(len, text.split("\n"))) <= 160


def test_the_lines_say_what_leaks(tiny: Dataset) -> None:
    said = {line.split()[0]: line for line in lines(tiny) if line}
    for protocol in PROTOCOLS:
        made = split(tiny.train, protocol, 0)
        recording, speaker = leakage(tiny.train, made)
        rows = f"{len(made.train)} + {len(made.validation)} rows"
        assert f"{rows}; also in training: recording {recording:.1%}, speaker {speaker:.1%}" in said[protocol]
        assert (recording > 0.5) == (protocol == "as_reported")


def test_a_protocol_that_is_not_possible_says_why(tiny: Dataset) -> None:
    nobody = replace(tiny.train, speaker=np.full(len(tiny.train.clips), ""))
    text = "\n".join(lines(replace(tiny, train=nobody)))
    assert "not possible: speaker_disjoint needs the speaker" in text
    assert "speaker unknown" in text


@pytest.mark.parametrize("waveforms", [True, False])
@pytest.mark.parametrize("count", [1, 8, 12])
def test_the_picture_shows_the_pairs(tiny: Dataset, tmp_path: Path, waveforms: bool, count: int) -> None:
    sound = np.random.default_rng(0).integers(-20000, 20000, (len(tiny.train.clips), 16000), dtype=np.int16)
    made = replace(tiny, train=replace(tiny.train, waveforms=sound)) if waveforms else tiny
    draw_pairs(made, tmp_path / "pairs.png", count)
    with Image.open(tmp_path / "pairs.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 150 * count
        assert picture.height > (500 if waveforms else 350)
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.png"]


def test_a_picture_that_cannot_be_written_is_refused(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.*could not be written"):
        draw_pairs(tiny, tmp_path / "nowhere" / "pairs.png")


def test_no_module_loads_what_is_heavy_before_it_is_needed() -> None:
    program = (
        "import importlib, pkgutil, sys, mmtune.data as d\n"
        "[importlib.import_module(f'mmtune.data.{m.name}') for m in pkgutil.iter_modules(d.__path__)]\n"
        "heavy = {'torch', 'librosa', 'sklearn', 'matplotlib', 'requests', 'PIL', 'soundfile'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
