"""One study on local workers and on a Ray cluster whose nodes come and go: the same trials, each once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from checks import begin, check_whole, command, eventually, gone, results, run, wait_for
from databases import Postgres
from nodes import Cluster, actors

from mmtune.data.dataset import Dataset
from mmtune.tracking import MlflowTracker
from mmtune.train.staging import CHECKPOINT, RUN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
EPOCHS = 150
OFTEN = ("--checkpoint-every", "0.2")
RUNS, MMTUNE = "MLFLOW_TRACKING_URI", (sys.executable, "-m", "mmtune.cli")


def on_ray(cluster: Cluster, *words: str) -> list[str]:
    """The same command, on a cluster."""
    given = [*words, "--pool", "ray", "--ray-address", cluster.address]
    place = given.index("--workers")
    return [*given[:place], *given[place + 2 :]]


def chatter(text: str) -> list[str]:
    """Lines that are Ray's or Python's and not ours."""
    return [line for line in text.splitlines() if line.startswith(("[20", "(ray", "Traceback")) or "Warning" in line]


@pytest.fixture(scope="module")
def calm(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Path:
    """The store of a study on local workers that nobody disturbed."""
    store = Path(shutil.copytree(store_template, tmp_path_factory.mktemp("calm") / "mlruns"))
    run(command(tiny, store, epochs=EPOCHS))
    return store


def test_a_study_on_three_nodes_is_that_of_local_workers(
    tiny: Dataset, store: Path, cluster: Cluster, calm: Path
) -> None:
    text = run(on_ray(cluster, *command(tiny, store, epochs=EPOCHS)))
    assert "Ray: 3 nodes, room for 3 trials side by side" in text
    assert not chatter(text)
    check_whole(store, epochs=EPOCHS)
    assert results(store) == results(calm)
    assert overlap(store) >= 2


def test_a_node_that_is_killed_costs_its_trial_one_attempt_which_goes_on_from_its_checkpoint(
    tiny: Dataset, store: Path, cluster: Cluster, calm: Path
) -> None:
    process = begin(on_ray(cluster, *command(tiny, store, *OFTEN, epochs=EPOCHS)))
    wait_for(process, "trial 02")
    assert eventually(lambda: len(list((store / "staging").glob(f"*/*/{CHECKPOINT}"))) == 3, 60)
    cluster.kill(cluster.others[0])
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    assert not chatter(text)
    check_whole(store, epochs=EPOCHS)
    assert results(store) == results(calm)
    tracker = MlflowTracker(store)
    runs = tracker.trials(tracker.studies()[0].run_id)
    lost = [trial for trial in runs if trial.state == "FAIL"]
    assert len(lost) == 1
    assert "died" in lost[0].tags["mmtune.reason"]
    assert len(runs) == 5
    (again,) = [trial for trial in runs if trial.number == lost[0].number and trial.state != "FAIL"]
    assert first_epoch(tracker, again.run_id) < again.started


def first_epoch(tracker: MlflowTracker, run_id: str) -> int:
    """When a run's first epoch was made, in milliseconds since 1970."""
    return min(metric.timestamp for metric in tracker.client.get_metric_history(run_id, "val_loss"))


def test_one_study_is_the_same_here_in_postgresql_and_on_a_cluster_that_loses_a_node(
    tiny: Dataset,
    tmp_path: Path,
    shared_store: Path,
    postgres: Postgres,
    postgres_template: str,
    cluster: Cluster,
    calm: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = os.environ.pop(RUNS)
    expected = [results(calm), listed(calm)]
    monkeypatch.setenv(RUNS, runs)
    run(command(tiny, shared_store, epochs=EPOCHS))
    assert [results(shared_store), listed(shared_store)] == expected

    there = tmp_path / "there"
    monkeypatch.setenv(RUNS, postgres.url(postgres_template))
    process = begin(on_ray(cluster, *command(tiny, there, epochs=EPOCHS)))
    wait_for(process, "trial 02")
    cluster.kill(cluster.others[0])
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    assert [results(there), listed(there)] == expected
    assert not [*shared_store.rglob("*.db"), *there.rglob("*.db")]


def listed(store: Path) -> str:
    """What the list of studies says of it."""
    (line,) = [line for line in run([*MMTUNE, "studies", "--store", str(store)]).splitlines() if "audio_rnn" in line]
    return line


def test_a_node_that_joins_gets_trials(tiny: Dataset, store: Path, lone_node: Cluster) -> None:
    long = 1000
    process = begin(on_ray(lone_node, *command(tiny, store, epochs=long)))
    wait_for(process, "trial 00")
    lone_node.add()
    text, _ = process.communicate(timeout=400)
    assert process.returncode == 0, text
    check_whole(store, epochs=long)
    assert overlap(store) == 2


def test_a_killed_driver_leaves_no_actor_and_goes_on(tiny: Dataset, store: Path, cluster: Cluster, calm: Path) -> None:
    words = on_ray(cluster, *command(tiny, store, *OFTEN, epochs=EPOCHS))
    process = begin(words)
    wait_for(process, "trial 02")
    assert eventually(lambda: bool(list((store / "staging").glob(f"*/*/{CHECKPOINT}"))), 60)
    assert actors()
    process.kill()
    process.wait()
    killed = 1000 * time.time()
    left = [path.with_name(RUN) for path in (store / "staging").glob(f"*/*/{CHECKPOINT}")]
    begun = {str(json.loads(path.read_text())["id"]) for path in left if not path.with_name("result.json").exists()}
    assert eventually(lambda: not actors(), 60)
    text = run(words)
    assert "cut short by an earlier interruption" in text
    check_whole(store, epochs=EPOCHS)
    assert results(store) == results(calm)
    tracker = MlflowTracker(store)
    gone_on = [found for own in begun for found in tracker.find(own)]
    assert len(gone_on) == len(begun)
    assert all(first_epoch(tracker, run.run_id) < killed for run in gone_on)


def test_asked_to_stop_it_leaves_no_actor_and_no_run_running(tiny: Dataset, store: Path, cluster: Cluster) -> None:
    words = on_ray(cluster, *command(tiny, store, epochs=2000))
    process = begin(words)
    wait_for(process, "trial 02")
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert eventually(lambda: not actors(), 60)
    tracker = MlflowTracker(store)
    assert "RUNNING" not in {trial.state for trial in tracker.trials(tracker.studies()[0].run_id)}


def test_trained_encoders_reach_the_nodes(tiny: Dataset, store: Path, tmp_path: Path, cluster: Cluster) -> None:
    for encoder in ("audio_rnn", "image_cnn"):
        run(command(tiny, store, "--sampler", "reported", study=encoder, trials=1, epochs=1))
    local = tmp_path / "local"
    words = command(tiny, store, "--sampler", "random", study="latent_fusion", trials=2, epochs=2)
    run(on_ray(cluster, *words))
    there = results(store, "latent_fusion")
    # In the same place, for its runs name it.
    store.rename(local)
    shutil.copytree(local, store)
    forget(store, "latent_fusion")
    run(words)
    assert len(there) == 2
    assert results(store, "latent_fusion") == there


def forget(store: Path, study: str) -> None:
    """Make a study as if it had never been run."""
    tracker = MlflowTracker(store)
    (parent,) = tracker.studies(study)
    for trial in tracker.trials(parent.run_id):
        tracker.client.delete_run(trial.run_id)
    tracker.client.delete_run(parent.run_id)


def test_hopeless_trials_are_pruned_alike(tiny: Dataset, tmp_path: Path, store: Path, lone_node: Cluster) -> None:
    local = Path(shutil.copytree(store, tmp_path / "local" / "mlruns"))
    more = ("--sampler", "random", "--prune", "--workers", "1")
    words = command(tiny, local, *more, trials=8, epochs=9)
    run(words)
    run(on_ray(lone_node, *on_ray_words(words, local, store)))
    assert "PRUNED" in {one["state"] for one in results(local)}
    assert results(store) == results(local)
    check_whole(store, trials=8, epochs=9, pruned=True)


def on_ray_words(words: list[str], before: Path, after: Path) -> list[str]:
    """The same command for another store, with its last --workers alone."""
    moved = [str(after) if word == str(before) else word for word in words]
    place = moved.index("--workers")
    return [*moved[:place], *moved[place + 2 :]]


@pytest.mark.parametrize(
    ("lacks", "told"), [("nothing", "has mmtune 0.0.1 ("), ("ray", "No module named 'mmtune.pool.ray'")]
)
def test_a_node_with_other_code_is_refused_in_a_line(
    tiny: Dataset, store: Path, tmp_path: Path, lone_node: Cluster, lacks: str, told: str
) -> None:
    package = Path(sys.modules["mmtune"].__file__ or "").parent
    shutil.copytree(package, tmp_path / "older" / "mmtune", ignore=shutil.ignore_patterns("__pycache__", lacks))
    (tmp_path / "older" / "mmtune" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    if lacks == "ray":
        # An editable installation would find the folder in the checkout.
        missing = "raise ModuleNotFoundError(\"No module named 'mmtune.pool.ray'\")\n"
        (tmp_path / "older" / "mmtune" / "pool" / "ray.py").write_text(missing)
    path = os.pathsep.join([str(tmp_path / "older"), os.environ.get("PYTHONPATH", "")])
    lone_node.add(env_vars={"PYTHONPATH": path})
    words = on_ray(lone_node, *command(tiny, store, epochs=EPOCHS))
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    line = done.stderr
    assert "every node must have this machine's mmtune and torch" in line
    assert told in line


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_ray_of_its_own_hears_nobody_else_and_ends_with_the_study(
    tiny: Dataset, store: Path, calm: Path, number: signal.Signals
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'mmtune[ray]'")
    words = command(tiny, store, "--pool", "ray", epochs=EPOCHS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(words, env=environment, start_new_session=True, **output)
    wait_for(process, "trial 01")
    started = family(process.pid)
    assert len(started) > 5
    heard = [address for pid in started for address in listening(pid)]
    assert heard
    assert {address for address in heard if not loopback(address)} == set()
    serving = [pid for pid in started if Path(f"/proc/{pid}/comm").read_text().strip() in ("raylet", "gcs_server")]
    assert len(serving) == 2
    assert all(b"RAY_AUTH_MODE=token" in Path(f"/proc/{pid}/environ").read_bytes() for pid in serving)
    # Ctrl-C reaches everything that the terminal has started.
    os.killpg(process.pid, number)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == (130 if number == signal.SIGINT else -number), text
    assert eventually(lambda: all(gone(pid) for pid in started), 60)
    run(words)
    check_whole(store, epochs=EPOCHS)
    assert results(store) == results(calm)


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def listening(pid: int) -> list[str]:
    """The addresses at which a process listens, as the system writes them."""
    held = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            held.add(str(path.readlink()))
    tables = [Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for lines in tables for line in lines]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held]


def loopback(address: str) -> bool:
    return address in ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


def overlap(store: Path) -> int:
    """How many trials ran side by side, at most."""
    tracker = MlflowTracker(store)
    runs = [tracker.client.get_run(t.run_id).info for t in tracker.trials(tracker.studies()[0].run_id)]
    turns = sorted([(info.start_time, 1) for info in runs] + [(info.end_time, -1) for info in runs])
    most = now = 0
    for _, step in turns:
        now += step
        most = max(most, now)
    return most
