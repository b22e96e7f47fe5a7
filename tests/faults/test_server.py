"""Studies beside an MLflow server that is stopped, killed, cut off or never there: they go on, and nothing is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from checks import TRIALS, begin, check_whole, command, eventually, run, wait_for
from mlflow_servers import Proxy, ServerProcess, all_runs, check_delivered, dump, files_on

from mmtune.data.dataset import Dataset
from mmtune.tracking import MlflowTracker

pytestmark = pytest.mark.slow
VARIABLE = "MLFLOW_TRACKING_URI"
# About half a minute.
LONG = 1500


@pytest.fixture
def server(tmp_path: Path, store_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """A server of its own, that the environment names."""
    made = ServerProcess(tmp_path / "server", store_template)
    made.start()
    monkeypatch.setenv(VARIABLE, made.uri)
    yield made
    made.kill()


def sync(store: Path, code: int = 0) -> str:
    """`mmtune sync` and what it printed."""
    return run([sys.executable, "-m", "mmtune.cli", "sync", "--store", str(store)], code)


def check_settled(store: Path, server: ServerProcess) -> None:
    """The server has everything once, and to deliver again changes nothing."""
    check_delivered(store, server)
    before = dump(server)
    for _ in range(2):
        assert "\n0 runs delivered" in "\n" + sync(store)
    assert dump(server) == before


def end_of(process: subprocess.Popen[str]) -> str:
    """What a study still prints, when it has ended well."""
    text, _ = process.communicate(timeout=280)
    assert process.returncode == 0, text
    return text


def test_a_study_is_seen_on_the_server_while_it_runs_and_whole_at_its_end(
    tiny: Dataset, store: Path, server: ServerProcess
) -> None:
    process = begin(command(tiny, store, epochs=LONG))
    wait_for(process, "trial 00")

    def epochs_seen() -> int:
        found = [run for run in all_runs(server.client) if run.info.status == "RUNNING"]
        return max((len(server.client.get_metric_history(run.info.run_id, "val_loss")) for run in found), default=0)

    assert eventually(lambda: epochs_seen() > 20, 30)
    assert process.poll() is None
    text = end_of(process)
    assert server.uri not in text
    check_whole(store, epochs=LONG)
    check_settled(store, server)


def test_stopped_for_a_minute_the_server_gets_everything_when_it_is_back(
    tiny: Dataset, store: Path, server: ServerProcess
) -> None:
    process = begin(command(tiny, store, epochs=3 * LONG))
    wait_for(process, "trial 00")
    assert eventually(lambda: len(list(all_runs(server.client))) > 1, 30)
    server.send(signal.SIGSTOP)
    time.sleep(60)
    server.send(signal.SIGCONT)
    text = end_of(process)
    assert text.count(f"{server.uri} does not answer: the study goes on") == 1
    assert text.count("is back") == 1
    assert "mmtune sync" not in text
    check_whole(store, epochs=3 * LONG)
    check_settled(store, server)


def test_killed_and_started_again_the_server_gets_everything(tiny: Dataset, store: Path, server: ServerProcess) -> None:
    process = begin(command(tiny, store, epochs=LONG))
    wait_for(process, "trial 00")
    for _ in range(2):
        time.sleep(4)
        server.kill()
        time.sleep(1)
        server.start()
    end_of(process)
    check_whole(store, epochs=LONG)
    sync(store)
    check_settled(store, server)


def test_killed_for_good_the_study_ends_well_and_sync_delivers_later(
    tiny: Dataset, store: Path, server: ServerProcess
) -> None:
    process = begin(command(tiny, store, epochs=LONG))
    wait_for(process, "trial 00")
    time.sleep(5)
    server.kill()
    text = end_of(process)
    assert text.count("does not answer: the study goes on") == 1
    assert text.count("`mmtune sync` brings them to") == 1
    check_whole(store, epochs=LONG)
    told = sync(store, code=2)
    assert told.startswith(f"mmtune: {server.uri} does not answer")
    assert len(told.splitlines()) == 1
    server.start()
    assert "runs delivered" in sync(store)
    check_settled(store, server)


def test_a_server_that_was_never_there_costs_a_study_a_few_seconds(
    tiny: Dataset, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:1")
    began = time.monotonic()
    text = run(command(tiny, store))
    assert time.monotonic() - began < 40
    assert f"{TRIALS + 1} runs wait in" in text
    check_whole(store)


def test_an_address_that_is_none_is_refused_before_anything_begins(
    tiny: Dataset, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "file:///tmp/x")
    text = run(command(tiny, store), code=2)
    assert text.startswith(f"mmtune: {VARIABLE} must be the http(s) URL")
    monkeypatch.delenv(VARIABLE)
    assert not MlflowTracker(store).studies()
    run(command(tiny, store))
    check_whole(store)


def test_killed_again_and_again_a_coordinator_delivers_every_run_once(
    tiny: Dataset, store: Path, server: ServerProcess
) -> None:
    rng = random.Random(0)
    for _ in range(8):
        process = begin(command(tiny, store, epochs=LONG // 3))
        time.sleep(rng.uniform(2.0, 7.0))
        process.kill()
        process.communicate()
    run(command(tiny, store, epochs=LONG // 3))
    check_whole(store, epochs=LONG // 3)
    sync(store)
    check_settled(store, server)


def test_answers_that_are_lost_all_the_time_make_nothing_twice(
    tiny: Dataset, store: Path, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(server.port, lose={b"runs/create": 4, b"runs/log-batch": 4, b"runs/update": 2})
    monkeypatch.setenv(VARIABLE, proxy.uri)
    run(command(tiny, store, epochs=LONG))
    check_whole(store, epochs=LONG)
    assert len(proxy.lost) > 4
    proxy.lose.clear()
    sync(store)
    check_delivered(store, server)


def test_a_study_that_was_promoted_is_delivered_with_its_scores(
    tiny: Dataset, store: Path, server: ServerProcess
) -> None:
    run(command(tiny, store))
    words = [sys.executable, "-m", "mmtune.cli", "promote", "audio_rnn", "--store", str(store)]
    run([*words, "--data", str(tiny.folder)])
    assert "\n1 run delivered" in "\n" + sync(store)
    names = check_delivered(store, server)
    assert any("registered/MLmodel" in files_on(server, run_id) for run_id in names.values())


def test_folds_are_delivered_with_the_trials_that_they_belong_to(
    tiny: Dataset, store: Path, server: ServerProcess
) -> None:
    run(command(tiny, store, "--folds", "3", trials=2, epochs=4))
    assert len(check_delivered(store, server)) == 1 + 2 + 2 * 3


def test_encoders_that_run_first_are_delivered_too(tiny: Dataset, store: Path, server: ServerProcess) -> None:
    words = command(tiny, store, "--sampler", "reported", study="latent_fusion", trials=1, epochs=2)
    text = run(words)
    assert "so it runs first" in text
    assert len(MlflowTracker(store).studies()) == 3
    assert len(check_delivered(store, server)) == 6
