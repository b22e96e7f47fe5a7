"""From data and time to a registered model: the whole road on small data."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mmtune.api.loading import load
from mmtune.base.errors import InputError
from mmtune.best.pace import Pace
from mmtune.best.run import find_best
from mmtune.best.state import State, read_state, write_state
from mmtune.best.task import Found, Task
from mmtune.best.together import ensemble_key, together
from mmtune.best.tracked import MEMBERS, Final, track_finals
from mmtune.cli import answer, app
from mmtune.data.dataset import Dataset, quiet
from mmtune.data.protocols import split
from mmtune.networks.config import MLP, LateFusion, OneOf, SmallCNN
from mmtune.networks.randomness import CPU
from mmtune.networks.shapes import shapes_of
from mmtune.networks.storage import Loaded
from mmtune.pool.local import LocalPool
from mmtune.serve.promotion import promote
from mmtune.study import Study
from mmtune.study.options import Options
from mmtune.study.space import Real, one_of
from mmtune.tracking import COMPLETE, MlflowTracker
from mmtune.train.batches import Resident
from mmtune.train.recipe import Train, TrialConfig
from mmtune.tune.plan import make_key
from mmtune.tune.run import run_study

ENCODER = OneOf(chosen="cnn", options={"cnn": SmallCNN(width=16, channels=8), "mlp": MLP(width=16)})
STUDY = Study(
    name="best_tiny",
    base=TrialConfig(
        model=LateFusion(encoders={"image": ENCODER, "audio": MLP(width=16)}),
        train=Train(weights="last", learning_rate=0.003, modality_dropout=0.2),
    ),
    space=(
        *one_of("model.encoders.image", {"cnn": (), "mlp": ()}),
        Real(path="train.learning_rate", low=1e-4, high=1e-2, log=True),
    ),
)

OWN = """from mmtune import Real, Study, Train, TrialConfig
from mmtune.networks import MLP, LateFusion

STUDY = Study(
    name="best_tiny",
    base=TrialConfig(model=LateFusion(encoders={"image": MLP()}), train=Train(learning_rate=0.003)),
    space=(Real(path="train.learning_rate", low=1e-4, high=1e-2, log=True),),
)
"""


def task(tiny: Dataset, store: Path, seconds: float) -> Task:
    return Task(
        study=STUDY,
        dataset=tiny,
        seconds=seconds,
        options=Options(seed=0, workers=2, device="cpu"),
        root=store,
        console=Console(quiet=True),
        stopped=lambda: False,
        make_pool=LocalPool,
    )


def test_what_is_made_of_networks_is_tracked_promoted_and_predicts(tiny: Dataset, store: Path) -> None:
    """Twice in the same study, as after a kill half-way: what that left is gone."""
    sides = split(tiny.train, "clip_disjoint", 0)
    resident = Resident(tiny.train, 10, CPU)
    shapes = shapes_of(tiny.train, 10)
    loaded = Loaded(model=STUDY.base.model.build(shapes).eval(), config=STUDY.base.model, shapes=shapes)
    tracker = MlflowTracker(store)
    key = ensemble_key(make_key(STUDY, tiny, Options(protocol="clip_disjoint"), 3, {}))
    parent = tracker.open_study(key, {})
    half = tracker.begin(tracker.experiment(key.study), "half", 0, {"mlflow.parentRunId": parent,
                         "mmtune.number": "0", "mmtune.params": "{}", "mmtune.kind": "trial"})  # fmt: skip
    finals = [Final(name=f"{what} of a", loaded=loaded, members={"a": 1.0}, dropout=0.2) for what in ("soup", "single")]
    study, trials = track_finals(tracker, STUDY, tiny, key, finals, resident, sides)
    assert trials == tracker.trials(study.run_id)
    assert [(own.number, own.state) for own in trials] == [(1, COMPLETE), (2, COMPLETE)]
    assert half not in {own.run_id for own in trials}
    assert trials[0].tags[MEMBERS] == '{"a": 1.0}'
    assert 0 <= trials[0].metrics["best_val_macro_f1"] <= 1
    _, again = track_finals(tracker, STUDY, tiny, key, finals, resident, sides)
    assert [own.run_id for own in again] == [own.run_id for own in trials]
    assert len(tracker.trials(study.run_id)) == 2

    made = promote(tracker, study, tiny)
    assert made.trial.number == 1
    assert "test_accuracy" in made.trial.metrics
    predictor = load("best_tiny", store=store)
    assert set(predictor.missing) >= {"image", "audio"}
    test = tiny.require_test()
    told = predictor.predict_values(**{bank: test.banks[bank].of_rows(np.arange(4)) for bank in ("image", "audio")})
    assert len(told) == 4


def test_trials_of_a_study_and_repeats_of_a_trial_answer_together(tiny: Dataset, store: Path) -> None:
    """Of two trials, and of one that was trained twice; what comes of it loses no more than the best one."""
    tracker = MlflowTracker(store)
    for sampler, repeats, names in (("random", 1, "trial_0[01]"), ("reported", 2, "trial_00_repeat_[12]")):
        options = Options(trials=2, sampler=sampler, repeats=repeats, epochs=2, workers=1, device="cpu", prune=False)
        done = run_study(STUDY, tiny, options, store, Console(quiet=True))
        assert done is not None
        searched = tracker.study(done.key)
        assert searched is not None
        made, trials = together(tracker, STUDY, searched, tiny, quiet)
        assert made.key.sampler == "ensemble"
        assert all(re.fullmatch(names, name) for own in trials for name in json.loads(own.tags[MEMBERS]))
        single = trials[-1]
        assert single.name.startswith("single of ")
        losses = [own.metrics["val_loss_at_best"] for own in trials]
        assert min(losses) == pytest.approx(losses[0], abs=0.02)
        assert sum(json.loads(trials[0].tags[MEMBERS]).values()) == pytest.approx(1)
    with pytest.raises(InputError, match="must be asked about"):
        together(tracker, STUDY, searched, replace(tiny, digest="0" * 64), quiet)
    other = replace(STUDY, objective="loss")
    with pytest.raises(InputError, match="must search for what its trials did, macro-F1; it does not now"):
        together(tracker, other, searched, tiny, quiet)


def test_a_state_survives_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    state = State(
        made="x",
        paced=60.0,
        pace=Pace(seconds=2.0, epochs=4, left_out={"a": {"b": "why"}}),
        spent=1.5,
        again={"trial_00_seed_1": {"train.learning_rate": 0.1, "model.x": "cnn"}},
    )
    path = tmp_path / "best" / "own.json"
    assert read_state(path) is None
    write_state(path, state)
    assert read_state(path) == state
    path.write_text('{"format": 1, "epoch": 3}')
    with pytest.raises(InputError, match="must hold what `mmtune best` decided"):
        read_state(path)


def test_data_without_a_test_partition_are_refused(tiny: Dataset, store: Path) -> None:
    with pytest.raises(InputError, match="must have a test partition"):
        find_best(replace(task(tiny, store, 60), dataset=replace(tiny, test=None)))


def found_in_time(tiny: Dataset, store: Path, seconds: float) -> tuple[float, Found]:
    """What is found in so many seconds; on a machine too slow or too busy for them in twice as many, and so on."""
    while True:
        try:
            found = find_best(task(tiny, store, seconds))
        except InputError as error:
            if "give it more" not in str(error) or seconds > 1_000:
                raise
            seconds *= 2
        else:
            assert found is not None
            return seconds, found


@pytest.mark.slow
def test_from_time_to_a_certificate(tiny: Dataset, store: Path) -> None:
    """And again with the same time, which does nothing, and with more, which goes on."""
    seconds, found = found_in_time(tiny, store, 30)
    assert (found.version, found.is_champion) == ("1", True)
    path = found.path
    page = path.read_text()
    for words in ("macro-F1", "What it is not for", "What won", "Where it fails", "What was tried", "single of"):
        assert words in page
    assert "<script" not in page
    tracker = MlflowTracker(store)
    version = tracker.client.get_model_version("best_tiny", "1")
    assert "macro-F1" in version.description
    assert {own.key.sampler for own in tracker.studies("best_tiny")} == {"tpe", "ensemble"}
    again = [own for own in tracker.studies() if own.key.study.startswith("best_tiny_again_")]
    assert [own.key.sampler for own in again] == ["tries"]
    seeds = {own.tags["mmtune.seed"] for study in tracker.studies() for own in tracker.trials(study.run_id)
             if study.key.sampler != "ensemble"}  # fmt: skip
    assert len(seeds) == sum(len(tracker.trials(study.run_id)) for study in tracker.studies()
                             if study.key.sampler != "ensemble")  # fmt: skip
    written = path.stat().st_mtime_ns
    assert find_best(task(tiny, store, seconds)) == found
    assert path.stat().st_mtime_ns == written
    before = {own.key.sampler: tracker.count(own.run_id) for own in tracker.studies("best_tiny")}
    longer = find_best(task(tiny, store, 2 * seconds))
    assert longer is not None
    assert longer.path == path
    after = {own.key.sampler: tracker.count(own.run_id) for own in tracker.studies("best_tiny")}
    assert after["tpe"] > before["tpe"]
    assert path.stat().st_mtime_ns > written


def test_a_study_that_cannot_be_searched_is_refused_before_anything_is_timed(tiny: Dataset, store: Path) -> None:
    listed = replace(STUDY, tries={"one": {"train.learning_rate": 0.01}}, space=())
    with pytest.raises(InputError, match="must be a space to search"):
        find_best(replace(task(tiny, store, 60), study=listed))
    deaf = replace(STUDY, base=TrialConfig(model=LateFusion(encoders={"smell": MLP()})), space=())
    with pytest.raises(InputError, match="smell"):
        find_best(replace(task(tiny, store, 60), study=deaf))
    assert not (store / "best").exists()


@pytest.mark.slow
def test_an_interrupted_command_goes_on(tiny: Dataset, tmp_path: Path) -> None:
    """Ended in its search by a signal to the command, it takes up what was there, and keeps to its time."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "best_tiny.py").write_text(OWN)
    command = [sys.executable, "-m", "mmtune.cli", "best", "--data", str(tiny.folder), "--hours", "0.02"]
    command += ["--store", str(tmp_path / "mlruns"), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    for line in first.stdout:
        if "complete" in line:
            break
    first.send_signal(signal.SIGINT)
    rest = first.stdout.read()
    assert first.wait(120) == 130, rest
    assert "goes on" in rest
    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "certificate:" in second.stdout
    state = next((tmp_path / "mlruns" / "best").glob("*.json"))
    told = read_state(state)
    assert told is not None
    assert told.certificate
    drawn = Image.new("L", (28, 28))
    drawn.paste(255, (11, 4, 17, 24))
    drawn.save(tmp_path / "stroke.png")
    with pytest.raises(SystemExit) as end:
        answer(lambda: app(["predict", "--model", "best_tiny", "--image", str(tmp_path / "stroke.png"),
                            "--store", str(tmp_path / "mlruns")]))  # fmt: skip
    assert end.value.code in (0, 3)
