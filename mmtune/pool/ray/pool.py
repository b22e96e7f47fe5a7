"""Ray for the length of a command, and the pool of a study on it: its actors, what they are told and what they say."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mmtune.base.errors import InputError
from mmtune.data.dataset import Partition
from mmtune.pool.ray.actor import Exited, Order, Trainer, pack, unpack
from mmtune.pool.ray.engine import Engine, begin
from mmtune.pool.same import SAME, differences, made_with
from mmtune.pool.worker import Epoch, Event, Job, WorkerSpec
from mmtune.pool.workers import Worker, Workers
from mmtune.train.staging import CHECKPOINT, EPOCHS, append_epoch

FOLLOW_SECONDS = 2.0
# A start that failed is tried again so much later, so that one broken node does not keep the others busy.
RETRY_SECONDS = 10.0
PATIENCE_SECONDS = 15.0
GOODBYE_SECONDS = 5.0


@dataclass(kw_only=True, eq=False)
class RayWorker(Worker):
    """An actor, the node it runs on, and the reference to what it says next."""

    actor: Any
    heard: Any
    node: str = ""


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


class RayPool(Workers[RayWorker]):
    """Actors wherever Ray finds room, `count` of them at most; one that is lost is asked for again.

    data: the reference to the partition in the object store.
    """

    def __init__(self, spec: WorkerSpec, count: int, engine: Engine, data: Any, say: Callable[[str], None]) -> None:
        import ray

        super().__init__(spec, count)
        self.ray, self.count, self.engine, self.data, self.say = ray, count, engine, data, say
        self.spec_there = ray.put(spec)
        self.there: dict[Path, Any] = {}
        self.workers: list[RayWorker] = []
        self.due = 0.0
        self.waits_since: float | None = time.monotonic()
        options = {"num_cpus": 1, "num_gpus": engine.gpus, "max_restarts": 0, "max_task_retries": 0}
        # One thread trains, one hears what it is told, one says what has happened.
        self.trainer = ray.remote(Trainer).options(**options, max_concurrency=3)
        self._follow()

    def events(self, timeout: float) -> Iterator[Event]:
        self._follow()
        ends = {worker.heard: worker for worker in self.workers}
        self.ray.wait(list(ends), num_returns=1, timeout=timeout)
        spoken, _ = self.ray.wait(list(ends), num_returns=len(ends), timeout=0)
        for reference in spoken:
            worker = ends[reference]
            try:
                said = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                yield from self._remove(worker, self._cause(worker, error))
            else:
                yield from self._hear(worker, said)
        yield from self._end_hung()

    def close(self) -> None:
        begun = [worker for worker in self.workers if worker.begun]
        goodbyes = [worker.actor.leave.remote() for worker in begun]
        if goodbyes:
            self.ray.wait(goodbyes, num_returns=len(goodbyes), timeout=GOODBYE_SECONDS)
        for worker in self.workers:
            self._kill(worker)
        self.workers = []

    # ---- how many

    def _follow(self) -> None:
        """Ask for the actors that are missing: those that were asked for, or as many as the cluster has room for."""
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + FOLLOW_SECONDS
        wanted = self.count
        if self.engine.workers is None:
            # At least one, for an autoscaler to see that there is something to do.
            wanted = min(self.count, max(1, self.engine.room(self.ray.nodes())))
        for _ in range(wanted - len(self.workers)):
            actor = self.trainer.remote()
            self.workers.append(RayWorker(actor=actor, heard=actor.introduce.remote(), begun=False))
        if any(worker.begun for worker in self.workers):
            self.waits_since = None
        elif self.waits_since is not None and now - self.waits_since > PATIENCE_SECONDS:
            self.say(f"waiting for a node with room: a trial needs {self.engine.needs}")
            self.waits_since = None

    # ---- saying and hearing

    def _send(self, worker: RayWorker, message: Job | bool) -> None:
        worker.actor.tell.remote(self._order(message) if isinstance(message, Job) else message)

    def _order(self, job: Job) -> Order:
        job.folder.mkdir(parents=True, exist_ok=True)
        starts = {f"encoders/{bank}": folder for bank, folder in job.encoders.items()}
        if job.checkpoint is not None:
            starts["checkpoint"] = job.checkpoint
        folders = {place: self._files(folder) for place, folder in starts.items()}
        left = {name: content for name, content in pack(job.folder).items() if name in (EPOCHS, CHECKPOINT)}
        return Order(job=job, folders=folders, left=left)

    def _files(self, folder: Path) -> Any:
        """A reference to the files of a finished run, which never change."""
        if folder not in self.there:
            self.there[folder] = self.ray.put(pack(folder))
        return self.there[folder]

    def _hear(self, worker: RayWorker, said: Any) -> Iterator[Event]:
        if not worker.begun:
            self._welcome(worker, said)
            return
        worker.heard = worker.actor.listen.remote()
        for event, files in said:
            if isinstance(event, Exited):
                yield from self._remove(worker, f"worker on {worker.node}: {event.reason}")
                continue
            if worker.job is not None:
                unpack(files, worker.job.folder)
                if isinstance(event, Epoch) and event.new:
                    append_epoch(worker.job.folder, event.point)
            yield self._note(worker, event)

    def _welcome(self, worker: RayWorker, introduction: Mapping[str, Any]) -> None:
        """Give an actor its data; InputError where it would train with other code than this machine's."""
        worker.begun, worker.silent, worker.node = True, 0.0, introduction["node"]
        differing = differences(introduction["made_with"], made_with())
        if differing:
            raise InputError(f"{SAME}: {worker.node} has {', '.join(differing)}")
        worker.actor.work.remote(self.spec_there, self.data)
        worker.heard = worker.actor.listen.remote()

    # ---- dying

    def _cause(self, worker: RayWorker, error: Exception) -> str:
        """Why an actor does not answer, in a line."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        missing = next((line for line in lines if line.startswith(("ModuleNotFoundError:", "ImportError:"))), "")
        if missing:
            raise InputError(f"{SAME}: {missing}")
        causes = [line for line in lines if line.startswith(("The actor", "The node", "Task was killed", "The worker"))]
        return f"worker on {worker.node or 'a node'} died: {causes[-1] if causes else lines[0]}"

    def _kill(self, worker: RayWorker) -> None:
        self.ray.kill(worker.actor, no_restart=True)

    def _take_away(self, worker: RayWorker) -> str:
        # It may be out of reach and yet alive; what it still says, nobody hears.
        self._kill(worker)
        return "worker died"

    def _replace(self, worker: RayWorker) -> None:
        self.workers.remove(worker)
        if any(own.ready for own in self.workers):
            self.failed_starts = 0
        self.due = 0.0 if worker.ready else time.monotonic() + RETRY_SECONDS
