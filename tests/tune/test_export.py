"""A study for Optuna's own tools: Optuna loads it, finds the same best trial, and can weigh its choices."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from databases import Postgres
from optuna.trial import TrialState
from servers import LOOPBACK, addresses, free_port, wait_until
from tracked import OBJECTIVE

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.tracking import FAIL, MlflowTracker
from mmtune.tracking.runs import drawn_values
from mmtune.train.objective import MACRO_F1
from mmtune.tune.export import export, require_place

TRIALS = 8
pytestmark = pytest.mark.slow


def mmtune(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmtune.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def ran(tiny: Dataset, store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a study that pruned some trials."""
    store = Path(shutil.copytree(store_template, tmp_path_factory.mktemp("export") / "mlruns"))
    words = ["study", "audio_rnn", "--data", str(tiny.folder), "--store", str(store), "--device", "cpu"]
    done = mmtune(*words, "--sampler", "random", "--trials", str(TRIALS), "--epochs", "9", "--workers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    return store


@pytest.fixture
def exported(ran: Path, tmp_path: Path) -> optuna.Study:
    """The study as Optuna itself loads it."""
    out = f"sqlite:///{tmp_path / 'x.db'}"
    done = mmtune("optuna", "audio_rnn", "--store", str(ran), "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{TRIALS} trials of audio_rnn.tiny-")
    (name,) = optuna.get_all_study_names(out)
    return optuna.load_study(study_name=name, storage=out)


def test_optuna_loads_every_trial_as_it_is_tracked(ran: Path, exported: optuna.Study) -> None:
    tracker = MlflowTracker(ran)
    (study,) = tracker.studies()
    tracked = {trial.run_id: trial for trial in tracker.trials(study.run_id)}
    assert exported.study_name == study.key.slug
    assert exported.user_attrs["run_id"] == study.run_id
    assert len(exported.trials) == TRIALS
    assert {trial.user_attrs["run_id"] for trial in exported.trials} == set(tracked)
    for trial in exported.trials:
        run = tracked[trial.user_attrs["run_id"]]
        assert trial.user_attrs["index"] == run.number
        assert trial.state.name == run.state
        assert trial.params == drawn_values(run)
        assert set(trial.distributions) == set(trial.params)
        assert trial.intermediate_values == dict(tracker.curves(run.run_id, ["val_macro_f1"])["val_macro_f1"])
        assert trial.value == (run.metrics[OBJECTIVE] if trial.state == TrialState.COMPLETE else None)
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        assert trial.datetime_start.timestamp() == pytest.approx(run.started / 1000)
        assert trial.datetime_complete > trial.datetime_start
    assert TrialState.PRUNED in {trial.state for trial in exported.trials}


def test_the_best_trial_is_the_same(ran: Path, exported: optuna.Study) -> None:
    tracker = MlflowTracker(ran)
    best = tracker.best(tracker.studies()[0].run_id, MACRO_F1)
    assert best is not None
    assert exported.best_value == best.metrics[OBJECTIVE]
    assert exported.direction == optuna.study.StudyDirection.MAXIMIZE


def test_optuna_weighs_the_choices(exported: optuna.Study) -> None:
    weights = optuna.importance.get_param_importances(exported)
    assert set(weights) <= set().union(*(trial.params for trial in exported.trials))
    assert sum(weights.values()) == pytest.approx(1.0)


def test_a_study_that_is_there_is_not_overwritten(ran: Path, tmp_path: Path) -> None:
    words = ["optuna", "audio_rnn", "--store", str(ran), "--out", f"sqlite:///{tmp_path / 'x.db'}"]
    assert mmtune(*words).returncode == 0
    before = (tmp_path / "x.db").read_bytes()
    again = mmtune(*words)
    assert again.returncode == 2
    (line,) = again.stderr.splitlines()
    assert line.startswith("mmtune: --out must be a database without a study audio_rnn.tiny-")
    assert (tmp_path / "x.db").read_bytes() == before


def test_attempts_that_failed_and_runs_under_way_are_told_apart(ran: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(ran)
    (study,) = tracker.studies()
    experiment = tracker.experiment("audio_rnn")
    first = tracker.trials(study.run_id)[0]
    tags = {name: first.tags[name] for name in first.tags if name.startswith(("mmtune.", "mlflow.parent"))}
    failed, going = (tracker.begin(experiment, "x", first.started, tags) for _ in range(2))
    try:
        tracker.log(failed, tags={"mmtune.reason": "because"})
        tracker.end(failed, FAIL, first.started)
        made = export(tracker, study, f"sqlite:///{tmp_path / 'x.db'}")
        found = {trial.user_attrs["run_id"]: trial for trial in made.trials}
        assert (found[failed].state, found[failed].user_attrs["reason"]) == (TrialState.FAIL, "because")
        assert found[going].state == TrialState.RUNNING
    finally:
        for run in (failed, going):
            tracker.discard(run)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("x.db", "must be the address of a database such as sqlite:///study.db, got x.db"),
        ("http://here:80/x", "must be the address of a database such as"),
        ("postgresql://me:secret@127.0.0.1:1/x", "must be a database that can be written, postgresql://127.0.0.1:1/x"),
        ("sqlite:////nowhere/x.db", "must be a database that can be written, /nowhere/x.db is not: unable to open"),
    ],
)
def test_what_is_no_place_for_it_is_refused(out: str, said: str) -> None:
    with pytest.raises(InputError, match="--out") as refusal:
        require_place(out)
    assert said in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_the_store_itself_is_not_written_to(ran: Path) -> None:
    with pytest.raises(InputError, match=r"must be empty or a database of Optuna's, .*mlflow.db has other tables"):
        require_place(f"sqlite:///{ran / 'mlflow.db'}")


@pytest.mark.slow
def test_it_may_go_to_postgresql(ran: Path, postgres: Postgres) -> None:
    tracker = MlflowTracker(ran)
    made = export(tracker, tracker.studies()[0], postgres.url())
    assert len(made.trials) == TRIALS


@pytest.mark.slow
def test_the_dashboard_shows_it_on_loopback(ran: Path, exported: optuna.Study, tmp_path: Path) -> None:
    if importlib.util.find_spec("optuna_dashboard") is None:
        pytest.skip("needs the extra `dashboard`")
    port = free_port()
    program = Path(sys.executable).with_name("optuna-dashboard")
    words = [str(program), "--host", "127.0.0.1", "--port", str(port), f"sqlite:///{tmp_path / 'x.db'}"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    try:
        wait_until(process, port, "/api/studies")
        assert addresses(port) == {LOOPBACK}
    finally:
        process.terminate()
        process.wait(30)
