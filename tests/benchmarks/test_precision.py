"""bfloat16 is chosen by one rule, and both precisions really train."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import pytest
import torch
from scipy.stats import sem

from benchmarks import precision
from benchmarks.cases import CPU
from mmtune.data.dataset import Dataset
from mmtune.train.batches import Resident

FULL = [0.90, 0.92, 0.97, 0.91]


def choice(ratio: float, differences: list[float]) -> str:
    half = [full + difference for full, difference in zip(FULL, differences, strict=True)]
    said = precision.verdict({"float32": [ratio, 99.0], "bfloat16": [7.0, 1.0]}, {"float32": FULL, "bfloat16": half})
    assert said["ratio"] == pytest.approx(ratio)
    assert said["difference"] == pytest.approx(statistics.fmean(differences))
    assert said["standard_error"] == pytest.approx(sem(differences), abs=1e-12)
    assert said["bfloat16_mean"] - said["float32_mean"] == pytest.approx(said["difference"])
    return str(said["choose"])


def test_bfloat16_must_be_faster_and_no_worse_than_one_standard_error() -> None:
    shape = [-0.03, -0.01, 0.01, 0.03]
    error = float(sem(shape))
    for behind, good in ((0.0, True), (0.9, True), (1.1, False), (5.0, False), (-5.0, True)):
        moved = [one - behind * error for one in shape]
        for ratio in (0.5, 1.0, 1.04, 1.06, 3.0):
            assert choice(ratio, moved) == ("bfloat16" if good and ratio > 1.05 else "float32"), (behind, ratio)


def test_both_precisions_are_trained_with_the_same_seeds_and_kept(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.json"
    words = ["audio_rnn", "--data", tiny.folder, "--seeds", "2", "--epochs", "1", "--rounds", "2", "--out", out]
    monkeypatch.setattr(sys, "argv", ["precision", *map(str, words)])
    precision.main()
    entry = json.loads(out.read_text())["networks"]["audio_rnn cpu"]
    assert entry["rows"] == len(tiny.train)
    assert all(len(own) == 2 and min(own) > 0 for own in entry["seconds"].values())
    assert all(0 < score <= 1 for own in entry["scores"].values() for score in own)
    assert entry["verdict"] == precision.verdict(entry["seconds"], entry["scores"])
    assert entry["verdict"]["choose"] in out.with_suffix(".md").read_text()
    assert "audio_rnn, seed 1: " in capsys.readouterr().out


def test_steps_in_bfloat16_are_other_steps(tiny: Dataset) -> None:
    config = CPU["audio_rnn"].configs[0]
    rows = Resident(tiny.train, 10, torch.device("cpu")).rows(config.model.reads)
    losses: dict[str, float] = {}
    for name in ("float32", "float32", "bfloat16"):
        step, engine = precision.ready(precision.in_precision(config, name), rows)
        assert precision.epoch_seconds(step, engine) > 0
        loss = step.scores()["train_loss"]
        assert losses.setdefault(name, loss) == loss
    assert losses["float32"] != losses["bfloat16"]
    assert losses["float32"] == pytest.approx(losses["bfloat16"], rel=0.05)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["nothing"], "must be one of audio_rnn"), (["--seeds", "1"], "2 or more"), (["--out", "r.txt"], ".json")],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["precision", *words])
    with pytest.raises(SystemExit) as ended:
        precision.main()
    assert said in f"{ended.value.code} {capsys.readouterr().err}"
    assert ended.value.code != 0
