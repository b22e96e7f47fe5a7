"""Studies whose runs are on an MLflow server that is stopped, killed, cut off or not there: the same study, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checks import begin, check_whole, command, eventually, mmtune, results, run, wait_for
from databases import Postgres
from mlflow_servers import Proxy, ServerProcess

from mmtune.data.dataset import Dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
VARIABLE, TIMEOUT = "MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_TIMEOUT"
# Long enough for something to happen in the middle.
LONG = 300
Results = list[dict[str, Any]]


@pytest.fixture
def server(tmp_path: Path, store_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """A server of its own, that the environment names."""
    made = ServerProcess(tmp_path / "server", store_template)
    made.start()
    monkeypatch.setenv(VARIABLE, made.uri)
    yield made
    made.kill()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder from which studies are run that keeps no runs itself."""
    return tmp_path / "here"


@pytest.fixture(scope="module")
def calm_results(calm: Path) -> Results:
    return local(calm)


@pytest.fixture(scope="module")
def long_results(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What a long study gives that nobody disturbs, without a server."""
    store = tmp_path_factory.mktemp("long") / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        run(command(tiny, store, epochs=LONG))
    return local(store)


def local(store: Path) -> Results:
    """The results of a study in a folder, whatever the environment names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        return results(store)


def check_once(store: Path, server: ServerProcess, expected: Results, epochs: int) -> None:
    """The server has what an undisturbed study has, each run once, and no other run."""
    check_whole(store, trials=len(expected), epochs=epochs)
    assert results(store) == expected
    assert len(server.runs()) == len(expected) + 1
    assert not list(store.rglob("*.db"))


def end_of(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a study still prints until it has ended."""
    text, _ = process.communicate(timeout=280)
    assert process.returncode == code, text
    assert "Traceback" not in text
    return text


# ---- undisturbed


def test_a_study_is_on_the_server_while_it_runs_and_is_the_same_study(
    tiny: Dataset, place: Path, server: ServerProcess, long_results: Results
) -> None:
    process = begin(command(tiny, place, epochs=LONG))

    def epochs_seen() -> int:
        found = [run for run in server.runs() if run.info.status == "RUNNING"]
        return max((len(server.client.get_metric_history(run.info.run_id, "val_loss")) for run in found), default=0)

    assert eventually(lambda: epochs_seen() > 20, 60)
    assert process.poll() is None
    assert "does not answer" not in end_of(process)
    check_once(place, server, long_results, LONG)
    assert all(run.info.artifact_uri.startswith("mlflow-artifacts:") for run in server.runs())
    before = {run.info.run_id: run.data.metrics for run in server.runs() if run.data.tags["mmtune.kind"] == "trial"}
    run(command(tiny, place, epochs=LONG))
    after = {run.info.run_id: run.data.metrics for run in server.runs() if run.data.tags["mmtune.kind"] == "trial"}
    assert before == after


def test_folds_and_encoders_are_on_the_server_too(tiny: Dataset, place: Path, server: ServerProcess) -> None:
    run(command(tiny, place, "--folds", "3", trials=2, epochs=4))
    assert len(server.runs()) == 1 + 2 + 2 * 3
    text = run(command(tiny, place, "--sampler", "reported", study="latent_fusion", trials=1, epochs=2))
    assert "so it runs first" in text
    assert len(server.runs()) == 9 + 6
    assert {run.info.status for run in server.runs()} == {"FINISHED"}


# ---- away for a while


@pytest.mark.parametrize("behind", ["sqlite", "postgresql"])
def test_killed_and_started_again_in_the_middle_the_study_ends_like_an_undisturbed_one(
    tiny: Dataset,
    place: Path,
    tmp_path: Path,
    store_template: Path,
    long_results: Results,
    behind: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = ""
    if behind == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        template = request.getfixturevalue("postgres_template")
        backend = postgres.url(template).replace("postgresql:", "postgresql+psycopg:")
    server = ServerProcess(tmp_path / "server", store_template, backend)
    server.start()
    monkeypatch.setenv(VARIABLE, server.uri)
    try:
        process = begin(command(tiny, place, epochs=LONG))
        wait_for(process, "trial 00")
        for _ in range(3):
            time.sleep(3)
            server.kill()
            time.sleep(1)
            server.start()
        text = end_of(process)
        check_once(place, server, long_results, LONG)
        assert "Traceback" not in text
    finally:
        server.kill()


def test_stopped_for_a_while_it_costs_a_line_and_no_training(
    tiny: Dataset, place: Path, server: ServerProcess, long_results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIMEOUT, "3")
    process = begin(command(tiny, place, epochs=LONG))
    wait_for(process, "trial 00")
    assert eventually(lambda: len(server.runs()) > 1, 30)
    server.send(signal.SIGSTOP)
    time.sleep(15)
    server.send(signal.SIGCONT)
    text = end_of(process)
    assert text.count(f"{server.uri} does not answer") == 1
    assert text.count(f"{server.uri} is back") == 1
    check_once(place, server, long_results, LONG)


def test_away_for_longer_than_the_patience_the_study_stops_and_the_same_command_goes_on(
    tiny: Dataset, place: Path, server: ServerProcess, long_results: Results
) -> None:
    words = command(tiny, place, "--store-patience", "5", epochs=LONG)
    process = begin(words)
    wait_for(process, "[1/4]")
    server.kill()
    text = end_of(process, code=2)
    last = text.strip().splitlines()[-1]
    assert last.startswith(f"mmtune: {server.uri} has not answered for 5 s")
    assert "the same command goes on" in last
    assert list((place / "staging").glob("*/*/run.json"))
    told = run(words, code=2)
    assert len(told.splitlines()) == 1
    assert "does not answer" in told
    server.start()
    text = run(words)
    check_once(place, server, long_results, LONG)


def test_stopped_while_the_server_is_away_nothing_is_lost(
    tiny: Dataset, place: Path, server: ServerProcess, long_results: Results
) -> None:
    words = command(tiny, place, "--store-patience", "3", epochs=LONG)
    process = begin(words)
    wait_for(process, "trial 00")
    time.sleep(3)
    server.kill()
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode in (2, 130), text
    assert "Traceback" not in text
    server.start()
    run(words)
    check_once(place, server, long_results, LONG)


def test_a_server_that_was_never_there_is_a_line_at_once(
    tiny: Dataset, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "http://me:secret@127.0.0.1:1")
    for words in (command(tiny, place), *(mmtune(*verb.split(), "--store", str(place)) for verb in VERBS)):
        text = run(words, code=2)
        assert len(text.splitlines()) == 1, text
        assert "http://127.0.0.1:1 does not answer" in text
        assert "secret" not in text


VERBS = (
    "studies",
    "report audio_rnn",
    "compare audio_rnn image_cnn",
    "promote audio_rnn",
    "predict --model audio_rnn --image x.png",
)


# ---- answers that are lost, late, refused


def test_answers_that_are_lost_all_the_time_make_nothing_twice(
    tiny: Dataset, place: Path, server: ServerProcess, long_results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(command(tiny, place, trials=1, epochs=1))
    for made in server.runs():
        server.client.delete_run(made.info.run_id)
    proxy = Proxy(server.port)
    monkeypatch.setenv(VARIABLE, proxy.uri)
    process = begin(command(tiny, place, epochs=LONG))
    wait_for(process, "trial 01")
    proxy.lose |= {b"runs/create": 2, b"runs/log-batch": 4, b"runs/update": 2, b"model/weights": 2}
    end_of(process)
    assert set(proxy.lost) == {b"runs/create", b"runs/log-batch", b"runs/update", b"model/weights"}
    check_once(place, server, long_results, LONG)


@pytest.mark.parametrize("path", ["runs/create", "runs/log-batch", "runs/update"])
def test_what_arrives_late_is_there_once(
    tiny: Dataset, place: Path, server: ServerProcess, long_results: Results, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv(TIMEOUT, "2")
    proxy = Proxy(server.port)
    monkeypatch.setenv(VARIABLE, proxy.uri)
    process = begin(command(tiny, place, epochs=LONG))
    wait_for(process, "trial 01")
    proxy.hold[path.encode()] = 3.5
    end_of(process)
    assert not proxy.hold
    check_once(place, server, long_results, LONG)


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "429 Too Many Requests"])
def test_a_proxy_without_its_server_counts_as_away(
    tiny: Dataset,
    place: Path,
    server: ServerProcess,
    calm_results: Results,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
) -> None:
    proxy = Proxy(server.port, status=status.encode())
    monkeypatch.setenv(VARIABLE, proxy.uri)
    process = begin(command(tiny, place))
    wait_for(process, "trial 01")
    proxy.refuse = b"/api/"
    assert eventually(lambda: proxy.refused > 2, 30)
    proxy.refuse = b""
    text = end_of(process)
    assert text.count("does not answer") == 1
    check_once(place, server, calm_results, 60)


def test_a_server_that_refuses_is_a_line_and_what_is_finished_waits(
    tiny: Dataset, place: Path, server: ServerProcess, calm_results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(server.port)
    monkeypatch.setenv(VARIABLE, proxy.uri)
    process = begin(command(tiny, place))
    wait_for(process, "trial 01")
    proxy.refuse = b"runs/log-batch"
    text = end_of(process, code=2)
    assert f"{proxy.uri} must take what is tracked, it refuses" in text.strip().splitlines()[-1]
    proxy.refuse = b""
    run(command(tiny, place))
    check_once(place, server, calm_results, 60)


def test_a_run_that_is_deleted_while_it_is_under_way_is_there_again(
    tiny: Dataset, place: Path, server: ServerProcess, long_results: Results
) -> None:
    process = begin(command(tiny, place, epochs=LONG))
    assert eventually(lambda: len(server.runs()) > 2, 60)
    chosen = next(run for run in server.runs() if run.data.tags["mmtune.kind"] == "trial")
    server.client.delete_run(chosen.info.run_id)
    assert "was deleted while it was under way" in end_of(process)
    check_once(place, server, long_results, LONG)


# ---- coordinators


def test_killed_again_and_again_a_coordinator_has_every_run_once(
    tiny: Dataset, place: Path, server: ServerProcess, long_results: Results
) -> None:
    rng = random.Random(0)
    words = command(tiny, place, "--checkpoint-every", "1", epochs=LONG)
    for _ in range(6):
        process = begin(words)
        time.sleep(rng.uniform(3.0, 8.0))
        process.kill()
        process.communicate()
    run(words)
    check_once(place, server, long_results, LONG)


def test_of_two_coordinators_in_two_folders_the_second_is_refused_and_told_the_first(
    tiny: Dataset, place: Path, tmp_path: Path, server: ServerProcess, long_results: Results
) -> None:
    process = begin(command(tiny, place, epochs=LONG))
    wait_for(process, "trial 00")
    text = run(command(tiny, tmp_path / "there", epochs=LONG), code=2)
    assert f"already runs, and one coordinator at a time may write it: pid {process.pid} on" in text
    assert len(text.splitlines()) == 1
    end_of(process)
    check_once(place, server, long_results, LONG)


def test_of_two_coordinators_that_begin_at_once_one_goes_on(
    tiny: Dataset, place: Path, tmp_path: Path, server: ServerProcess, long_results: Results
) -> None:
    folders = [place, tmp_path / "there"]
    processes = [begin(command(tiny, folder, epochs=LONG)) for folder in folders]
    texts = [process.communicate(timeout=280)[0] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], texts
    (winner,) = [folder for folder, process in zip(folders, processes, strict=True) if not process.returncode]
    check_once(winner, server, long_results, LONG)


def test_what_a_coordinator_that_was_killed_has_begun_another_folder_goes_on_with(
    tiny: Dataset, place: Path, tmp_path: Path, server: ServerProcess, long_results: Results
) -> None:
    process = begin(command(tiny, place, epochs=LONG))
    wait_for(process, "[1/4]")
    process.kill()
    process.communicate()
    there = tmp_path / "there"
    run(command(tiny, there, epochs=LONG))
    check_whole(there, epochs=LONG)
    assert results(there) == long_results
    before = len(server.runs())
    # What the first folder still has in staging is settled, and counts no second time.
    run(command(tiny, place, epochs=LONG))
    check_whole(place, epochs=LONG)
    assert results(place) == long_results
    assert len(server.runs()) == before


def test_a_coordinator_that_slept_finds_that_another_has_taken_over(
    tiny: Dataset, place: Path, tmp_path: Path, server: ServerProcess, long_results: Results
) -> None:
    process = begin(command(tiny, place, epochs=LONG))
    wait_for(process, "trial 00")
    process.send_signal(signal.SIGSTOP)
    there = tmp_path / "there"
    other = begin(command(tiny, there, epochs=LONG))
    wait_for(other, "trial 00")
    process.send_signal(signal.SIGCONT)
    assert "was taken over: pid" in end_of(process, code=2)
    end_of(other)
    check_whole(there, epochs=LONG)
    assert results(there) == long_results


# ---- a team


def test_a_team_has_one_champion_wherever_it_was_trained(
    tiny: Dataset, place: Path, tmp_path: Path, server: ServerProcess
) -> None:
    def on(folder: Path, *words: str, code: int = 0) -> str:
        return run(mmtune(*words, "--store", str(folder)), code)

    there, data = tmp_path / "there", ("--data", str(tiny.folder))
    run(command(tiny, place, trials=2, epochs=3))
    run(command(tiny, place, "--seed", "1", trials=2, epochs=12))
    run(command(tiny, place, study="image_cnn", trials=1, epochs=1))
    assert "audio_rnn" in on(there, "studies")
    on(there, "report", "audio_rnn", *data, "--seed", "0")
    assert len(list((there / "reports").glob("*.html"))) == 1
    assert "McNemar" in on(there, "compare", "audio_rnn", "image_cnn", *data, "--seed", "0")
    assert "audio_rnn version 1" in on(there, "promote", "audio_rnn", *data, "--seed", "0")
    scored = ("predict", "--model", "audio_rnn", *data, "--out")
    on(there, *scored, str(tmp_path / "one.csv"))
    on(place, *scored, str(tmp_path / "two.csv"))
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()

    assert "audio_rnn version 2" in on(place, "promote", "audio_rnn", *data, "--seed", "1", "--force")
    on(there, *scored, str(tmp_path / "three.csv"))
    assert (tmp_path / "three.csv").read_bytes() != (tmp_path / "one.csv").read_bytes()
    assert "version 2 -> version 1" in on(there, "promote", "audio_rnn", "--rollback")
    on(place, *scored, str(tmp_path / "four.csv"))
    assert (tmp_path / "four.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert on(there, "promote", "audio_rnn", "--history") == on(place, "promote", "audio_rnn", "--history")
    assert not [*place.rglob("*.db"), *there.rglob("*.db")]


def test_a_password_is_in_no_message_no_file_and_no_argument(
    tiny: Dataset, place: Path, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"http://me:secret@127.0.0.1:{server.port}")
    process = begin(command(tiny, place, epochs=LONG))
    wait_for(process, "trial 00")
    told = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert not [line for line in told if b"secret" in line]
    server.kill()
    assert eventually(lambda: bool(list((place / "staging").glob("*/*/epochs.jsonl"))), 20)
    process.terminate()
    server.start()
    text, _ = process.communicate(timeout=60)
    assert "secret" not in text
    kept = [path for path in place.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if b"secret" in path.read_bytes()]
    assert not [run for run in server.runs() if "secret" in str(run.to_dictionary())]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("file:///tmp/x", "must be the address of a server or a database"),
        ("somewhere", "must be the address of a server or a database"),
        ("http://", "must be an address with a host and a port, got http:"),
        ("http://me:secret@host:port", "must be an address with a host and a port, got http://host:port"),
        ("http://me:secret@host:0/?x=secret", "must be an address with a host and a port, got http://host:0/"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_begins(
    tiny: Dataset, place: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    monkeypatch.setenv(VARIABLE, given)
    text = run(command(tiny, place), code=2)
    assert text.startswith(f"mmtune: {VARIABLE} {said}")
    assert "secret" not in text
    assert len(text.splitlines()) == 1
    assert not list(place.rglob("run.json"))
