"""Real MLflow servers that can be stopped, killed and cut off, and what they have of a study."""

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
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient
from servers import free_port


class ServerProcess:
    """`mlflow server` on loopback with its own artifacts, in a process group of its own.

    backend: the address of its database; an SQLite file of its own if not given.
    """

    def __init__(self, folder: Path, template: Path, backend: str = "") -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True)
        self.backend = backend or f"sqlite:///{folder / 'server.db'}"
        if not backend:
            shutil.copy(template / "mlflow.db", folder / "server.db")

    def start(self) -> None:
        """Returns when it answers."""
        words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        words += ["--workers", "1", "--artifacts-destination", str(self.folder / "artifacts")]
        quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        own = {**inherited, **quick, "MLFLOW_BACKEND_STORE_URI": self.backend}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                words, env=own, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        end = time.monotonic() + 90
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

    def runs(self) -> list[Any]:
        """Every run on it that was not deleted."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, max_results=1000))


@dataclass
class Proxy:
    """Between a client and a server; loses, delays or doubles what the server is asked for.

    lose: by a path in the request, how many answers never reach the client, although the server has done it.
    hold: by a path, for how many seconds the next request waits before the server gets it, client or not.
    refuse: the path of requests that are answered with `status`.
    """

    target: int
    lose: dict[bytes, int] = field(default_factory=dict)
    hold: dict[bytes, float] = field(default_factory=dict)
    refuse: bytes = b""
    status: bytes = b"403 Forbidden"
    refused: int = 0
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
                        self.refused += 1
                        client.sendall(b"HTTP/1.1 " + self.status + b"\r\nContent-Length: 4\r\n\r\nNo.\n")
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
