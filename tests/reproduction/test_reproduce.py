"""`make reproduce` as a stranger meets it: interrupted, resumed, and looked at."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmtune.data.dataset import Dataset
from mmtune.data.protocols import PROTOCOLS
from mmtune.report.tables import percent
from mmtune.tracking import MlflowTracker, exists

REPOSITORY = Path(__file__).parents[2]


def command(dataset: Dataset, *words: str) -> list[str]:
    own = [*words, "--data", str(dataset.folder), "--device", "cpu", "--results", "RESULTS.md"]
    # Its package is the repository's alone, and not installed.
    begins = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); sys.argv[0] = 'reproduction'; "
    return [sys.executable, "-c", f"{begins}from reproduction.__main__ import app, answer; answer(app)", *own]


def reproduced(dataset: Dataset, folder: Path, *words: str) -> str:
    done = subprocess.run(command(dataset, *words), cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def interrupt(dataset: Dataset, folder: Path, number: int, *words: str) -> None:
    """Begin, wait until one task has ended and another one trains, then stop it."""
    process = subprocess.Popen(command(dataset, *words), cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert next(line for line in process.stdout if line.startswith("[1/"))
    wait_for_training(folder / "mlruns")
    process.send_signal(number)
    rest, _ = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "interrupted; the same command goes on with the tasks that are missing" in rest


def wait_for_training(store: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if exists(store) and statuses(MlflowTracker(store)).count("RUNNING"):
            return
        time.sleep(0.2)


def statuses(tracker: MlflowTracker) -> list[str]:
    runs = tracker.studies()
    trials = [trial for run in runs for trial in tracker.trials(run.run_id)]
    return sorted([*(run.status for run in runs), *(trial.state for trial in trials)])


def rows(folder: Path) -> list[list[str]]:
    """The cells of the table that has every line with its command, without its heading."""
    _, _, whole = (folder / "RESULTS.md").read_text().partition("### Each line, and its command")
    lines = [line for line in whole.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def check_table(dataset: Dataset, folder: Path, studies: list[str]) -> None:
    """Every line is there, its numbers are those of the store, and its command makes nothing new."""
    tracker = MlflowTracker(folder / "mlruns")
    found = rows(folder)
    assert {(row[0].strip("`"), row[3].strip("`")) for row in found} == {(s, p) for s in studies for p in PROTOCOLS}
    for row in found:
        name, protocol = row[0].strip("`"), row[3].strip("`")
        (run,) = [run for run in tracker.studies(name) if run.key.protocol == protocol]
        (trial,) = [trial for trial in tracker.trials(run.run_id) if trial.state == "COMPLETE"]
        wanted = ("val_accuracy_at_best", "best_val_macro_f1", "test_accuracy", "test_macro_f1")
        assert [row[6], row[7], row[8], row[10]] == [percent(trial.metrics[metric]) for metric in wanted]
        low, high = (float(text) for text in row[9].split(" to "))
        assert low <= float(row[8]) <= high
        assert "budget below the report's" in row[12]


@pytest.fixture(scope="module")
def made(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a reproduction was interrupted and then finished."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "RESULTS.md").write_text("# Results\n\nBy hand.\n\n## An old finding\n\nKept.\n")
    words = ("audio_rnn", "--epochs", "20", "--workers", "1")
    interrupt(tiny, folder, signal.SIGTERM, *words)
    tracker = MlflowTracker(folder / "mlruns")
    assert "RUNNING" not in statuses(tracker)
    assert "FINISHED" in statuses(tracker)
    assert "reproduction" not in (folder / "RESULTS.md").read_text()
    said = reproduced(tiny, folder, *words[:-1], "2")
    assert re.search(r"^3 tasks, [12] to run, 2 at once", said, re.MULTILINE)
    assert "audio_rnn, as_reported, seed 0: started" not in said
    return folder


@pytest.mark.slow
def test_an_interrupted_call_goes_on_where_it_stopped(made: Path, tiny: Dataset) -> None:
    check_table(tiny, made, ["audio_rnn"])
    text = (made / "RESULTS.md").read_text()
    assert text.startswith("# Results\n\nBy hand.\n\n<!-- reproduction: tiny begin -->")
    assert text.endswith("<!-- reproduction: tiny end -->\n\n## An old finding\n\nKept.\n")
    page = (made / "mlruns" / "reports" / "reproduction-tiny.html").read_text()
    assert "default-src &#39;none&#39;" in page
    assert all(" ".join(row[3].split("`")).strip() in page for row in rows(made))


@pytest.mark.slow
def test_a_finished_call_runs_nothing_and_writes_the_same_table(made: Path, tiny: Dataset) -> None:
    before = rows(made)
    said = reproduced(tiny, made, "audio_rnn", "--epochs", "20")
    assert said.startswith("3 tasks, 0 to run")
    assert "started" not in said
    assert rows(made) == before


@pytest.mark.slow
def test_a_lines_command_is_the_one_that_made_it(made: Path) -> None:
    words = shlex.split(rows(made)[0][-1].strip("`"))
    before = statuses(MlflowTracker(made / "mlruns"))
    done = subprocess.run(
        [sys.executable, "-m", "mmtune.cli", *words[1:]], cwd=made, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "started" not in done.stdout
    assert statuses(MlflowTracker(made / "mlruns")) == before


@pytest.mark.slow
def test_encoders_are_made_before_what_starts_from_them(tiny: Dataset, tmp_path: Path) -> None:
    words = ("latent_fusion", "audio_rnn", "image_cnn", "--epochs", "1", "--workers", "2")
    interrupt(tiny, tmp_path, signal.SIGINT, *words)
    said = reproduced(tiny, tmp_path, *words)
    check_table(tiny, tmp_path, ["latent_fusion", "audio_rnn", "image_cnn"])
    for protocol in PROTOCOLS:
        began = said.find(f"latent_fusion, {protocol}, seed 0: started")
        for encoder in ("audio_rnn", "image_cnn"):
            assert began > said.find(f"] {encoder}, {protocol}, seed 0:")
    logs = (tmp_path / "mlruns" / "logs" / "reproduce").glob("latent_fusion*")
    assert all("runs first" not in log.read_text() for log in logs)


@pytest.mark.slow
def test_a_task_that_fails_does_not_stop_the_others(tiny: Dataset, tmp_path: Path) -> None:
    """A file in the way of one study's journal stands for whatever makes one fail."""
    words = ("audio_rnn", "image_cnn", "latent_fusion", "--epochs", "1")
    blocked = tmp_path / "mlruns" / "artifacts" / "image_cnn"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")
    done = subprocess.run(command(tiny, *words), cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 1, done.stdout + done.stderr
    remarks = {(row[0].strip("`"), row[3].strip("`")): row[12] for row in rows(tmp_path)}
    for protocol in PROTOCOLS:
        assert "failed" in remarks["image_cnn", protocol]
        assert "failed" not in remarks["audio_rnn", protocol]
        assert "not possible: a model that it starts from is missing" in remarks["latent_fusion", protocol]


@pytest.mark.slow
def test_a_study_of_no_paper_stands_after_those_of_papers(tiny: Dataset, tmp_path: Path) -> None:
    reproduced(tiny, tmp_path, "image_cnn_recipe", "image_cnn", "--epochs", "1", "--workers", "2")
    named = [row[0].strip("`") for row in rows(tmp_path)]
    assert named == [*["image_cnn"] * len(PROTOCOLS), *["image_cnn_recipe"] * len(PROTOCOLS)]


@pytest.mark.slow
def test_large_models_are_cross_validated(tiny: Dataset, tmp_path: Path) -> None:
    reproduced(tiny, tmp_path, "xflow_cnn_mlp_baseline", "--epochs", "1", "--workers", "2")
    (row,) = [row for row in rows(tmp_path) if "folds" in row[3]]
    tracker = MlflowTracker(tmp_path / "mlruns")
    (run,) = [run for run in tracker.studies() if run.key.folds]
    (trial,) = tracker.trials(run.run_id)
    mean, deviation = (percent(trial.metrics[name]) for name in ("held_accuracy", "held_accuracy_sd"))
    assert row[6] == f"{mean} ± {deviation}"
    assert row[3] == "1 of 300 epochs, 10 folds"
