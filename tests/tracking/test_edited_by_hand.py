"""Tags that a hand has changed in MLflow's UI, and stores that are none, cost a line and never a traceback."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tracked import OBJECTIVE, track_study, track_trial

from mmtune import cli
from mmtune.data.dataset import Dataset
from mmtune.study import StudyKey
from mmtune.tracking import MlflowTracker

VERBS = ("studies", "study", "report", "promote")


def key_of(dataset: Dataset) -> StudyKey:
    return StudyKey(
        study="audio_rnn",
        data=dataset.name,
        digest=dataset.digest,
        protocol="clip_disjoint",
        seed=0,
        epochs=1,
        sampler="grid",
    )


@pytest.fixture
def call(tiny: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Give a command to this very process; returns the line on standard error, "" where all went well."""

    def give(verb: str, root: Path) -> str:
        words = [verb, *([] if verb == "studies" else ["audio_rnn", "--data", str(tiny.folder)])]
        words += ["--store", str(root), *(["--epochs", "1", "--trials", "1"] if verb == "study" else [])]
        monkeypatch.setattr(sys, "argv", ["mmtune", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr().err
        if not ended.value.code:
            return ""
        assert ended.value.code == 2, told
        assert told.startswith("mmtune: ")
        assert told.count("\n") == 1
        return told

    return give


@pytest.fixture(scope="module")
def world(tiny: Dataset, store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A store with a study of one trial, and the runs of both."""
    root = Path(shutil.copytree(store_template, tmp_path_factory.mktemp("edited") / "mlruns"))
    tracker = MlflowTracker(root)
    study = track_study(tracker, key_of(tiny), data_dir=str(tiny.folder))
    scores = {OBJECTIVE: 0.5, "val_accuracy_at_best": 0.5, "epoch_at_best": 1.0}
    return root, study.run_id, track_trial(tracker, study, 0, {"model.hidden": 320}, scores)


STUDY, TRIAL = 1, 2
EDITS = [
    (TRIAL, "mmtune.number", "abc"),
    (TRIAL, "mmtune.number", None),
    (TRIAL, "mmtune.params", "{"),
    (TRIAL, "mmtune.params", "[]"),
    (TRIAL, "mmtune.params", None),
    (STUDY, "mmtune.key_json", None),
    (STUDY, "mmtune.key_json", '{"study": "audio_rnn"}'),
    (STUDY, "mmtune.key_json", "[" * 5_000),
    (STUDY, "mmtune.format", "1"),
]


@contextmanager
def edited(root: Path, run: str, tag: str, value: str | None) -> Iterator[None]:
    """A tag as a hand has changed it, or deleted it, and afterwards as it was."""
    client = MlflowTracker(root).client
    before = client.get_run(run).data.tags[tag]
    client.delete_tag(run, tag)
    if value is not None:
        client.set_tag(run, tag, value)
    try:
        yield
    finally:
        client.set_tag(run, tag, before)


@pytest.mark.parametrize(("of", "tag", "value"), EDITS)
def test_a_tag_that_a_hand_has_spoilt_is_named_by_every_verb_that_reads(
    world: tuple[Path, str, str], call: Callable[..., str], of: int, tag: str, value: str | None
) -> None:
    root, run = world[0], str(world[of])
    with edited(root, run, tag, value):
        for verb in ("studies", "report", "promote"):
            assert run in call(verb, root), verb


@pytest.mark.slow
def test_a_tag_that_a_hand_has_spoilt_is_named_by_a_study_that_goes_on(store: Path, call: Callable[..., str]) -> None:
    assert call("study", store) == ""
    (study,) = MlflowTracker(store).studies()
    (trial,) = MlflowTracker(store).trials(study.run_id)
    for of, tag, value in EDITS:
        run = (study.run_id, trial.run_id)[of - 1]
        with edited(store, run, tag, value):
            assert run in call("study", store), tag
    with edited(store, study.run_id, "mmtune.opened", None):
        assert call("study", store) == ""


@pytest.mark.parametrize("value", [None, "yesterday", ""])
def test_a_study_that_a_hand_has_untimed_counts_as_opened_when_it_began(
    world: tuple[Path, str, str], call: Callable[..., str], value: str | None
) -> None:
    root, run, _ = world
    with edited(root, run, "mmtune.opened", value):
        assert call("studies", root) == ""
        assert [study.run_id for study in MlflowTracker(root).studies()] == [run]


def test_a_copied_folder_is_refused_by_every_verb(world: tuple[Path, str, str], call: Callable[..., str]) -> None:
    copy = Path(shutil.copytree(world[0], world[0].with_name("copy")))
    for verb in VERBS:
        assert "use that store, this one is a copy of it" in call(verb, copy)


@pytest.mark.parametrize("name", ["mlflow.db", "mlflow.db-wal", ".store.lock"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_a_store_of_no_plain_files_is_refused_by_every_verb(
    store: Path, call: Callable[..., str], name: str, make: Callable[[Path], object]
) -> None:
    (store / name).unlink(missing_ok=True)
    make(store / name)
    for verb in VERBS:
        assert f"{name} must be a plain file of a store" in call(verb, store)
