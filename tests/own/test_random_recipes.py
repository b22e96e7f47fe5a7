"""Whatever recipe is drawn from the catalogue trains: a study of forty on the bundled sample has no failed trial."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from mmtune.data.bundled.sample import sample_folder
from mmtune.data.storage.store import load
from mmtune.networks.config import Conv1dEncoder, LateFusion, SmallCNN
from mmtune.study import Study, under
from mmtune.study.catalogue import (
    FEATURE_AUGMENTATION,
    MIXUP,
    MODALITY_DROPOUT,
    OUTLIERS,
    PENALTIES,
    PICTURE_AUGMENTATION,
    RECIPE,
)
from mmtune.study.options import Options
from mmtune.tracking import COMPLETE, MlflowTracker
from mmtune.train.augmentations import PictureAugmentation, SoundAugmentation
from mmtune.train.recipe import OPTIMIZERS, SCHEDULES, Train, TrialConfig
from mmtune.tune.run import run_study

TRIALS = 40
ENCODERS = {"image": SmallCNN(channels=4, width=16), "audio": Conv1dEncoder(channels=4, width=16)}
STUDY = Study(
    name="recipes",
    base=TrialConfig(
        model=LateFusion(encoders=ENCODERS),
        train=Train(epochs=2, augment={"image": PictureAugmentation(), "audio": SoundAugmentation()}),
    ),
    space=under("train", RECIPE + PENALTIES + MIXUP + MODALITY_DROPOUT + OUTLIERS)
    + under("train.augment.image", PICTURE_AUGMENTATION)
    + under("train.augment.audio", FEATURE_AUGMENTATION),
    trials=TRIALS,
)


@pytest.mark.slow
def test_forty_random_recipes_end_without_a_failed_trial(tmp_path: Path) -> None:
    options = Options(sampler="random", prune=False, keep="best:1")
    outcome = run_study(STUDY, load(sample_folder()), options, tmp_path / "mlruns", Console(quiet=True))
    assert outcome is not None
    assert (outcome.failed, outcome.finished) == (0, True)
    tracker = MlflowTracker(tmp_path / "mlruns")
    trials = tracker.trials(tracker.studies("recipes")[0].run_id)
    assert [trial.state for trial in trials] == [COMPLETE] * TRIALS
    drawn = {path: {trial.params[path] for trial in trials} for path in trials[0].params}
    offered = next(choice for choice in RECIPE if choice.path == "optimizer")
    assert drawn["train.optimizer"] == set(offered.values) <= set(OPTIMIZERS)  # type: ignore[union-attr]
    assert drawn["train.schedule"] == set(SCHEDULES)
