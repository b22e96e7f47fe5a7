"""What is said above the table, and which runs of a store stand in it."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from mmtune.data.dataset import Dataset
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.tracking import MlflowTracker
from mmtune.tune.run import run_study
from reproduction.measured import Result, at_stored_length, with_stored
from reproduction.statements import is_reference, statements
from reproduction.tasks import Task

QUIET = Console(quiet=True)


def result(study: str, **task: object) -> Result:
    return Result(task=Task(study=study, protocol="clip_disjoint", **task), study=load_study(study))  # type: ignore[arg-type]


def test_a_study_is_held_against_its_parts_and_its_partner_on_the_same_rows() -> None:
    assert is_reference(result("latent_fusion"), result("image_cnn"))
    assert is_reference(result("latent_fusion"), result("audio_rnn"))
    assert not is_reference(result("image_cnn"), result("latent_fusion"))
    assert is_reference(result("xflow_lstm", folds=6), result("xflow_lstm_baseline", folds=6))
    assert not is_reference(result("xflow_lstm", folds=6), result("xflow_lstm_baseline"))


@pytest.fixture(scope="module")
def tracker(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> MlflowTracker:
    """The three studies of one report, made again; one of them also for fewer epochs, and once by its own grid."""
    store = tmp_path_factory.mktemp("again") / "mlruns"
    for name, epochs in (("image_cnn", 2), ("audio_rnn", 6), ("audio_rnn", 1), ("latent_fusion", 2)):
        options = Options(sampler="reported", epochs=epochs, workers=1, device="cpu")
        run_study(load_study(name), tiny, options, store, QUIET)
    others = [Options(epochs=1, trials=1, workers=1, device="cpu")]
    # Neither a protocol that no table has, nor a choice of one's own, is a report's.
    own: dict[str, Any] = {"sampler": "reported", "epochs": 7, "workers": 1, "device": "cpu"}
    others += [Options(protocol="random", **own), Options(fixed={"model.hidden": 24}, **own)]
    for options in others:
        run_study(load_study("audio_rnn"), tiny, options, store, QUIET)
    return MlflowTracker(store)


@pytest.mark.slow
def test_the_longest_reported_run_of_each_study_stands_in_the_table(tracker: MlflowTracker, tiny: Dataset) -> None:
    found = with_stored(tracker, tiny, [])
    assert [(r.task.study, r.task.epochs) for r in found] == [
        ("audio_rnn", 6),
        ("image_cnn", 2),
        ("latent_fusion", 2),
    ]
    assert all(r.trial is not None and "test_accuracy" in r.trial.metrics for r in found)
    failed = [result("audio_rnn", epochs=1), result("audio_rnn", epochs=6, seed=1), result("dual_cnn_fusion", epochs=1)]
    names = [(r.task.study, r.task.epochs, r.task.seed) for r in with_stored(tracker, tiny, failed)]
    assert names[:3] == [("audio_rnn", 6, 0), ("audio_rnn", 6, 1), ("dual_cnn_fusion", 1, 0)]
    assert names[3:] == [("image_cnn", 2, 0), ("latent_fusion", 2, 0)]


@pytest.mark.slow
def test_what_the_store_has_at_a_greater_length_is_not_asked_for_at_a_smaller_one(
    tracker: MlflowTracker, tiny: Dataset
) -> None:
    studies = {name: load_study(name) for name in ("audio_rnn", "image_cnn")}
    asked = [result("audio_rnn", epochs=3), result("audio_rnn", epochs=3, seed=1), result("image_cnn", epochs=3)]
    tasks = at_stored_length(tracker, tiny, [own.task for own in asked], studies)
    assert [(task.epochs, task.seed) for task in tasks] == [(6, 0), (3, 1), (3, 0)]


@pytest.mark.slow
def test_gains_have_a_test_and_claims_their_numbers(tracker: MlflowTracker, tiny: Dataset) -> None:
    said = statements(tracker, tiny, with_stored(tracker, tiny, []))
    gains, claims = said[:2], said[2:]
    assert [line.split(" (")[0] for line in gains] == [
        "latent_fusion against audio_rnn",
        "latent_fusion against image_cnn",
    ]
    assert all("exact McNemar p" in line and "After Holm's correction p" in line for line in gains)
    assert len(claims) == 3
    assert all(
        f"holds in {held} of 1 networks" in line for line, held in zip(claims, map(held_in, claims), strict=True)
    )
    assert "silhouette image" in claims[0]
    assert "combined" in claims[1]
    assert "of 10 from the lowest silhouette" in claims[2]


def held_in(line: str) -> int:
    return int("latent_fusion yes" in line)
