"""A registered model's answers: `mmtune serve` beside plain `mlflow models serve`, and `mmtune predict` from nothing.

    python -m benchmarks.serving MODEL --store mlruns --image seven.png --audio seven.wav

Both servers are asked the same arrays, in turn, by one client and by four at once; `/predict` gets the files. All run
on the same cores as the clients.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.command import IncompleteError, command, say, whole
from benchmarks.machine import describe
from benchmarks.results import keep, result_path, today
from mmtune.base.errors import InputError
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.versions import champion_folder

CLIENTS, WARM, START = (1, 4), 5, 120.0
PORTS = {"mmtune serve": 5121, "mlflow models serve": 5122}
MANY = 1_000


@contextmanager
def running(words: Sequence[str], port: int) -> Iterator[float]:
    """A server, ended in the end; gives the seconds until it answers."""
    with socket.socket() as own:
        if own.connect_ex(("127.0.0.1", port)) == 0:
            raise InputError(f"port {port} must be free, another server answers there")
    before = time.perf_counter()
    # MLflow starts a server of its own by the name of its program.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen(words, env=environment, **quiet)
    try:
        while time.perf_counter() - before < START and process.poll() is None:
            if is_there(port):
                yield time.perf_counter() - before
                return
            time.sleep(0.05)
        raise IncompleteError(f"{words[3]} did not answer on port {port}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_there(port: int) -> bool:
    """Whether a server answers on a port."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
        return True
    return False


def ask(port: int, path: str, body: bytes) -> float:
    """The seconds that an answer took."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", body, {"Content-Type": "application/json"})
    before = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()
    except urllib.error.HTTPError as error:
        raise IncompleteError(f"/{path} was refused: {error.read()[:300]!r}") from error
    return time.perf_counter() - before


def measured(port: int, path: str, body: bytes, requests: int) -> dict[str, Any]:
    """Requests a second, and milliseconds of one, by how many clients ask at once."""
    for _ in range(WARM):
        ask(port, path, body)
    found = {}
    for clients in CLIENTS:
        with ThreadPoolExecutor(clients) as pool:
            before = time.perf_counter()
            took = list(pool.map(lambda _: ask(port, path, body), range(requests)))
            seconds = time.perf_counter() - before
        middle, late = statistics.median(took), float(np.quantile(took, 0.95))
        found[str(clients)] = {"per_second": requests / seconds, "median_ms": 1e3 * middle, "late_ms": 1e3 * late}
    return found


def bodies(predictor: Predictor, given: Mapping[str, Path]) -> dict[str, bytes]:
    """The same row as a request to each path."""
    values = predictor.values(**given)
    files = {bank: base64.b64encode(path.read_bytes()).decode() for bank, path in given.items()}
    return {
        "invocations": json.dumps({"inputs": {bank: own.tolist() for bank, own in values.items()}}).encode(),
        "predict": json.dumps({"rows": [files]}).encode(),
    }


def predictions(model: str, store: Path, files: Mapping[str, Path]) -> dict[str, float]:
    """Seconds of `mmtune predict`, from nothing, for one row and for MANY of folders; the least of three."""
    words = [sys.executable, "-m", "mmtune.cli", "predict", "--model", model, "--store", str(store)]
    with TemporaryDirectory() as name:
        for bank, path in files.items():
            (Path(name) / bank).mkdir()
            for number in range(MANY):
                shutil.copyfile(path, Path(name) / bank / f"{number:04d}{path.suffix}")
        asked = {"one": {**files}, "many": {bank: Path(name) / bank for bank in files}}
        return {
            count: min(
                seconds_of([*words, *(word for bank, path in own.items() for word in (f"--{bank}", str(path)))])
                for _ in range(3)
            )
            for count, own in asked.items()
        }


def seconds_of(words: Sequence[str]) -> float:
    before = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True)
    # 3 says that some row was better not answered.
    if done.returncode not in (0, 3):
        raise IncompleteError(
            f"{' '.join(words[3:5])} ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}"
        )
    return time.perf_counter() - before


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    lines = ["# Answers of a registered model", ""]
    for name, entry in results.get("serving", {}).items():
        machine, took = entry["machine"], entry["predict"]
        where = f"{machine['processor']}, {machine['cores']} cores, torch {machine['versions']['torch']}"
        what = f"commit {machine['commit'][:12]}; {entry['requests']} requests of one row each."
        lines += [f"`{name}`, {entry['date']}, {where}, {what}", ""]
        lines += [
            "| server | asked | starts in, s | clients | requests a second | median, ms | 95 %, ms |",
            "|---|---|---|---|---|---|---|",
        ]
        for own in entry["sides"]:
            for clients, told in own["by_clients"].items():
                numbers = f"{told['per_second']:.0f} | {told['median_ms']:.1f} | {told['late_ms']:.1f}"
                lines.append(f"| {own['server']} | `/{own['path']}` | {own['starts']:.1f} | {clients} | {numbers} |")
        seconds = f"one row {took['one']:.1f} s, {MANY:,} of folders {took['many']:.1f} s"
        lines += ["", f"`mmtune predict` from nothing: {seconds} (the least of three).", ""]
    return "\n".join(lines)


def run(given: argparse.Namespace) -> None:
    path = result_path(given.out, "serving")
    folder = champion_folder(given.store, given.model, None)
    files = {name: own for name in ("image", "audio") if (own := getattr(given, name)) is not None}
    if not files:
        raise InputError("--image or --audio must be given, or both")
    predictor = Predictor.load(folder)
    asked = bodies(predictor, files)
    took = predictions(given.model, given.store, files)
    say(f"mmtune predict: {took}")
    mine = [sys.executable, "-m", "mmtune.cli", "serve", given.model, "--store", str(given.store)]
    theirs = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", str(folder.parents[1])]
    sides = []
    for server, words in (("mmtune serve", mine), ("mlflow models serve", theirs)):
        port = PORTS[server]
        with running([*words, "--port", str(port)], port) as starts:
            for where in ("invocations", *(["predict"] if server == "mmtune serve" else [])):
                sides.append(
                    {
                        "server": server,
                        "path": where,
                        "starts": starts,
                        "by_clients": measured(port, where, asked[where], given.requests),
                    }
                )
                say(f"{server} /{where}: {sides[-1]}")
    entry = {"date": today(), "machine": describe("cpu"), "requests": given.requests, "sides": sides, "predict": took}
    keep(path, "serving", given.model, entry, table)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a registered model")
    parser.add_argument("--store", type=Path, default=Path("mlruns"))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--requests", type=whole, default=200)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    command(lambda: run(arguments()))


if __name__ == "__main__":
    main()
