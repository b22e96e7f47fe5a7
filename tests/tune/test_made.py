"""A study's trials stay those that it lists, and its list may grow at its end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.study import Study, load_study
from mmtune.study.options import Options
from mmtune.tracking import NOTE, MlflowTracker
from mmtune.tune import made
from mmtune.tune.run import run_study

TRIES: dict[str, Mapping[str, Any]] = {"small": {"model.hidden": 8}, "large": {"model.hidden": 16}}
MORE = {**TRIES, "again": {"model.hidden": 16}}


def listed(tries: Mapping[str, Mapping[str, Any]]) -> Study:
    return replace(load_study("audio_rnn"), grid=None, tries=tries)


def run(study: Study, tiny: Dataset, store: Path) -> list[tuple[str, str, int]]:
    """By trial its try, the run's id, and when it began."""
    run_study(study, tiny, Options(epochs=1, workers=1, device="cpu"), store, Console(quiet=True))
    tracker = MlflowTracker(store)
    (found,) = tracker.studies("audio_rnn")
    return [(trial.name, trial.run_id, trial.started) for trial in tracker.trials(found.run_id)]


def test_a_try_more_is_one_trial_more(tiny: Dataset, store: Path) -> None:
    before = run(listed(TRIES), tiny, store)
    after = run(listed(MORE), tiny, store)
    assert after[:2] == before
    assert [name.rpartition("=")[2] for name, *_ in after] == ["small", "large", "again"]
    first = {"again": {}, **TRIES}
    changed = {**MORE, "large": {"model.hidden": 32}}
    for tries in (TRIES, first, changed, {**changed, "other": {}}):
        with pytest.raises(InputError, match="must stay as it was when its trials were made"):
            run(listed(tries), tiny, store)


def test_a_study_says_on_how_many_threads_its_trials_were_trained(tiny: Dataset, store: Path) -> None:
    study, console = listed(TRIES), Console(record=True, width=1_000)
    said = []
    for threads, fewer in ((2, {"small": {"model.hidden": 8}}), (1, TRIES)):
        options = Options(epochs=1, workers=1, device="cpu", threads=threads)
        run_study(replace(study, tries=fewer), tiny, options, store, console)
        said.append(console.export_text())
    assert "made with different code" not in said[0]
    assert re.search(r"made with different code: trial 0 with device cpu \(\w+\), 2 threads; the others", said[1])


def test_a_list_too_long_for_a_tag_may_grow_too(tiny: Dataset, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "LONGEST_TAG", 100)
    before = run(listed(TRIES), tiny, store)
    assert run(listed(MORE), tiny, store)[:2] == before
    with pytest.raises(InputError, match=r"must stay as it was .*sha256"):
        run(listed({**MORE, "large": {"model.hidden": 32}}), tiny, store)


def test_a_study_that_cannot_be_gone_on_from_does_not_say_that_it_is_under_way(tiny: Dataset, store: Path) -> None:
    ((_, trial, _),) = run(listed({"small": {"model.hidden": 8}}), tiny, store)
    tracker = MlflowTracker(store)
    (before,) = tracker.studies("audio_rnn")
    tracker.log(trial, tags={"mmtune.params": "{broken"})
    with pytest.raises(InputError, match=r"mmtune.params must be a JSON object, got '{broken'"):
        run(listed(TRIES), tiny, store)
    (after,) = MlflowTracker(store).studies("audio_rnn")
    assert before.status == after.status == "FINISHED"
    assert before.tags[NOTE] == after.tags[NOTE]


def test_trials_of_a_study_that_was_deleted_under_way_are_there_once_it_is_restored(tiny: Dataset, store: Path) -> None:
    study, gone = listed(TRIES), list[str]()

    def delete_it() -> bool:
        for found in [] if gone else MlflowTracker(store).studies("audio_rnn"):
            if MlflowTracker(store).trials(found.run_id):
                MlflowTracker(store).discard(found.run_id)
                gone.append(found.run_id)
        return False

    options = Options(epochs=1, workers=1, device="cpu")
    with pytest.raises(InputError, match=r"it was deleted while its trials ran: restore \w+ in the UI"):
        run_study(study, tiny, options, store, Console(quiet=True), stopped=delete_it)
    MlflowTracker(store).client.restore_run(*gone)
    made = MlflowTracker(store).trials(*gone)
    found = run(study, tiny, store)
    assert [trial.run_id for trial in made] == [run_id for _, run_id, _ in found]
    assert len(found) == 2
