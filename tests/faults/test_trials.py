"""A trial that fails of itself says why, is made again once where that makes sense, and the study goes on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from checks import TRIALS, check_runs, command, run

from mmtune.data.dataset import Dataset
from mmtune.tracking import COMPLETE, FAIL, MlflowTracker, TrialRun

# Workers run this file too, and so train the network that it spoils.
SPOILT = """
import os, time
from contextlib import nullcontext
import torch
from mmtune.networks.papers.joshi import AudioRNN

forward = AudioRNN.forward

def spoilt(self, **given):
    found = forward(self, **given)
    if self.training and self.rnn.hidden_size == 350 and self.rnn.num_layers == 1:
        {fault}
    return found

AudioRNN.forward = spoilt
if __name__ == "__main__":
    from mmtune.cli import main
    from mmtune.pool import local
    local.without_main = nullcontext
    main()
"""
FAULTS = {
    "an exception": ("raise ZeroDivisionError('nothing to divide by')", "ZeroDivisionError: nothing to divide by", 2),
    "no number": (
        "found = found._replace(logits=found.logits * float('nan'))",
        "DivergenceError: training loss must be finite, got nan",
        1,
    ),
    "infinity": (
        "found = found._replace(logits=found.logits * 0 + torch.tensor([float('-inf')] + [0.0] * 9))",
        "DivergenceError: training loss must be finite, got inf",
        1,
    ),
    "too little memory": ("torch.empty(2**48)", "DefaultCPUAllocator", 2),
    "an exit": ("os._exit(3)", "worker exited with code 3", 2),
    "no progress": ("time.sleep(3600)", "worker hung: it said nothing for 40 s", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_trial_that_fails_costs_itself_alone(tiny: Dataset, store: Path, tmp_path: Path, fault: str) -> None:
    code, reason, attempts = FAULTS[fault]
    (tmp_path / "spoilt.py").write_text(SPOILT.format(fault=code))
    words = [sys.executable, str(tmp_path / "spoilt.py"), *command(tiny, store, "--hung-after", "40", epochs=20)[3:]]
    text = run(words)
    assert f"1 of {TRIALS} trials failed" in text
    runs = runs_of(store)
    failed = [one for one in runs if one.state == FAIL]
    assert [one.number for one in failed] == [2] * attempts
    for one in failed:
        assert reason in one.tags["mmtune.reason"]
        assert one.tags["mmtune.retry"] == str(attempts == 2)
    well = [one for one in runs if one.state == COMPLETE]
    assert [one.number for one in well] == [0, 1, 3]
    tracker = MlflowTracker(store)
    assert check_runs(tracker, tracker.studies()[0], 20) == well
    assert not list((store / "staging").glob("*"))
    assert "started" not in run(words)
    assert runs_of(store) == runs


def runs_of(store: Path) -> list[TrialRun]:
    tracker = MlflowTracker(store)
    (study,) = tracker.studies()
    return tracker.trials(study.run_id)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs a CPU that can be told to have less than it has")
def test_a_precision_that_the_machine_has_not_is_refused_before_any_trial(tiny: Dataset, store: Path) -> None:
    older = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    words = command(tiny, store, "--fix", "precision=bfloat16", study="xflow_lstm", epochs=1)
    done = subprocess.run(words, env=older, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert "precision must be float32 on this cpu for this network, got bfloat16: could not" in line
    assert "started" not in done.stdout
    assert not runs_of(store)
