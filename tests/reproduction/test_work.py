"""What a call says it will take: of a training that an earlier call began, the epochs that are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mmtune.data.dataset import Dataset
from mmtune.study import load_study
from mmtune.tracking import INTERRUPTED, MlflowTracker
from mmtune.train.staging import read_epochs
from mmtune.tune.run import run_study
from reproduction import work
from reproduction.children import Child
from reproduction.tasks import Order, Task
from reproduction.work import Work

EPOCHS = 20_000


@pytest.fixture
def begun(tiny: Dataset, store: Path) -> int:
    """How many epochs of a training were made before it was interrupted."""
    task, study = Task(study="audio_rnn", protocol="clip_disjoint", epochs=EPOCHS), load_study("audio_rnn")

    def some() -> bool:
        return any(len(read_epochs(path.parent)) > 1 for path in store.rglob("epochs.jsonl"))

    options = replace(task.options(study), device="cpu", workers=1)
    run_study(study, tiny, options, store, Console(quiet=True), stopped=some)
    tracker = MlflowTracker(store)
    (run,) = tracker.studies()
    (trial,) = tracker.trials(run.run_id)
    assert trial.state == INTERRUPTED
    return len(tracker.curves(trial.run_id, ("val_loss",))["val_loss"])


def test_an_interrupted_training_costs_what_is_missing_of_it(
    tiny: Dataset, store: Path, begun: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "epoch_seconds", lambda *given: 1.0)
    order = Order(
        seeds=(0,), epochs=EPOCHS, workers=1, device="cpu", data=tiny.folder, store=store, results=store / "R"
    )
    tasks = [Task(study="audio_rnn", protocol=protocol, epochs=EPOCHS) for protocol in ("clip_disjoint", "as_reported")]
    made = Work(order, MlflowTracker(store), {"audio_rnn": load_study("audio_rnn")}, tiny, tasks, Console(quiet=True))
    made._time(tasks, lambda: False)
    assert 1 < begun < EPOCHS
    assert [made.costs[task] for task in tasks] == pytest.approx([EPOCHS - begun, EPOCHS])
    child = Child(process=None, workers=1, log=store, offset=0, trained=begun)  # type: ignore[arg-type]
    made.running = {tasks[0]: child}
    assert made.time_left() is None
    child.trained, made.begun = EPOCHS, made.begun - 1_000
    left = made.time_left()
    assert left is not None
    # This call has made the missing epochs in 1,000 seconds; the other task has all of its own to make.
    assert left.total_seconds() == pytest.approx(1_000 * EPOCHS / (EPOCHS - begun), rel=0.05)
