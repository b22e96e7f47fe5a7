"""mmtune, as its users run it: one call, with its own sampler, pruning and workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.rivals.asked import PROTOCOL, Asked

STORE = "store"


def search(asked: Asked) -> None:
    """The whole search; the same call again goes on with it."""
    import mmtune

    mmtune.run(
        asked.study,
        asked.data,
        store=asked.folder / STORE,
        quiet=True,
        fix=asked.fixed,
        trials=asked.trials,
        epochs=asked.epochs,
        sampler="tpe",
        protocol=PROTOCOL,
        seed=asked.seed,
        device="cpu",
    )


def trials(root: Path) -> list[dict[str, Any]]:
    """Every attempt at a trial as mmtune tracked it: its run, number and state."""
    from mmtune.tracking import MlflowTracker

    tracker = MlflowTracker(root / STORE)
    found = [run for study in tracker.studies() for run in tracker.trials(study.run_id)]
    return [{"run": run.run_id, "trial": str(run.number), "state": run.state} for run in found]


def held_out(asked: Asked) -> float:
    """The macro-F1 on the test partition of the best complete trial's model, as it is kept."""
    from mmtune.data.storage.store import load
    from mmtune.networks.card import MODEL
    from mmtune.serve.scoring import scored
    from mmtune.tracking import MlflowTracker

    tracker = MlflowTracker(asked.folder / STORE)
    study = tracker.studies()[0]
    best = tracker.best(study.run_id, study.key.objective)
    assert best is not None
    told = scored(tracker.artifact(best.run_id, MODEL), load(Path(asked.data)))
    return told.scores("test")["test_macro_f1"]
