"""Which Ray, how it is started or joined, and how many trials fit on it."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmtune.base.errors import InputError

ANSWER_SECONDS = 10.0
QUIET = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Which Ray, and what a trial gets of it.

    address: of a running cluster; None for one of this command's own, on this machine alone.
    gpus: the share of a GPU that a trial has, 0 for the CPU. workers: trials at once; None for what there is room for.
    """

    address: str | None = None
    gpus: float = 0.0
    workers: int | None = None

    def room(self, nodes: Iterable[Mapping[str, Any]]) -> int:
        """How many trials fit on the nodes that live, by what `ray.nodes()` says of them."""
        found = 0
        for node in nodes:
            if node["Alive"]:
                cpus, gpus = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
                # Ray divides no trial's share between two GPUs.
                found += min(cpus, gpus * int(1 / self.gpus + 1e-9)) if self.gpus else cpus
        return found

    @property
    def needs(self) -> str:
        """What a trial needs, in words."""
        return f"1 CPU and {self.gpus:g} GPU" if self.gpus else "1 CPU"


def begin(engine: Engine) -> None:
    """Start Ray on this machine, or join a cluster; InputError where there is none."""
    # Ray's start takes SIGTERM for itself; afterwards it means what it did.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if engine.address is None:
            start_alone(engine.workers)
        else:
            join(engine.address)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_alone(workers: int | None) -> None:
    """Start Ray for this process alone: it listens on loopback, asks for a password, and ends with the process."""
    # Ray reads the first when it is imported, and whatever the system is.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    ray.init(address="local", num_cpus=workers, **QUIET)


def join(address: str) -> None:
    """Become a driver of a running cluster, one of whose nodes is this machine."""
    import ray

    if "://" in address:
        raise InputError(
            f"--ray-address must be auto or HOST:PORT, got {address!r}: run where a node of the cluster is"
        )
    require_answer(address if address != "auto" else os.environ.get("RAY_ADDRESS", address))
    try:
        ray.init(address=address, **QUIET)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise InputError(refusal(address, error)) from error


def refusal(address: str, error: Exception) -> str:
    """Why an address is none."""
    running = "a Ray cluster that runs and has our token, if any (RAY_AUTH_TOKEN)"
    return f"--ray-address must be that of {running}, {address!r} is not: {error}"


def require_answer(address: str) -> None:
    """InputError where nobody listens at HOST:PORT; Ray itself would go on trying for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(refusal(address, error)) from error
