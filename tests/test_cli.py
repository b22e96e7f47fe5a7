"""The command line as a stranger meets it: real processes, real stores, rubbish included."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmtune import cli
from mmtune.data.dataset import Dataset
from mmtune.study import study_files
from mmtune.study.finding import shipped_names


def mmtune(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmtune.cli", *words]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=240)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("words", [[], ["study"], ["data"], ["promote"], ["predict"], ["data", "build"]])
def test_every_verb_explains_itself(tmp_path: Path, words: list[str]) -> None:
    done = mmtune(*words, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["study", "nothing"],
            "NAME must be one of audio_mel, audio_rnn, ",
        ),
        (
            ["study", "audio_rnn", "--protocol", "disjoint"],
            "protocol must be one of random, disjoint:GROUP",
        ),
        (
            ["study", "audio_rnn", "--protocol", "disjoint:patient", "--data", "TINY"],
            "needs the group patient, the data",
        ),
        (["study", "audio_rnn", "--studies", "nowhere"], "--studies must name folders of studies, "),
        (["study", "audio_rnn", "--sampler", "magic"], "--sampler must be one of grid, tries, phases, reported, tpe"),
        (["study", "audio_rnn", "--fix", "hidden=many"], "model.hidden must be of type int, got 'many'"),
        (["study", "audio_rnn", "--data", "nowhere"], "nowhere"),
        (["study", "audio_rnn", "--epochs", "0", "--data", "TINY"], "--epochs must be a whole number from 1"),
        (["study", "audio_rnn", "--workers", "-1", "--data", "TINY"], "--workers must be a whole number from 1"),
        (["study", "audio_rnn", "--device", "gpu9", "--data", "TINY"], "--device must be auto, cpu or a GPU"),
        (["study", "audio_rnn", "--device", "meta", "--data", "TINY"], "--device must be auto, cpu or a GPU"),
        (["study", "audio_rnn", "--fix", "epochs=3", "--data", "TINY"], "the budget is --epochs"),
        (["study", "latent_fusion", "--fix", "kernel=5", "--data", "TINY"], "is decided by the trained encoder"),
        (["study", "audio_rnn", "--seed", "-3", "--data", "TINY"], "--seed must be a whole number from 0"),
        (["report", "audio_rnn"], "--store must name a folder with tracked runs, got mlruns; run a study first"),
        (["ui", "--no-browser"], "--store must name a folder with tracked runs, got mlruns; run a study first"),
        (["promote", "x", "--history", "--rollback"], "--history promotes nothing and goes without --rollback"),
        (["promote", "x", "--rollback", "--seed", "0", "--force"], "goes without --force, --seed"),
        (["study", "audio_rnn", "--store", "a%b", "--data", "TINY"], "--store must be a path without %, ? and #, got"),
        (["promote", "audio_rnn"], "--store must name a folder with tracked runs"),
        (["ensemble", "audio_rnn"], "--store must name a folder with tracked runs"),
        (["compare", "audio_rnn"], "--store must name a folder with tracked runs"),
        (["compare", "audio_rnn", "--out", "."], ". must be a file to write to, it is a folder"),
        (["robustness", "audio_rnn"], "--store must name a folder with tracked runs"),
        (["robustness", "nothing"], "NAME must be one of audio_mel, audio_rnn, "),
        (["predict", "--model", "x"], "predict takes one of --image with --audio and --input, --table, and --data"),
        (["predict", "--model", "x", "--input", "body"], "--input takes BANK=FILE or BANK=NUMBERS, each bank once"),
        (["predict", "--model", "x", "--input", "a=1", "--input", "a=2"], "each bank once, got 'a=2'"),
        (["predict", "--model", "x", "--image", "y", "--data", "d", "--out", "o"], "predict takes one of --image"),
        (["predict", "--model", "x", "--data", "d"], "predict takes --data and --out together"),
        (["data", "info", "nowhere"], "nowhere"),
        (["data", "build", "--images", "no", "--audio", "no", "--out", "o"], "no"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(
    tiny: Dataset,
    tmp_path: Path,
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMTUNE_STUDIES", "")
    text = refusal(cli.main, *(str(tiny.folder) if word == "TINY" else word for word in words))
    assert text.startswith("mmtune: ")
    assert said in text
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def ran(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which latent_fusion was run on a small data set, with the studies that it needs."""
    folder = tmp_path_factory.mktemp("user")
    for name in ("image_cnn", "audio_rnn"):
        words = ["study", name, "--data", str(tiny.folder), "--trials", "2", "--epochs", "4"]
        assert mmtune(*words, cwd=folder).returncode == 0
    done = mmtune("study", "latent_fusion", "--data", str(tiny.folder), cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runs first" not in done.stdout
    which = f"latent_fusion --data {tiny.folder}"
    assert f"next: mmtune report {which}  |  mmtune ui  |  mmtune promote {which}" in done.stdout
    return folder


def test_missing_encoders_are_trained_first_and_it_says_so(tiny: Dataset, tmp_path: Path) -> None:
    words = ["study", "latent_fusion", "--data", str(tiny.folder), "--seed", "5"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mmtune.cli", *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    process.terminate()
    rest, _ = process.communicate(timeout=60)
    assert "latent_fusion needs image_cnn on this data and split; none is tracked, so it runs first" in lines[0]
    assert lines[1].startswith("image_cnn: 12 trials of 10 epochs on tiny")
    assert process.returncode == 130
    assert "latent_fusion: 2 trials" not in rest


def test_the_studies_are_listed_with_what_was_measured(ran: Path) -> None:
    """In a pipe, so a line a study, however narrow a terminal would be."""
    done = mmtune("studies", cwd=ran, COLUMNS="80")
    rows = done.stdout.splitlines()[3:-1]
    assert [row.split()[1] for row in rows] == list(study_files())
    row = next(line for line in rows if "latent_fusion" in line)
    assert "accuracy 99.00%" in row
    assert "clip_disjoint, seed 0" in row


def test_a_broken_study_is_a_line_beside_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.py").write_text("x = 1\n1 / 0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("MMTUNE_STUDIES", "")
        patch.setattr(sys, "argv", ["mmtune", "studies", "--studies", str(tmp_path)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 0
    *table, line = capsys.readouterr().out.splitlines()
    assert line == f"{tmp_path}/broken.py:2: must be a study that loads: ZeroDivisionError: division by zero"
    assert [row.split()[1] for row in table[3:-1]] == shipped_names()


def test_from_report_to_prediction(ran: Path, tiny: Dataset) -> None:
    report = mmtune("report", "latent_fusion", cwd=ran)
    assert report.returncode == 0, report.stderr
    page = Path(report.stdout.split(": ", 1)[1].strip())
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")
    promotion = mmtune("promote", "latent_fusion", cwd=ran)
    assert promotion.returncode == 0, promotion.stderr
    assert "version 1 is champion, as there was none before" in promotion.stdout
    # The other bank came ready-made: no file becomes one of its values.
    assert promotion.stdout.splitlines()[-1] == "next: mmtune predict --model latent_fusion --image FILE"
    again = mmtune("promote", "latent_fusion", cwd=ran)
    assert "is champion already" in again.stdout
    scored = mmtune("predict", "--model", "latent_fusion", "--data", str(tiny.folder), "--out", "out.csv", cwd=ran)
    assert scored.returncode == 0, scored.stderr
    rows = list(csv.DictReader((ran / "out.csv").open()))
    ours = ("class", "probability", "abstained", "agree", "familiar", "trained", "set", "label", "refused")
    assert list(rows[0]) == ["row", *tiny.test.groups, *ours]
    assert len(rows) == len(tiny.test)
    named = [row["class"] for row in rows]
    hits = sum(name == tiny.classes[label] for name, label in zip(named, tiny.test.labels, strict=True))
    assert f"{hits / len(named):.4f}" in promotion.stdout
    (ran / "x.png").write_bytes(b"no picture")
    words = ["--image", "x.png", "--audio", "x.wav"]
    assert "x.png" in refused(mmtune("predict", "--model", "latent_fusion", *words, cwd=ran))


def test_how_robust_a_trial_is_is_measured_and_stands_in_its_report(
    ran: Path,
    tiny: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refusal: Callable[..., str],
) -> None:
    monkeypatch.chdir(ran)
    monkeypatch.setattr(sys, "argv", ["mmtune", "robustness", "latent_fusion", "--test"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "on 120 test rows" in said
    rows = [line for line in said.splitlines() if line.startswith("\N{BOX DRAWINGS LIGHT VERTICAL}")]
    assert len(rows) == 2 * len(
        [*("noise", "blur", "rotation", "shift"), *("noise", "gain", "shift"), *("outlier", "missing") * 2]
    )
    assert "speaker: 4 of them, all known from training" in said
    assert said.splitlines()[-1] == "next: mmtune report latent_fusion"
    text = refusal(cli.main, "robustness", "latent_fusion", "--seed", "9")
    assert "latent_fusion must have been run with these options first" in text


def test_encoders_come_from_the_best_tracked_trials(ran: Path) -> None:
    from mmtune.tracking import MlflowTracker, best_trial

    tracker = MlflowTracker(ran / "mlruns")
    runs = {name: tracker.studies(name)[0] for name in ("image_cnn", "audio_rnn")}
    best = {name: best_trial(tracker.trials(run.run_id), run.key.objective) for name, run in runs.items()}
    (study,) = tracker.studies("latent_fusion")
    for trial in tracker.trials(study.run_id):
        params = tracker.client.get_run(trial.run_id).data.params
        assert best["image_cnn"] is not None
        assert best["audio_rnn"] is not None
        assert params["encoder.image"] == best["image_cnn"].run_id
        assert params["encoder.audio"] == best["audio_rnn"].run_id
        assert params["model.image.activation"] == best["image_cnn"].params["model.activation"]


@pytest.mark.slow
def test_better_encoders_make_another_study(ran: Path, tiny: Dataset) -> None:
    from mmtune.tracking import MlflowTracker

    done = mmtune("study", "image_cnn", "--data", str(tiny.folder), "--trials", "2", "--epochs", "8", cwd=ran)
    assert done.returncode == 0, done.stderr
    again = mmtune("study", "latent_fusion", "--data", str(tiny.folder), cwd=ran)
    assert "image encoder: image_cnn trial" in again.stdout
    assert "(8 epochs)" in again.stdout
    assert "[2/2]" in again.stdout
    assert len(MlflowTracker(ran / "mlruns").studies("latent_fusion")) == 2


@pytest.mark.slow
def test_told_to_train_jointly_it_needs_no_encoders(tiny: Dataset, tmp_path: Path) -> None:
    words = ["--data", str(tiny.folder), "--fix", "encoders=joint", "--trials", "1", "--epochs", "2"]
    done = mmtune("study", "latent_fusion", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "runs first" not in done.stdout
    assert "encoders=joint" in done.stdout


@pytest.mark.slow
def test_with_every_choice_fixed_one_trial_is_left(tiny: Dataset, tmp_path: Path) -> None:
    fixed = ("--fix", "hidden=64", "--fix", "layers=1")
    words = ["study", "audio_rnn", "--data", str(tiny.folder), "--epochs", "1", *fixed]
    done = mmtune(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[1/1]" in done.stdout


@pytest.mark.slow
def test_runs_deleted_in_the_ui_are_made_again(ran: Path, tiny: Dataset) -> None:
    from mmtune.tracking import MlflowTracker

    words = ["study", "audio_rnn", "--data", str(tiny.folder), "--trials", "2", "--epochs", "4"]
    assert "started" not in mmtune(*words, cwd=ran).stdout
    tracker = MlflowTracker(ran / "mlruns")
    (study,) = tracker.studies("audio_rnn")
    tracker.client.delete_run(tracker.trials(study.run_id)[0].run_id)
    again = mmtune(*words, cwd=ran)
    assert [line for line in again.stdout.splitlines() if "started" in line] == [
        "trial 00 hidden=320 layers=1: started"
    ]
    assert [trial.number for trial in tracker.trials(study.run_id)] == [0, 1]


@pytest.mark.slow
def test_another_sampler_prunes_and_resumes(tiny: Dataset, tmp_path: Path) -> None:
    words = ["study", "audio_rnn", "--data", str(tiny.folder), "--sampler", "random", "--epochs", "9", "--workers", "2"]
    first = mmtune(*words, "--trials", "6", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "pruned" in first.stdout
    more = mmtune(*words, "--trials", "8", cwd=tmp_path)
    assert "[8/8]" in more.stdout
    assert "trial 05" not in more.stdout


def test_the_ui_answers_on_loopback_and_links_to_the_trials_for_a_browser(ran: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A browser that keeps what it is given, and the page that it is sent to.
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/given\ncp "${{1#file://}}" {tmp_path}/page.html\n')
    browser.chmod(0o700)
    words = [sys.executable, "-m", "mmtune.cli", "ui", "--port", str(port), "--browser"]
    environment = os.environ | {"BROWSER": f"{browser} %s"}
    both: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(words, cwd=ran, env=environment, **both)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        page = f"http://127.0.0.1:{port}"
        assert lines[0].startswith(f"MLflow UI: {page}/?token=")
        token = lines[0].split()[2]
        for line, what in zip(lines[1:], ("trials", "charts"), strict=False):
            assert line.startswith(f"  {what} of audio_rnn: {token}#/experiments/")
            assert "viewStateShareKey=audio_rnn-" in line
        while not (tmp_path / "page.html").exists() or not (tmp_path / "page.html").stat().st_size:
            time.sleep(0.05)
        sent = (tmp_path / "page.html").read_text()
        # The token is in a file of this user's, not in anybody's arguments; the study that was opened last is shown.
        assert token.partition("=")[2] not in (tmp_path / "given").read_text()
        assert "viewStateShareKey=latent_fusion-" in sent
        assert token in sent
        folder = Path((tmp_path / "given").read_text().strip().removeprefix("file://")).parent
        assert folder.stat().st_mode & 0o077 == 0
        client = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        # A browser goes on by itself; the cookie that it then has opens MLflow's own page.
        with client.open(lines[0].split()[2], timeout=60) as answer:
            assert "location.replace" in answer.read().decode()
        with client.open(f"{page}/", timeout=60) as answer:
            assert "static-files/" in answer.read().decode()
        with client.open(f"{page}/ajax-api/2.0/mlflow/experiments/search?max_results=10", timeout=60) as answer:
            assert "audio_rnn" in answer.read().decode()
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_trials_answer_together_and_the_next_command_promotes_what_is_best(ran: Path) -> None:
    done = mmtune("ensemble", "latent_fusion", cwd=ran)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    made = [line for line in lines if line.startswith(("single of ", "ensemble of ", "soup of "))]
    assert made
    scores = [float(line.rpartition(" ")[2]) for line in made]
    alone = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("no better than ")]
    assert all(score >= max(scores) for score in alone)
    assert lines[-1].startswith("next: mmtune promote latent_fusion --run ")
    assert ("--trial" in lines[-1]) == (not alone)
