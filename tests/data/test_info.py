"""What `mmtune data info` says and draws."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.info import describe, draw_pairs, lines
from mmtune.data.protocols import leakage, split


def test_the_description_is_what_can_be_counted(tiny: Dataset) -> None:
    facts = describe(tiny)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["train"]["pairs"] == sum(facts["train"]["digits"]) == len(tiny.train)
    assert facts["train"]["clips"] == len(tiny.train.clips)
    assert facts["test"]["speakers"] == len(set(tiny.test.speaker))
    for protocol, said in facts["protocols"].items():
        made = split(tiny.train, protocol, 0)
        assert (said["recording_in_training"], said["speaker_in_training"]) == leakage(tiny.train, made)
    assert facts["protocols"]["as_reported"]["recording_in_training"] > 0.5


def test_the_lines_carry_the_numbers(tiny: Dataset) -> None:
    text = "\n".join(lines(describe(tiny)))
    for part in (tiny.digest, "300 pairs, 120 clips, 12 speakers", "clip_disjoint", "recording 0.0%", "made by"):
        assert part in text
    assert max(map(len, text.split("\n"))) <= 160


def test_a_protocol_that_is_not_possible_says_why(tiny: Dataset) -> None:
    nobody = replace(tiny.train, speaker=np.full(len(tiny.train.clips), ""))
    facts = describe(replace(tiny, train=nobody))
    assert "needs the speaker" in facts["protocols"]["speaker_disjoint"]["impossible"]
    assert facts["protocols"]["clip_disjoint"]["speaker_in_training"] is None
    text = "\n".join(lines(facts))
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


def test_importing_the_package_loads_nothing_and_its_names_no_torch() -> None:
    program = (
        "import sys; before = set(sys.modules); import mmtune.data\n"
        "own = {n for n in set(sys.modules) - before if n.partition('.')[0] not in sys.stdlib_module_names}\n"
        "assert own == {'mmtune', 'mmtune.data'}, own\n"
        "from mmtune.data import *\n"
        "import mmtune.data as d; [getattr(d, name) for name in dir(d)]\n"
        "heavy = {'torch', 'librosa', 'sklearn', 'matplotlib', 'requests', 'pooch', 'PIL', 'soundfile'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
