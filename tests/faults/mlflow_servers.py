"""Real MLflow servers that can be stopped, killed and cut off, and the check that they have what a store has, once."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from mmtune.tracking import MlflowTracker, store_at

LINKS = ("mlflow.parentRunId", "mmtune.study_run", "mmtune.best_run")


def some_port() -> int:
    """A port on loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """`mlflow server` on loopback with SQLite and its own artifacts, in a process group of its own."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.folder, self.port = folder, some_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True)
        shutil.copy(template / "mlflow.db", folder / "server.db")

    def start(self) -> None:
        """Returns when it answers."""
        words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        words += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            words, env=inherited | quick, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(requests.RequestException):
                if requests.get(f"{self.uri}/health", timeout=1).ok:
                    return
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def send(self, number: signal.Signals) -> None:
        """A signal to all of its processes."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """The end of all of its processes, at once."""
        with suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        self.process.wait()

    @property
    def client(self) -> Any:
        """MLflow's own client."""
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)


@dataclass
class Proxy:
    """Between a client and a server; loses or delays what the server is asked for.

    lose: by a path in the request, how many answers never reach the client, although the server has done it.
    hold: by a path, for how many seconds the next request waits before the server gets it, client or not.
    refuse: the path of requests that are answered as a server does that knows the user and will not.
    """

    target: int
    lose: dict[bytes, int] = field(default_factory=dict)
    hold: dict[bytes, float] = field(default_factory=dict)
    refuse: bytes = b""
    lost: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        """A thread a connection."""
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client: socket.socket) -> None:
        """What one side says to the other, in turn."""
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self.target)) as server:
            doomed, asked = b"", False
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if client in ready:
                    said = client.recv(65536)
                    if not said:
                        # A server that sees its client go may leave undone what it was asked for.
                        select.select([server] if asked else [], [], [], 10 if asked else 0)
                        return
                    if self.refuse and self.refuse in said:
                        client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 17\r\n\r\nPermission denied")
                        return
                    doomed, asked = doomed or matching(self.lose, said), True
                    held = matching(self.hold, said)
                    time.sleep(self.hold.pop(held) if held else 0)
                    server.sendall(said)
                else:
                    said, asked = server.recv(65536), False
                    if doomed:
                        self.lose[doomed] -= 1
                        self.lost.append(doomed)
                        return
                    client.sendall(said)
                    if not said:
                        return


def matching(paths: Mapping[bytes, float], said: bytes) -> bytes:
    """The path that a request is about, among those that are still to be disturbed."""
    return next((path for path, left in paths.items() if left > 0 and path in said), b"")


def check_delivered(store: Path, server: ServerProcess) -> dict[str, str]:
    """By local id, the id on the server of every run of a store, once all of this holds.

    Each is there once, with the same params, tags, history of metrics, status, times and files; tags that name runs
    name those of the server; the server has no other run.
    """
    ours, theirs = store_at(store).open_client(), server.client
    remote = {run_id: found_once(theirs, run_id) for run_id in local_runs(store)}
    names = {local: run.info.run_id for local, run in remote.items()}
    for run_id, run in remote.items():
        local = ours.get_run(run_id)
        assert facts(run) == facts(local)
        assert run.data.params == local.data.params
        links = {name: names[value] for name, value in local.data.tags.items() if name in LINKS}
        assert run.data.tags == {**local.data.tags, **links, "mmtune.run": run_id}
        assert run.data.metrics == local.data.metrics
        for key in local.data.metrics:
            assert history(theirs, run.info.run_id, key) == history(ours, run_id, key)
        assert files_on(server, run.info.run_id) == files_of(Path(local.info.artifact_uri.removeprefix("file://")))
    assert sorted(run.info.run_id for run in all_runs(theirs)) == sorted(names.values())
    return names


def local_runs(store: Path) -> list[str]:
    """The runs of all studies in a store."""
    tracker = MlflowTracker(store)
    parents = [study.run_id for study in tracker.studies()]
    below = [run.run_id for parent in parents for run in (*tracker.trials(parent), *tracker.parts(parent))]
    return [*parents, *below]


def facts(run: Any) -> tuple[Any, ...]:
    """What a run says of itself beside its data."""
    return run.info.run_name, run.info.status, run.info.start_time, run.info.end_time


def found_once(client: Any, run_id: str) -> Any:
    """The one run on a server that stands for a local one."""
    (run,) = client.search_runs(experiments(client), f"tags.`mmtune.run` = '{run_id}'")
    return run


def experiments(client: Any) -> list[str]:
    """All of them."""
    return [experiment.experiment_id for experiment in client.search_experiments()]


def all_runs(client: Any) -> Iterable[Any]:
    """Every active run on a server."""
    return client.search_runs(experiments(client), max_results=1000)


def history(client: Any, run_id: str, key: str) -> list[tuple[int, int, float]]:
    """All that was ever logged of a metric."""
    return sorted((m.timestamp, m.step, m.value) for m in client.get_metric_history(run_id, key))


def files_of(folder: Path) -> dict[str, bytes]:
    """The files in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def files_on(server: ServerProcess, run_id: str) -> dict[str, bytes]:
    """The files of a run on a server, through the server."""
    if not server.client.list_artifacts(run_id):
        return {}
    return files_of(Path(download_artifacts(run_id=run_id, tracking_uri=server.uri)))


def dump(server: ServerProcess) -> list[Any]:
    """All that a server says of all runs."""
    return sorted((run.to_dictionary() for run in all_runs(server.client)), key=lambda run: run["info"]["run_id"])
