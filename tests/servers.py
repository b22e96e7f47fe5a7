"""MLflow servers in tests: what they answer, and to whom they listen."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import subprocess
import time
from pathlib import Path

EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=10"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def status(port: int, path: str, method: str = "GET", user: tuple[str, str] | None = None, **headers: str) -> int:
    """The HTTP status of an answer on loopback; names of headers are written with underscores."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if user is not None:
        sent["Authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body=b"{}" if method != "GET" else None, headers=sent)
        return connection.getresponse().status
    finally:
        connection.close()


def cookie_of_ui(process: subprocess.Popen[str], port: int) -> str:
    """The cookie that `mmtune ui` asks for, once it has printed its address."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.match(rf"MLflow UI: http://127\.0\.0\.1:{port}/\?token=(\S+)", line):
            return f"mmtune-{port}={found[1]}"
    raise AssertionError("no address was printed")


def wait_until_up(process: subprocess.Popen[str], port: int, seconds: float = 120) -> None:
    """Until an MLflow server answers."""
    wait_until(process, port, "/health", seconds)


def wait_until(process: subprocess.Popen[str], port: int, path: str, seconds: float = 120) -> None:
    """Until a process answers there on loopback."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        try:
            if status(port, path) == 200:
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"nothing answered on port {port}")


def addresses(port: int) -> set[str]:
    """The addresses on which this machine listens on a port, as the kernel writes them."""
    tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    places = [row[1].split(":") for row in rows if row[3] == "0A"]
    return {address for address, number in places if int(number, 16) == port}


LOOPBACK = "0100007F"
