"""A metric of a newcomer's own, and two metrics, from a study's file through worker processes to a promoted trial."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmtune.data.dataset import Dataset
from mmtune.tracking import MlflowTracker

STUDY = '''"""What errors cost, and how small a network may be."""

import numpy as np

from mmtune.networks.config import LateFusion, SmallCNN
from mmtune.study import Metric, Study
from mmtune.study.space import Categorical, Real
from mmtune.train.recipe import Train, TrialConfig

WEIGHT = 2.0


def cost(labels, probabilities):
    return WEIGHT * np.abs(labels - probabilities.argmax(1)).mean()


STUDY = Study(
    name="{name}",
    base=TrialConfig(model=LateFusion(encoders={{"image": SmallCNN()}}), train=Train(epochs={epochs})),
    space=(
        Categorical(path="model.encoders.image.width", values=(4, 8, 16, 32)),
        Real(path="train.learning_rate", low=1e-3, high=3e-2, log=True),
    ),
    objective={objective},
    trials=8,
)
'''
COST = 'Metric(name="cost", function=cost, maximise=False)'


def write(here: Path, name: str, objective: str, epochs: int = 3) -> None:
    (here / "studies").mkdir(exist_ok=True)
    (here / f"studies/{name}.py").write_text(STUDY.format(name=name, objective=objective, epochs=epochs))


def mmtune(here: Path, *words: str, status: int = 0) -> str:
    """What a command prints, run in a folder of the user's own."""
    command = [sys.executable, "-m", "mmtune.cli", *words]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_metric_of_a_studys_file_ranks_what_worker_processes_train(tiny: Dataset, tmp_path: Path) -> None:
    write(tmp_path, "costly", COST, epochs=9)
    data = ["--data", str(tiny.folder)]
    said = mmtune(tmp_path, "study", "costly", *data, "--workers", "2")
    tracker = MlflowTracker(tmp_path / "mlruns")
    trials = tracker.trials(tracker.studies("costly")[0].run_id)
    complete = [trial.metrics["best_val_cost"] for trial in trials if trial.state == "COMPLETE"]
    assert f"val cost {min(complete):.4g}" in said.partition("best of costly")[2]
    assert "pruned" in said
    assert "version 1" in mmtune(tmp_path, "promote", "costly")
    assert "val cost" in mmtune(tmp_path, "promote", "costly", "--history")
    assert "costly" in mmtune(tmp_path, "report", "costly")
    (tmp_path / "studies/wrong.py").write_text(STUDY.format(name="wrong", objective=COST, epochs=1).replace("2.0", "a"))
    assert "studies/wrong.py:10" in mmtune(tmp_path, "study", "wrong", *data, status=2)
    write(tmp_path, "late", COST)
    broken = (tmp_path / "studies/late.py").read_text().replace("WEIGHT *", "WEIGHT / 0 *")
    (tmp_path / "studies/late.py").write_text(broken)
    assert "studies/late.py:14" in mmtune(tmp_path, "study", "late", *data, status=2)
    assert [run.key.study for run in tracker.studies()] == ["costly"]


@pytest.mark.slow
def test_a_front_is_killed_gone_on_with_reported_and_promoted_by_number(tiny: Dataset, tmp_path: Path) -> None:
    write(tmp_path, "sizes", '("macro_f1", "parameters")')
    command = ["study", "sizes", "--data", str(tiny.folder), "--workers", "1", "--folds", "0"]
    undisturbed = mmtune(tmp_path, *command, "--store", "other")
    running = subprocess.Popen(
        [sys.executable, "-m", "mmtune.cli", *command], cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE
    )
    until = time.monotonic() + 120
    while len(list((tmp_path / "mlruns/artifacts").glob("sizes/*"))) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    gone_on = mmtune(tmp_path, *command)
    front = re.compile(r"front of macro-F1 and parameters.*?(?=one of them)", re.DOTALL)
    lines = front.search(gone_on)[0]  # type: ignore[index]
    assert lines == front.search(undisturbed)[0]  # type: ignore[index]
    number = int(re.findall(r"trial (\d+)", lines)[-1])
    assert f"trial {number:02d}" in mmtune(tmp_path, "promote", "sizes", "--trial", str(number))
    assert "there is none of that number" in mmtune(tmp_path, "promote", "sizes", "--trial", "99", status=2)
    assert "--prune must be off" in mmtune(tmp_path, *command, "--prune", status=2)
    page = Path(mmtune(tmp_path, "report", "sizes").rpartition(": ")[2].strip()).read_text()
    assert f"#{number}</td>" in page.partition('<section id="front">')[2].partition("</section>")[0]
