"""The networks of a cross-validation as one model: nothing that is said of a row comes of a network that it trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from tracked import track_study

import mmtune
from mmtune.api.loading import load
from mmtune.base.commands import command_line, in_checkout
from mmtune.base.errors import InputError
from mmtune.best.folds import of_folds
from mmtune.best.together import together
from mmtune.best.tracked import MEMBERS
from mmtune.cli import answer, app
from mmtune.cli.opening import Wanted, pick_whole
from mmtune.data.dataset import TEST, Dataset, quiet
from mmtune.networks.card import HELD, MODEL, VALIDATION
from mmtune.networks.config import MLP, LateFusion
from mmtune.networks.storage import load_model
from mmtune.report.page import write_report
from mmtune.serve.measured import VALIDATES
from mmtune.serve.promotion import promote
from mmtune.serve.robustness import measure
from mmtune.study import Study, StudyKey
from mmtune.study.options import Options
from mmtune.study.space import Real
from mmtune.tracking import MlflowTracker, StudyRun, TrialRun
from mmtune.train.answers import read_answers
from mmtune.train.batches import rows_of
from mmtune.train.evaluate import evaluate
from mmtune.train.recipe import Train, TrialConfig
from mmtune.tune.parts import Part, part_of
from mmtune.tune.run import run_study

STUDY = Study(
    name="folded",
    base=TrialConfig(
        model=LateFusion(encoders={"image": MLP(width=16), "audio": MLP(width=16)}),
        train=Train(weights="last", learning_rate=0.003),
    ),
    space=(Real(path="train.learning_rate", low=1e-4, high=1e-2, log=True),),
    objective="accuracy",
)


def searched(tiny: Dataset, store: Path, repeats: int) -> tuple[MlflowTracker, StudyRun]:
    """A study of three folds, trained."""
    options = Options(folds=3, repeats=repeats, epochs=2, sampler="reported", workers=1, device="cpu")
    done = run_study(STUDY, tiny, options, store, Console(quiet=True))
    assert done is not None
    tracker = MlflowTracker(store)
    found = tracker.study(done.key)
    assert found is not None
    return tracker, found


def parts_of(tracker: MlflowTracker, study: StudyRun) -> dict[Part, TrialRun]:
    return {part_of(own.tags): own for own in tracker.parts(study.run_id)}


def probabilities(tracker: MlflowTracker, part: TrialRun, dataset: Dataset) -> torch.Tensor:
    """Of all training rows, (N, C), as the part's own temperature has them."""
    loaded = load_model(tracker.artifact(part.run_id, MODEL))
    said = evaluate(loaded.model, rows_of(dataset.train, 10, loaded.config.reads))
    return torch.softmax(said.logits / part.metrics["temperature"], dim=1)


@pytest.mark.parametrize("repeats", [1, 2])
def test_each_row_is_answered_by_those_that_it_was_held_out_of(tiny: Dataset, store: Path, repeats: int) -> None:
    tracker, study = searched(tiny, store, repeats)
    parts = parts_of(tracker, study)
    shares = {part: probabilities(tracker, own, tiny) for part, own in parts.items()}
    expected = torch.zeros(len(tiny.train), 10)
    for part, own in parts.items():
        held = read_answers(tracker.artifact(own.run_id, HELD), ("row",))["row"]
        expected[held] += shares[part][held] / repeats
    assert expected.sum(1).numpy() == pytest.approx(1, abs=1e-5)

    made, (trial,) = together(tracker, STUDY, study, tiny, quiet)
    stored = read_answers(tracker.artifact(trial.run_id, VALIDATION), ("row", "label", "prediction"))
    assert np.array_equal(stored["row"], np.arange(len(tiny.train)))
    assert np.array_equal(stored["label"], tiny.train.labels)
    assert np.array_equal(stored["prediction"], expected.argmax(1).numpy())
    right = float((expected.argmax(1).numpy() == tiny.train.labels).mean())
    assert trial.metrics["best_val_accuracy"] == pytest.approx(right)

    # What answers new rows is the mean of all.
    whole = load_model(tracker.artifact(trial.run_id, MODEL))
    said = evaluate(whole.model, rows_of(tiny.train, 10, whole.config.reads))
    mean = torch.stack(list(shares.values())).mean(0)
    assert torch.softmax(said.logits, 1).numpy() == pytest.approx(mean.numpy(), abs=1e-4)
    assert json.loads(trial.tags[MEMBERS]) == pytest.approx(dict.fromkeys(whole.config.members, 1 / len(parts)))
    assert made.key.of_all_folds
    assert not study.key.of_all_folds


def test_it_is_promoted_predicts_and_is_told_as_what_it_is(tiny: Dataset, store: Path) -> None:
    tracker, study = searched(tiny, store, 1)
    made, (trial,) = together(tracker, STUDY, study, tiny, quiet)
    _, (again,) = together(tracker, STUDY, study, tiny, quiet)
    assert again.run_id == trial.run_id
    promotion = promote(tracker, made, tiny)
    assert promotion.is_champion
    test = tiny.require_test()
    predictor = load("folded", store=store)
    values = {bank: test.banks[bank].of_rows(np.arange(len(test))) for bank in ("image", "audio")}
    told = predictor.predict_values(**values)
    assert float((told.label == test.labels).mean()) == promotion.trial.metrics["test_accuracy"]
    page = write_report(tracker, made, STUDY, [study], None, tiny).read_text()
    assert "300 training rows, each by the folds it was held out of" in page
    assert page.count("every row has trained some of these networks") == 2
    with pytest.raises(InputError, match="must be measured on the test partition"):
        measure(tracker, made, trial, tiny, VALIDATES, quiet, 60)
    measured = measure(tracker, made, promotion.trial, tiny, TEST, quiet, 60)
    assert measured.rows == 60


def test_the_command_of_a_cross_validated_study_leads_to_a_model(
    tiny: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, trained = ["--store", str(tmp_path / "store")], ["--data", str(tiny.folder)]

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            answer(lambda: app([*words, *store]))
        return int(ended.value.code or 0), "".join(capsys.readouterr())

    short = ("--folds", "3", "--epochs", "1", "--trials", "1", "--workers", "1", "--device", "cpu")
    code, told = run("study", "image_cnn", *short, *trained)
    assert code == 0
    assert f"  |  {command_line('ensemble', 'image_cnn')}" in told
    code, told = run("promote", "image_cnn")
    assert code == 2
    assert "image_cnn must have one split to be promoted, it has 3 folds: `" in told
    run_id = told.split(f"{'RUN=' if in_checkout() else '--run '}")[1][:8]
    assert str(tmp_path / "store") in told
    code, told = run("ensemble", "image_cnn", "--run", run_id)
    assert code == 0
    assert "ensemble of 3 folds of trial_00" in told
    code, told = run("optuna", "image_cnn", "--out", f"sqlite:///{tmp_path / 'optuna.db'}")
    assert ".3-folds for Optuna" in told
    assert "ensemble" not in told
    code, told = run("promote", "image_cnn")
    assert code == 0
    assert "version 1 is champion" in told
    code, told = run("robustness", "image_cnn")
    assert code == 2
    assert "--test" in told


def test_a_last_run_of_folds_is_passed_over_aloud(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = MlflowTracker(store)
    own: dict[str, Any] = {"data": "tiny", "digest": "0" * 64, "protocol": "clip_disjoint", "seed": 0, "epochs": 1}
    keys = [StudyKey(study="folded", sampler="tpe", **own, folds=folds) for folds in (0, 3, 40)]
    runs = [track_study(tracker, key).run_id for key in keys[:2]]
    assert pick_whole(tracker, "folded", Wanted(), store=store).run_id == runs[0]
    told = capsys.readouterr().out
    assert "folded: passed over its last run, tiny, clip_disjoint, seed 0, 1 epochs, tpe, 3 folds, which has 3" in told
    assert command_line("ensemble", "folded", run=runs[1][:8], store=store) in told
    with pytest.raises(InputError, match=r"must have one split to be promoted, it has 40 folds$"):
        pick_whole(tracker, "folded", Wanted(run=track_study(tracker, keys[2]).run_id))


def test_from_python_an_ensemble_is_an_outcome_to_promote(tiny: Dataset, store: Path) -> None:
    trained = mmtune.run(STUDY, tiny, store=store, quiet=True, folds=3, epochs=1, sampler="reported", device="cpu")
    with pytest.raises(InputError, match=r"it has 3 folds: ensemble\(\) makes one model"):
        trained.promote()
    made = trained.ensemble()
    assert made.best is not None
    with pytest.raises(InputError, match="must be networks that were trained"):
        made.ensemble()
    assert list(made.trials().index) == [made.best.number]
    promoted = made.promote()
    assert promoted.trial.run_id == made.best.run_id
    assert made.report().is_file()
    # What another study of the same name makes stands beside it, and is not what is promoted.
    other = mmtune.run(
        STUDY, tiny, store=store, quiet=True, folds=3, epochs=1, sampler="random", trials=1, device="cpu"
    )
    again = other.ensemble()
    assert again.best is not None
    assert again.promote().trial.run_id == again.best.run_id
    assert made.promote().trial.run_id == made.best.run_id


def test_too_many_to_answer_together_are_refused(tiny: Dataset, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, study = searched(tiny, store, 1)
    monkeypatch.setattr("mmtune.best.folds.MOST_MEMBERS", 2)
    (trial,) = tracker.trials(study.run_id)
    with pytest.raises(InputError, match=r"at most 2 networks may answer together, .* has 3 a trial"):
        of_folds(tracker, study, trial)
    tracker.discard(next(iter(parts_of(tracker, study).values())).run_id)
    with pytest.raises(
        InputError, match=r"all folds of .* must be tracked, 2 of 3 of trial 00 are: run the study again"
    ):
        of_folds(tracker, study, trial)
    with pytest.raises(InputError, match="must be asked about its own data"):
        together(tracker, STUDY, study, replace(tiny, digest="0" * 64), quiet)
