"""Checkpoints that are damaged, and staging that is emptied: trials begin again, and end as they would have."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checks import begin, check_whole, command, eventually, results, run

from mmtune.data.dataset import Dataset
from mmtune.tracking import FAIL, LOST, MlflowTracker
from mmtune.train.checkpoint import Checkpoint, DamagedError, Moment, load_moment, save_moment
from mmtune.train.staging import CHECKPOINT

MOMENT = Moment(
    checkpoint=Checkpoint(weights={"a.weight": torch.arange(6.0)}, moments={"0.step": torch.ones(2)}),
    best={"a.weight": torch.zeros(6)},
    generators={"order": torch.zeros(8, dtype=torch.uint8)},
    average={"0": torch.ones(6)},
    story={"epoch": 3},
)
Damage = Callable[[Path], object]
DAMAGES: dict[str, Damage] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "empty": lambda path: path.write_bytes(b""),
    "changed": lambda path: path.write_bytes(path.read_bytes()[:-3] + b"xyz"),
    "nonsense": lambda path: path.write_bytes(b"nonsense"),
}


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    save_moment(tmp_path / CHECKPOINT, MOMENT)
    found = load_moment(tmp_path / CHECKPOINT)
    assert found is not None
    assert found.story == MOMENT.story
    for ours, theirs in (
        (MOMENT.checkpoint.weights, found.checkpoint.weights),
        (MOMENT.checkpoint.moments, found.checkpoint.moments),
        (MOMENT.best, found.best),
        (MOMENT.generators, found.generators),
    ):
        assert set(ours) == set(theirs)
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert load_moment(tmp_path / "none") is None


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_checkpoint_is_told(tmp_path: Path, damage: Damage) -> None:
    save_moment(tmp_path / CHECKPOINT, MOMENT)
    damage(tmp_path / CHECKPOINT)
    with pytest.raises(DamagedError, match="its checkpoint was changed or cut, so it begins again"):
        load_moment(tmp_path / CHECKPOINT)


@pytest.mark.slow
@pytest.mark.parametrize("emptied", [False, True])
def test_a_trial_whose_checkpoint_or_folder_is_lost_is_made_again(
    tiny: Dataset, store: Path, calm: Path, emptied: bool
) -> None:
    expected: list[dict[str, Any]] = results(calm)
    words = command(tiny, store, "--checkpoint-every", "0.2")
    process = begin(words)
    assert eventually(lambda: bool(list((store / "staging").glob(f"*/*/{CHECKPOINT}"))), 60)
    process.kill()
    process.communicate()
    checkpoints = list((store / "staging").glob(f"*/*/{CHECKPOINT}"))
    assert checkpoints
    for path in checkpoints:
        path.write_bytes(b"nonsense")
    if emptied:
        shutil.rmtree(store / "staging")
    run(words)
    check_whole(store)
    assert results(store) == expected
    tracker = MlflowTracker(store)
    failed = [trial for trial in tracker.trials(tracker.studies()[0].run_id) if trial.state == FAIL]
    told = {trial.tags["mmtune.reason"] for trial in failed}
    assert all(reason == LOST if emptied else "its checkpoint was changed or cut" in reason for reason in told)
    assert failed
