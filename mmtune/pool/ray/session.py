"""Ray for the length of a command."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, Self

from mmtune.base.errors import InputError
from mmtune.data.dataset import Partition
from mmtune.pool.ray.engine import Engine, begin
from mmtune.pool.ray.pool import RayPool
from mmtune.pool.worker import WorkerSpec


class RaySession:
    """Ray for one command: begun with the first pool that it makes, left with the command.

    partition: what all of the command's studies train on.
    """

    def __init__(self, engine: Engine, partition: Partition, say: Callable[[str], None]) -> None:
        if importlib.util.find_spec("ray") is None:
            raise InputError("--pool ray needs Ray, which is not installed: pip install 'mmtune[ray]'")
        self.engine, self.partition, self.say = engine, partition, say
        self.data: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.data is not None:
            import ray

            self.data = None
            ray.shutdown()

    def __call__(self, spec: WorkerSpec, count: int) -> RayPool:
        """A pool of `count` actors at most. Raises InputError where there is no such cluster, or no room for any."""
        if self.data is None:
            begin(self.engine)
            import ray

            self.data = ray.put(self.partition)
            living = [node for node in ray.nodes() if node["Alive"]]
            room = self.engine.room(living)
            if not room and self.engine.address is None:
                raise InputError(f"--pool ray needs {self.engine.needs} for a trial, this machine has less")
            nodes = f"{len(living)} node{'s' * (len(living) > 1)}"
            self.say(f"Ray: {nodes}, room for {room} trial{'s' * (room != 1)} side by side")
        return RayPool(spec, count, self.engine, self.data, self.say)
