"""Promotion, the gate, roll back and the registered files, on real MLflow stores and really trained models."""

from __future__ import annotations

import json
import os
import pickle
import pickletools
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, f1_score
from tracked import OBJECTIVE, track_study, track_trial

import mmtune
from mmtune.analysis.statistics import mcnemar_exact
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.digits import DIGITS, WORDS
from mmtune.data.forms import Digit, Mfcc
from mmtune.data.identity import distinct
from mmtune.data.protocols import split
from mmtune.networks.card import MODEL
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.config.base import ModelConfig
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.promotion import Promotion, changing, promote, register, rollback
from mmtune.serve.scoring import TEST, predict_partition, score_test
from mmtune.serve.versions import (
    FOUND,
    PROMOTED,
    ROLLED_BACK,
    Event,
    Registry,
    champion_folder,
    history,
    line_of,
    missing_event,
    reigns,
)
from mmtune.study import StudyKey
from mmtune.tracking import (
    COMPLETE,
    FAIL,
    PRUNED,
    MlflowTracker,
    StudyRun,
    best_trial,
)
from mmtune.train.batches import Resident
from mmtune.train.objective import MACRO_F1
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.staging import FILES
from mmtune.train.trial import Origin, run_trial

CPU = torch.device("cpu")
FORM = Mfcc(mean=(0.5,) * 13, std=(2.0,) * 13, low=-3.0, high=4.0)
FORMS = {"image": Digit(), "audio": FORM}


def partition(rows: slice) -> Partition:
    """Real handwritten digits at 28 x 28, each with a noisy clip of its own that depends on its class."""
    digits = load_digits()
    labels = digits.target[rows].astype(np.int64)
    small = (digits.images[rows] * 15.9).astype(np.uint8)
    generator = np.random.default_rng(len(labels))
    tones = np.random.default_rng(0).normal(size=(10, 39, 13))
    clips = (tones[labels] + 4.5 * generator.normal(size=(len(labels), 39, 13))).astype(np.float32)
    images = np.pad(np.kron(small, np.ones((1, 3, 3), np.uint8)), ((0, 0), (2, 2), (2, 2)))
    groups = {
        "recording": [f"clip{n}" for n in range(len(labels))],
        "speaker": [f"s{n % 7}" for n in range(len(labels))],
    }
    return Partition(
        banks={"image": distinct(images), "audio": distinct(clips)},
        labels=labels,
        groups={name: np.array(own) for name, own in groups.items()},
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset(
        name="digits",
        folder=tmp_path_factory.mktemp("data"),
        classes=DIGITS,
        forms=FORMS,
        train=partition(slice(0, 1200)),
        test=partition(slice(1200, None)),
        digest="d1" * 32,
        provenance={},
    )


@dataclass(frozen=True)
class Trained:
    folder: Path
    metrics: dict[str, float]


@pytest.fixture(scope="module")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Trials: `good` and `peer` differ in their seed, `poor` has hardly learnt; `image`, and `fusion` of the two."""
    torch.set_num_threads(1)
    made: dict[str, Trained] = {}
    audio, image = AudioRNNConfig(hidden=24), ImageCNNConfig()
    plans: dict[str, tuple[ModelConfig, int, float, int]] = {
        "good": (audio, 6, 3e-3, 1),
        "peer": (audio, 6, 3e-3, 2),
        "poor": (audio, 1, 1e-6, 3),
        "image": (image, 2, 2e-3, 4),
        "fusion": (LatentFusionConfig(image=image, audio=audio), 2, 3e-3, 5),
    }
    for name, (model, epochs, rate, seed) in plans.items():
        folder = tmp_path_factory.mktemp(name)
        config = TrialConfig(model=model, train=Train(epochs=epochs, learning_rate=rate))
        parts = {"image": "image", "audio": "good"} if name == "fusion" else {}
        encoders = {modality: made[part].folder / MODEL for modality, part in parts.items()}
        made_split = split(dataset.train, "clip_disjoint", 0)
        result = run_trial(
            config,
            Resident(dataset.train, len(dataset.classes), CPU),
            made_split,
            seed,
            folder,
            lambda e, m: True,
            Origin(encoders=encoders),
        )
        made[name] = Trained(folder / FILES, dict(result.metrics))
    return made


@pytest.fixture
def tracker(store: Path) -> MlflowTracker:
    return MlflowTracker(store)


def track(
    tracker: MlflowTracker,
    dataset: Dataset,
    *trials: Trained,
    seed: int = 0,
    study: str = "audio_rnn",
    state: str = COMPLETE,
) -> StudyRun:
    """A finished study with these trials, as the coordinator leaves it."""
    key = StudyKey(
        study=study,
        data=dataset.name,
        digest=dataset.digest,
        protocol="clip_disjoint",
        seed=seed,
        epochs=6,
        sampler="grid",
    )
    opened = track_study(tracker, key)
    for number, trial in enumerate(trials):
        track_trial(tracker, opened, number, {"n": number}, trial.metrics, state=state, files=trial.folder)
    tracker.end_study(
        opened.run_id, finished=True, best=best_trial(tracker.trials(opened.run_id), MACRO_F1), objective=MACRO_F1
    )
    return next(found for found in tracker.studies(study) if found.run_id == opened.run_id)


@pytest.fixture
def promoted(tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained]) -> Promotion:
    return promote(tracker, track(tracker, dataset, trained["good"]), dataset)


def one_line(refusal: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


# ---- the first promotion


def test_first_version_is_champion_and_scored_as_scikit_learn_scores(
    tracker: MlflowTracker, dataset: Dataset, promoted: Promotion
) -> None:
    assert (promoted.version, promoted.champion_before, promoted.champion_after) == ("1", None, "1")
    assert f"{promoted.trial.metrics['test_macro_f1']:.4f}" in promoted.describe()
    assert "--force" not in promoted.describe()
    assert Registry(tracker, "audio_rnn").champion() == "1"
    with np.load(tracker.artifact(promoted.trial.run_id, TEST), allow_pickle=False) as stored:
        label, prediction, probability = stored["label"], stored["prediction"], stored["probability"]
        assert np.array_equal(stored["row"], np.arange(len(dataset.test)))
    assert np.array_equal(label, dataset.test.labels)
    assert np.array_equal(probability.argmax(1), prediction)
    assert promoted.trial.metrics["test_accuracy"] == pytest.approx(accuracy_score(label, prediction))
    assert promoted.trial.metrics["test_macro_f1"] == pytest.approx(f1_score(label, prediction, average="macro"))
    of_classes = [promoted.trial.metrics[f"test_f1_{number}"] for number in range(10)]
    assert of_classes == pytest.approx(f1_score(label, prediction, average=None))


def test_promotion_leaves_the_statuses_of_runs_as_they_were(tracker: MlflowTracker, promoted: Promotion) -> None:
    found = tracker.client.search_runs([tracker.client.get_run(promoted.trial.run_id).info.experiment_id])
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len(found) == 2


def test_version_says_what_it_is(tracker: MlflowTracker, dataset: Dataset, promoted: Promotion) -> None:
    version = tracker.client.get_model_version("audio_rnn", "1")
    assert version.run_id == promoted.trial.run_id
    tags = version.tags
    assert tags["mmtune.digest"] == dataset.digest
    assert tags["mmtune.protocol"] == "clip_disjoint"
    assert tags["mmtune.study_key"].startswith("audio_rnn.digits-")
    assert float(tags["mmtune.best_val_macro_f1"]) == promoted.trial.metrics[OBJECTIVE]
    assert float(tags["mmtune.test_macro_f1"]) == promoted.trial.metrics["test_macro_f1"]
    assert (tags["mmtune.forced"], tags["mmtune.reason"]) == ("false", promoted.reason)


def test_best_is_by_validation_even_where_the_test_says_otherwise(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained]
) -> None:
    lucky = Trained(trained["poor"].folder, trained["poor"].metrics | {OBJECTIVE: 0.999, "test_macro_f1": 0.0})
    unlucky = Trained(trained["good"].folder, trained["good"].metrics | {OBJECTIVE: 0.998, "test_macro_f1": 1.0})
    assert promote(tracker, track(tracker, dataset, unlucky, lucky, unlucky), dataset).trial.number == 1


def test_the_first_of_equally_good_trials_is_taken(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained]
) -> None:
    assert promote(tracker, track(tracker, dataset, *[trained["good"]] * 3), dataset).trial.number == 0


@pytest.mark.parametrize("state", [PRUNED, FAIL])
def test_only_complete_trials_are_promoted(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], state: str
) -> None:
    with pytest.raises(InputError) as refusal:
        promote(tracker, track(tracker, dataset, trained["good"], state=state), dataset)
    assert "none of its 1 is" in one_line(refusal)


def test_other_data_is_refused_by_both_digests(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained]
) -> None:
    study = track(tracker, dataset, trained["good"])
    with pytest.raises(InputError) as refusal:
        promote(tracker, study, replace(dataset, name="others", digest="e" * 64))
    assert dataset.digest in one_line(refusal)
    assert "e" * 64 in str(refusal.value)
    assert Registry(tracker, "audio_rnn").versions() == []


# ---- the gate


def hits(tracker: MlflowTracker, promotion: Promotion) -> np.ndarray:
    with np.load(tracker.artifact(promotion.trial.run_id, TEST), allow_pickle=False) as stored:
        return np.asarray(stored["label"] == stored["prediction"])


def test_a_significantly_worse_trial_is_registered_but_not_champion(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], promoted: Promotion
) -> None:
    found = promote(tracker, track(tracker, dataset, trained["poor"], seed=1), dataset)
    assert (found.version, found.champion_before, found.champion_after) == ("2", "1", "1")
    assert not found.is_champion
    assert found.mcnemar == mcnemar_exact(hits(tracker, found), hits(tracker, promoted))
    assert found.mcnemar is not None
    assert found.mcnemar.p_value < 0.05
    assert "significantly worse than champion version 1" in found.reason
    assert found.describe().splitlines()[2:] == [found.reason, "champion stays version 1; --force overrides"]
    assert Registry(tracker, "audio_rnn").champion() == "1"
    tags = tracker.client.get_model_version("audio_rnn", "2").tags
    assert float(tags["mmtune.mcnemar_p_value"]) == found.mcnemar.p_value
    assert int(tags["mmtune.mcnemar_only_b"]) == found.mcnemar.only_b
    assert tags["mmtune.previous_champion"] == "1"


def test_force_overrides_and_is_on_record(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], promoted: Promotion
) -> None:
    study = track(tracker, dataset, trained["poor"], seed=1)
    promote(tracker, study, dataset)
    found = promote(tracker, study, dataset, force=True)
    assert (found.version, found.champion_after, found.forced) == ("2", "2", True)
    assert "forced" in found.reason
    assert tracker.client.get_model_version("audio_rnn", "2").tags["mmtune.forced"] == "true"
    assert [record.forced for record in history(tracker, "audio_rnn")] == [False, True]


def test_a_better_trial_takes_over_and_force_is_no_override_then(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained]
) -> None:
    promote(tracker, track(tracker, dataset, trained["poor"]), dataset)
    found = promote(tracker, track(tracker, dataset, trained["good"], seed=1), dataset, force=True)
    assert (found.champion_after, found.forced) == ("2", False)
    assert found.mcnemar is not None
    assert found.mcnemar.only_a > found.mcnemar.only_b


@pytest.mark.parametrize("name", ["peer", "good"])
def test_an_equal_trial_takes_over(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], promoted: Promotion, name: str
) -> None:
    found = promote(tracker, track(tracker, dataset, trained[name], seed=1), dataset)
    assert found.mcnemar == mcnemar_exact(hits(tracker, found), hits(tracker, promoted))
    assert (found.champion_before, found.champion_after) == ("1", "2")


def test_a_champion_of_data_on_another_scale_is_compared_on_its_own(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], promoted: Promotion
) -> None:
    """The same recordings under other statistics: the champion must say what it said before."""
    shifted = rescaled(dataset)
    study = track(tracker, shifted, trained["poor"], seed=1)
    found = promote(tracker, study, shifted)
    assert found.mcnemar == mcnemar_exact(hits(tracker, found), hits(tracker, promoted))


def rescaled(dataset: Dataset) -> Dataset:
    """The same data set, had its statistics been others."""
    shifted, audio = Mfcc(low=-1.0, high=1.0), dataset.require_test().banks["audio"]
    raw = (audio.values * 7.0 - 3.0) * 2.0 + 0.5
    banks = {**dataset.test.banks, "audio": replace(audio, values=((raw + 1.0) / 2.0).astype(np.float32))}
    test = replace(dataset.test, banks=banks)
    return replace(dataset, test=test, digest="f" * 64, forms={**FORMS, "audio": shifted})


def test_rows_of_one_recording_are_one_piece_of_evidence(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], promoted: Promotion
) -> None:
    """Where all test rows are of one recording nothing is significant, so that the better one stays."""
    test = dataset.require_test()
    one = replace(test, groups={**test.groups, "recording": np.full(len(test), "one")})
    other = replace(dataset, test=one, digest="e" * 64)
    found = promote(tracker, track(tracker, other, trained["poor"], seed=1), other)
    assert found.mcnemar is not None
    assert found.mcnemar.only_a < found.mcnemar.only_b
    assert found.mcnemar.p_value == 1
    assert not found.is_champion
    assert "version 2 is worse than champion version 1" in found.reason
    assert found.reason.endswith("exact McNemar over 1 recording p = 1; too few to tell chance from a difference)")
    assert promote(tracker, track(tracker, other, trained["good"], seed=2), other).is_champion


def test_a_champion_that_has_the_classes_in_another_order_is_compared_by_their_names(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], promoted: Promotion
) -> None:
    order = np.random.default_rng(3).permutation(10)
    test = dataset.require_test()
    moved = replace(test, labels=np.argsort(order)[test.labels])
    other = replace(dataset, classes=tuple(DIGITS[n] for n in order), test=moved, digest="f" * 64)
    found = promote(tracker, track(tracker, other, trained["poor"], seed=1), other)
    assert found.mcnemar == mcnemar_exact(hits(tracker, found), hits(tracker, promoted))


def test_a_champion_of_other_classes_keeps_its_place_and_it_is_said_why(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], promoted: Promotion
) -> None:
    other = replace(dataset, name="spelt", classes=WORDS, digest="f" * 64)
    study = track(tracker, other, trained["good"], seed=1)
    kept = promote(tracker, study, other)
    assert (kept.champion_after, kept.mcnemar) == ("1", None)
    assert "must tell the classes of spelt apart (zero, one, two" in kept.reason
    assert "it knows 0, 1, 2" in kept.reason
    assert promote(tracker, study, other, force=True).champion_after == kept.version == "2"


def test_a_damaged_champion_keeps_its_place_unless_forced(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], promoted: Promotion
) -> None:
    weights = champion_folder(tracker.root, "audio_rnn") / "model" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="SHA-256"):
        Predictor.load(champion_folder(tracker.root, "audio_rnn"))
    study = track(tracker, dataset, trained["good"], seed=1)
    kept = promote(tracker, study, dataset)
    assert (kept.champion_after, kept.mcnemar) == ("1", None)
    assert "cannot be compared" in kept.reason
    assert "SHA-256" in kept.reason
    assert promote(tracker, study, dataset, force=True).champion_after == kept.version == "2"


# ---- once and only once


def test_promoting_twice_registers_once_and_scores_once(
    tracker: MlflowTracker, dataset: Dataset, promoted: Promotion
) -> None:
    before = tracker.artifact(promoted.trial.run_id, TEST).stat().st_mtime_ns
    again = promote(tracker, tracker.studies("audio_rnn")[0], dataset, force=True)
    assert (again.version, again.champion_before, again.champion_after) == ("1", "1", "1")
    assert again.is_champion
    assert "already" in again.reason
    assert not again.forced
    assert len(Registry(tracker, "audio_rnn").versions()) == 1
    assert len(Registry(tracker, "audio_rnn").events()) == 1
    assert tracker.artifact(promoted.trial.run_id, TEST).stat().st_mtime_ns == before
    assert len(tracker.client.get_metric_history(promoted.trial.run_id, "test_accuracy")) == 1


@pytest.mark.parametrize("name", ["inputs.json", "familiarity.json", "model/weights.safetensors"])
def test_a_version_that_cannot_be_read_is_made_again_by_promoting_its_trial_again(
    name: str, tracker: MlflowTracker, dataset: Dataset, promoted: Promotion
) -> None:
    """As one that an earlier mmtune made, whose format is another."""
    folder = champion_folder(tracker.root, "audio_rnn")
    sound = Predictor.load(folder).predict_values(audio=dataset.require_test().banks["audio"].values[:5])
    (folder / name).write_text('{"format": 0}')
    with pytest.raises(InputError):
        Predictor.load(folder)
    again = promote(tracker, tracker.studies("audio_rnn")[0], dataset)
    assert (again.version, again.champion_after) == ("1", "1")
    assert len(Registry(tracker, "audio_rnn").versions()) == 1
    made = Predictor.load(champion_folder(tracker.root, "audio_rnn"))
    found = made.predict_values(audio=dataset.require_test().banks["audio"].values[:5])
    np.testing.assert_array_equal(found.probabilities, sound.probabilities)


def test_a_kill_between_registration_and_alias_is_mended_by_promoting_again(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained]
) -> None:
    study = track(tracker, dataset, trained["good"])
    trial = tracker.trials(study.run_id)[0]
    score_test(tracker, study.key, trial, dataset)
    assert register(Registry(tracker, "audio_rnn"), study, tracker.trials(study.run_id)[0], dataset) == "1"
    with pytest.raises(InputError, match="audio_rnn@champion is not registered"):
        champion_folder(tracker.root, "audio_rnn")
    assert promote(tracker, study, dataset).champion_after == "1"
    assert len(Registry(tracker, "audio_rnn").versions()) == 1


def test_a_kill_between_alias_and_log_is_mended(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], promoted: Promotion
) -> None:
    study = track(tracker, dataset, trained["poor"], seed=1)
    promote(tracker, study, dataset)
    tracker.client.set_registered_model_alias("audio_rnn", "champion", "2")
    assert "already" in promote(tracker, study, dataset).reason
    assert [event.version for event in Registry(tracker, "audio_rnn").events()] == ["1", "2"]
    assert rollback(tracker, "audio_rnn") == ("2", "1")


def test_a_torn_score_is_made_anew(tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained]) -> None:
    """A kill before the last tag: the file may be there and be anything."""
    study = track(tracker, dataset, trained["good"])
    run = tracker.trials(study.run_id)[0].run_id
    torn = tracker.root / "torn" / TEST
    torn.parent.mkdir()
    torn.write_bytes(b"PK\x03\x04 half")
    tracker.client.log_artifacts(run, str(torn.parent))
    assert len(hits(tracker, promote(tracker, study, dataset))) == len(dataset.test)


def test_stored_scores_that_were_changed_are_refused(
    tracker: MlflowTracker, dataset: Dataset, promoted: Promotion
) -> None:
    tracker.artifact(promoted.trial.run_id, TEST).write_bytes(b"PK\x03\x04 half")
    with pytest.raises(InputError) as refusal:
        promote(tracker, tracker.studies("audio_rnn")[0], dataset)
    assert TEST in one_line(refusal)


def test_two_cannot_promote_at_once(tracker: MlflowTracker, dataset: Dataset, promoted: Promotion) -> None:
    with changing(tracker.root), pytest.raises(InputError) as refusal:
        promote(tracker, tracker.studies("audio_rnn")[0], dataset)
    assert f"pid {os.getpid()}" in one_line(refusal)


# ---- back and history


def test_rollbacks_walk_back_and_the_history_tells_it(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], promoted: Promotion
) -> None:
    studies = [track(tracker, dataset, trained["peer"], seed=seed) for seed in (1, 2)]
    assert [promote(tracker, study, dataset).version for study in studies] == ["2", "3"]
    assert rollback(tracker, "audio_rnn") == ("3", "2")
    assert rollback(tracker, "audio_rnn") == ("2", "1")
    with pytest.raises(InputError) as refusal:
        rollback(tracker, "audio_rnn")
    assert "before version 1" in one_line(refusal)
    assert promote(tracker, studies[1], dataset).champion_after == "3"
    assert rollback(tracker, "audio_rnn") == ("3", "1")

    records = history(tracker, "audio_rnn")
    assert [record.version for record in records] == ["1", "2", "3"]
    assert [len(record.reigns) for record in records] == [3, 2, 2]
    assert [end is None for record in records for _, end in record.reigns] == [False, False, True] + [False] * 4
    assert records[0].objective == f"val macro-F1 {promoted.trial.metrics[OBJECTIVE]:.4f}"
    assert records[0].test_macro_f1 == promoted.trial.metrics["test_macro_f1"]


def test_rollback_passes_over_a_version_that_was_deleted(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], promoted: Promotion
) -> None:
    for seed in (1, 2):
        promote(tracker, track(tracker, dataset, trained["peer"], seed=seed), dataset)
    tracker.client.delete_model_version("audio_rnn", "2")
    assert rollback(tracker, "audio_rnn") == ("3", "1")


def test_rollback_and_history_of_what_is_not_there_are_refused(tracker: MlflowTracker, promoted: Promotion) -> None:
    for action in (rollback, history):
        with pytest.raises(InputError) as refusal:
            action(tracker, "audio_rn")
        assert "registered: audio_rnn" in one_line(refusal)


def events(*pairs: tuple[str, str]) -> list[Event]:
    return [Event(version=version, at=str(n), how=how) for n, (version, how) in enumerate(pairs)]


def test_the_line_of_champions_is_a_stack() -> None:
    log = events(("1", PROMOTED), ("2", PROMOTED), ("1", FOUND), ("3", PROMOTED), ("1", ROLLED_BACK))
    assert line_of(log) == ["1", "2", "1"]
    assert line_of([*log, *events(("2", ROLLED_BACK))]) == ["1", "2"]
    assert line_of(events(("1", PROMOTED), ("1", FOUND))) == ["1"]
    assert reigns(log, "1") == [("0", "1"), ("2", "3"), ("4", None)]
    assert all(Event.from_json(event.to_json()) == event for event in log)


@pytest.mark.parametrize(("champion", "how"), [(None, None), ("2", None), ("1", ROLLED_BACK), ("3", FOUND)])
def test_the_log_follows_the_alias(champion: str | None, how: str | None) -> None:
    log = events(("1", PROMOTED), ("2", PROMOTED))
    found = missing_event(log, champion)
    assert (found and found.how) == how
    if found is not None:
        assert missing_event([*log, found], champion) is None
        assert line_of([*log, found])[-1] == champion


# ---- what is registered


def test_a_model_that_is_not_there_is_refused_with_what_is(
    tracker: MlflowTracker, promoted: Promotion, tmp_path: Path
) -> None:
    asked = [
        ("audio_rn", {}),
        ("audio_rnn", {"version": "7"}),
        ("a'b", {}),
        ("", {}),
    ]
    for name, how in asked:
        with pytest.raises(InputError) as refusal:
            champion_folder(tracker.root, name, **how)
        assert "registered: audio_rnn" in one_line(refusal)
    with pytest.raises(InputError, match="promote a study first"):
        champion_folder(tmp_path, "audio_rnn")
    assert not (tmp_path / "mlflow.db").exists()
    assert champion_folder(tracker.root, "audio_rnn") == champion_folder(tracker.root, "audio_rnn", version="1")


def test_whoever_predicts_waits_for_no_mlflow(tracker: MlflowTracker, promoted: Promotion) -> None:
    """Its import and its migrations took half the time of a prediction."""
    code = f"import sys, mmtune; mmtune.load('audio_rnn', store={str(tracker.root)!r}); print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_a_version_of_someone_elses_making_is_refused(tracker: MlflowTracker, promoted: Promotion) -> None:
    tracker.client.create_registered_model("foreign")
    tracker.client.create_model_version("foreign", "file:///nowhere")
    tracker.client.set_registered_model_alias("foreign", "champion", "1")
    with pytest.raises(InputError) as refusal:
        champion_folder(tracker.root, "foreign")
    assert "foreign@champion must have data/predictor/inputs.json, file:///nowhere has none" in one_line(refusal)
    shutil.rmtree(champion_folder(tracker.root, "audio_rnn"))
    with pytest.raises(InputError) as refusal:
        champion_folder(tracker.root, "audio_rnn")
    assert "has none" in one_line(refusal)


def unpickles(content: bytes) -> bool:
    """Whether bytes are a complete pickle program."""
    try:
        return len(list(pickletools.genops(content))) > 1
    except Exception:
        return False


def test_nothing_registered_is_a_pickle(tracker: MlflowTracker, promoted: Promotion) -> None:
    assert unpickles(pickle.dumps({"a": 1}))
    files = [path for path in tracker.artifact(promoted.trial.run_id, "registered").rglob("*") if path.is_file()]
    assert {"MLmodel", "weights.safetensors", "model.json", "inputs.json"} <= {path.name for path in files}
    assert [path for path in files if unpickles(path.read_bytes())] == []
    described = next(path for path in files if path.name == "MLmodel").read_text()
    assert "loader_module: mmtune.serve.loader" in described
    assert "python_model" not in described
    assert "cloudpickle" not in described


def test_registered_predictor_answers_as_it_was_scored(
    tracker: MlflowTracker, dataset: Dataset, promoted: Promotion
) -> None:
    predictor = Predictor.load(champion_folder(tracker.root, "audio_rnn"))
    assert predictor.forms == {"audio": FORM}
    assert predictor.card["data"] == {"name": "digits", "digest": dataset.digest}
    assert predictor.card["scores"]["test_macro_f1"] == promoted.trial.metrics["test_macro_f1"]
    found = predict_partition(predictor, dataset)
    with np.load(tracker.artifact(promoted.trial.run_id, TEST), allow_pickle=False) as stored:
        assert np.array_equal(found.label, stored["prediction"])
        assert np.array_equal(found.probabilities, stored["probability"])


FRESH = """
import sys, json
import numpy as np, mlflow
from mlflow.exceptions import MlflowException
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/latent_fusion@champion")
given = dict(np.load(sys.argv[2]))
refused = []
for name, wrong in {
    "missing": {"image": given["image"]},
    "unequal": {**given, "audio": given["audio"][:-1]},
    "empty": {key: value[:0] for key, value in given.items()},
    "nan": {**given, "audio": np.where(np.arange(13) == 5, np.nan, given["audio"]).astype(np.float32)},
    "type": {**given, "audio": given["audio"].astype(float)},
    "shape": {**given, "image": given["image"].reshape(len(given["image"]), -1)},
    "frame": np.zeros((2, 3)),
}.items():
    try:
        model.predict(wrong)
    except (ValueError, MlflowException) as error:
        refused.append((name, type(error).__name__, str(error)))
signature = model.metadata.signature
print(json.dumps({
    "answer": model.predict(given).to_dict("list"),
    "more": model.predict({**given, "third": given["audio"]}).to_dict("list"),
    "refused": refused,
    "inputs": signature.inputs.to_dict(),
    "outputs": [column["name"] for column in signature.outputs.to_dict()],
}))
"""


def test_fusion_loads_by_alias_in_a_fresh_process_elsewhere_and_refuses_rubbish(
    tracker: MlflowTracker, dataset: Dataset, trained: dict[str, Trained], tmp_path: Path
) -> None:
    study = track(tracker, dataset, trained["fusion"], study="latent_fusion")
    found = promote(tracker, study, dataset)
    metrics = found.trial.metrics
    alone = ", ".join(f"{bank} {metrics[f'test_accuracy_{bank}_alone']:.4f}" for bank in ("audio", "image"))
    assert f"test accuracy with one bank alone: {alone}" in found.describe()
    errors = [metrics[f"test_calibration_error{end}"] for end in ("", "_scaled")]
    assert "test calibration error {:.4f}, with the temperature {:.4f}".format(*errors) in found.describe()
    asked = {name: bank.of_rows(np.arange(50)) for name, bank in dataset.test.banks.items()}
    np.savez(tmp_path / "given.npz", **asked)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    source = str(Path(mmtune.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", FRESH, tracker.uri, str(tmp_path / "given.npz")],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    predictor = Predictor.load(champion_folder(tracker.root, "latent_fusion"))
    expected = predictor.predict_values(**asked)
    assert said["answer"]["class"] == expected.names
    assert said["answer"]["probability"] == pytest.approx(expected.probability.tolist())
    assert said["answer"]["image_class"] == expected.alone["image"].names
    assert said["answer"]["audio_probability"] == pytest.approx(expected.alone["audio"].probability.tolist())
    assert said["outputs"] == list(said["answer"])
    shapes = {column["name"]: column["tensor-spec"] for column in said["inputs"]}
    assert shapes == {
        "image": {"dtype": "uint8", "shape": [-1, 28, 28]},
        "audio": {"dtype": "float32", "shape": [-1, 39, 13]},
    }
    assert [name for name, _, _ in said["refused"]] == [
        "missing", "unequal", "empty", "nan", "type", "shape", "frame",
    ]  # fmt: skip
    # MLflow drops what its signature does not name, and enforces names, types and shapes itself.
    assert said["more"] == said["answer"]
    ours = {name: text for name, kind, text in said["refused"] if kind == "InputError"}
    assert {"unequal", "empty", "nan"} <= set(ours)
    assert {kind for _, kind, _ in said["refused"]} <= {"InputError", "MlflowException"}
    assert not any("\n" in text for text in ours.values())
    assert list(elsewhere.iterdir()) == []
