"""What is measured of a tracked trial: on which rows, at which bank, kept with its run and read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tracked import track_study, track_trial

from mmtune.base.errors import InputError
from mmtune.data.dataset import TEST, Dataset
from mmtune.data.forms import Mfcc, Speech, Waveform
from mmtune.data.identity import distinct
from mmtune.data.storage.store import save
from mmtune.networks.card import HELD, MODEL, VALIDATION
from mmtune.networks.config import LatentFusionConfig
from mmtune.networks.storage import load_model, save_model
from mmtune.serve.measured import FILES, VALIDATES, Measured, read_measured, told
from mmtune.serve.robustness import group_of, measure, remade, sources_of, tells, trained_rows
from mmtune.study import StudyKey
from mmtune.tracking import MlflowTracker, StudyRun, TrialRun
from mmtune.train.batches import rows_of
from mmtune.train.evaluate import evaluate
from mmtune.train.robustness import Curve, Robustness, Score
from mmtune.train.trial import npz

ROWS = np.arange(10, 70)
Change = Callable[[dict[str, Any]], object]
Tracked = tuple[MlflowTracker, StudyRun, TrialRun]


def silent(step: str, done: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def heard(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A small data set whose features and speech are made of its waveforms."""
    assert tiny.test is not None
    fitted = Mfcc().fit(Mfcc().of_waves(tiny.train.banks["waveform"].values))
    made = {}
    for name, rows in tiny.partitions.items():
        waves = rows.banks["waveform"]
        mfcc = replace(waves, values=fitted.scaled(fitted.of_waves(waves.values)))
        speech = replace(waves, values=Speech().of_waves(waves.values))
        made[name] = replace(rows, banks={**rows.banks, "audio": mfcc, "speech": speech})
    forms = {**tiny.forms, "audio": fitted}
    whole = replace(tiny, name="heard", forms=forms, train=made["train"], test=made["test"])
    return save(whole, tmp_path_factory.mktemp("data") / "heard")


@pytest.fixture
def tracked(heard: Dataset, store: Path, tmp_path: Path) -> Tracked:
    """A trial of a network that has not learnt anything."""
    tracker, config, files = MlflowTracker(store), LatentFusionConfig(), tmp_path / "files"
    key = StudyKey(
        study="latent_fusion", data="heard", digest=heard.digest, protocol="random", seed=3, epochs=1, sampler="grid"
    )
    study = track_study(tracker, key)
    rows = rows_of(heard.train, 10, config.reads)
    torch.manual_seed(0)
    save_model(files / MODEL, config.build(rows.shapes), config, rows.shapes)
    (files / VALIDATION).write_bytes(npz({"row": ROWS, "label": heard.train.labels[ROWS]}))
    run_id = track_trial(tracker, study, 0, {}, {"best_val_macro_f1": 0.1}, files=files)
    trial = tracker.trial(study.run_id, run_id)
    assert trial is not None
    return tracker, study, trial


def test_it_is_of_the_rows_that_validate_kept_with_the_run_and_the_same_again(tracked: Tracked, heard: Dataset) -> None:
    tracker, study, trial = tracked
    steps: list[tuple[str, int, int]] = []
    found = measure(tracker, study, trial, heard, VALIDATES, lambda *own: steps.append(own))
    assert (found.on, found.rows) == (VALIDATES, len(ROWS))
    assert read_measured(tracker.artifact(trial.run_id, FILES[VALIDATES])) == found
    assert measure(tracker, study, trial, heard, VALIDATES, silent) == found
    assert (steps[0], steps[-1]) == (("image", 0, 5), ("audio", 5, 5))
    at = {own.bank: own.at for own in found.robustness.curves if own.corruption != "missing"}
    assert at == {"image": "image", "audio": "waveform"}
    assert not tracker.has_artifact(trial.run_id, FILES[TEST])


def test_of_the_test_partition_it_stands_beside_it(tracked: Tracked, heard: Dataset) -> None:
    tracker, study, trial = tracked
    found = measure(tracker, study, trial, heard, TEST, silent, most=20)
    assert (found.on, found.rows) == (TEST, 20)
    assert read_measured(tracker.artifact(trial.run_id, FILES[TEST])) == found
    with pytest.raises(InputError, match="must have a test partition"):
        measure(tracker, study, trial, replace(heard, test=None), TEST, silent)


def test_other_data_and_rows_of_others_are_refused(tracked: Tracked, heard: Dataset, tiny: Dataset) -> None:
    tracker, study, trial = tracked
    with pytest.raises(InputError, match=r"must be measured on its own data: heard has digest .*, tiny has"):
        measure(tracker, study, trial, tiny, VALIDATES, silent)
    path = tracker.artifact(trial.run_id, VALIDATION)
    for row, label in ((ROWS, heard.train.labels[ROWS] * 0), (ROWS + 1000, heard.train.labels[ROWS])):
        path.write_bytes(npz({"row": row, "label": label}))
        with pytest.raises(InputError, match="must hold rows of heard with their labels"):
            measure(tracker, study, trial, heard, VALIDATES, silent)


def test_groups_are_counted_as_by_hand(tracked: Tracked, heard: Dataset) -> None:
    tracker, study, trial = tracked
    (found,) = measure(tracker, study, trial, heard, VALIDATES, silent).groups
    part = heard.train.take(ROWS)
    speakers = part.groups["speaker"]
    right = np.arange(len(ROWS)) % 3 > 0
    by_hand = {own: float(right[speakers == own].mean()) for own in np.unique(speakers)}
    own = group_of("speaker", part, heard.train.take(np.arange(5)), right)
    assert own.mean == pytest.approx(np.mean([*by_hand.values()]))
    assert own.worst == by_hand[own.member] == min(by_hand.values())
    assert own.rows == int((speakers == own.member).sum())
    assert own.trained == len(set(heard.train.groups["speaker"][:5]))
    assert (found.name, found.members, found.trained) == ("speaker", len(by_hand), len(by_hand))
    assert not tells(part, "recording")


def test_members_that_only_validate_or_are_held_out_are_not_known(tracked: Tracked, heard: Dataset) -> None:
    tracker, study, trial = tracked
    speakers = heard.train.groups["speaker"]
    chosen, held, others = (np.flatnonzero(speakers == f"speaker{n}") for n in range(3))
    folder = tracker.artifact(trial.run_id, VALIDATION).parent
    for name, rows in ((VALIDATION, np.concatenate([chosen, others[:1]])), (HELD, held)):
        (folder / name).write_bytes(npz({"row": rows, "label": heard.train.labels[rows]}))
    folded = replace(study, key=replace(study.key, folds=3))
    (found,) = measure(tracker, folded, trial, heard, VALIDATES, silent).groups
    assert (found.members, found.trained) == (2, 1)
    known = np.flatnonzero(~np.isin(speakers, ["speaker0", "speaker1"]))
    assert trained_rows(tracker, folded, trial, len(speakers)).tolist() == known[known != others[0]].tolist()


def test_only_what_waveforms_become_is_made_of_them(heard: Dataset, tiny: Dataset) -> None:
    banks = ("image", "audio", "speech", "waveform")
    found = sources_of(heard, heard.train, banks)
    assert found.keys() == {"audio", "speech"}
    for name, source in found.items():
        form, waves = heard.forms[name], torch.from_numpy(heard.train.banks["waveform"].values)
        assert source.name == "waveform"
        np.testing.assert_allclose(source.remake(waves).numpy(), heard.train.banks[name].values, atol=1e-5)
        assert torch.equal(source.remake(waves[:2]), remade(form, waves[:2]))  # type: ignore[arg-type]
    other = distinct(np.random.default_rng(0).normal(size=(len(heard.train), 39, 13)).astype(np.float32))
    changed = replace(heard.train, banks={**heard.train.banks, "audio": other})
    assert sources_of(heard, changed, banks).keys() == {"speech"}
    longer = replace(heard, forms={**heard.forms, "audio": Mfcc(seconds=2.0)})
    assert sources_of(longer, heard.train, banks).keys() == {"speech"}
    assert sources_of(tiny, tiny.train, ("audio", "image")) == {}
    without = replace(heard.train, banks={"audio": heard.train.banks["audio"]})
    assert sources_of(heard, without, ("audio",)) == {}
    assert type(heard.forms["waveform"]) is Waveform


def test_clean_is_what_the_model_says(tracked: Tracked, heard: Dataset) -> None:
    tracker, study, trial = tracked
    found = measure(tracker, study, trial, heard, VALIDATES, silent)
    model = load_model(tracker.artifact(trial.run_id, MODEL)).model
    usual = evaluate(model, rows_of(heard.train.take(ROWS), 10, ("image", "audio")))
    assert found.robustness.clean.accuracy == usual.scores("x")["x_accuracy"]


def cut_scores(own: dict[str, Any]) -> None:
    own["robustness"]["curves"][0]["scores"].pop()


@pytest.mark.parametrize(
    "change",
    [
        lambda own: own.update(format=2),
        lambda own: own.update(on="train"),
        lambda own: own.update(on=["test"]),
        lambda own: own.pop("groups"),
        lambda own: own.update(groups=[3]),
        lambda own: own.update(robustness=[]),
        lambda own: own["robustness"].update(clean={"accuracy": float("nan"), "macro_f1": 1, "alone": {}}),
        lambda own: own["robustness"]["clean"].update(alone=[1]),
        lambda own: own["robustness"]["curves"][0].update(levels=["x"]),
        cut_scores,
    ],
)
def test_a_file_that_was_changed_is_one_line(tmp_path: Path, change: Change) -> None:
    own = json.loads(told(small()))
    change(own)
    path = tmp_path / "robustness.json"
    path.write_text(json.dumps(own))
    with pytest.raises(InputError, match="must hold what `mmtune robustness` measured, format 1") as refused:
        read_measured(path)
    assert "\n" not in str(refused.value)


def small() -> Measured:
    """What was measured of a network with one bank."""
    clean, noisy = Score(accuracy=0.9, macro_f1=0.8, alone={}), Score(accuracy=0.5, macro_f1=0.4, alone={})
    own = Curve(bank="a", corruption="noise", unit="deviations", at="a", levels=(1.0, 2.0), scores=(noisy, noisy))
    return Measured(on=VALIDATES, rows=7, robustness=Robustness(clean=clean, curves=(own,)), groups=())
