"""What runs on a node: an actor that trains, and how files reach it and leave it.

Nothing here needs a file system that the driver shares.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from mmtune.base.bounds import inside
from mmtune.base.files import write_whole
from mmtune.data.dataset import Partition
from mmtune.pool.same import made_with
from mmtune.pool.worker import Done, Event, Failed, Job, Saved, WorkerSpec, live
from mmtune.train.staging import CHECKPOINT, EPOCHS, RUN

Files = Mapping[str, bytes]
PREFIX = "mmtune-trainer-"
# So long a process has from making its folder to locking it.
YOUNG_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """A job, by place in a worker's folder references to files that it starts from, and what it had left before."""

    job: Job
    folders: Mapping[str, Any]
    left: Files


@dataclass(frozen=True, kw_only=True)
class Exited:
    """A worker can do no more."""

    reason: str


Message = tuple[Event | Exited, Files]
"""What has happened to a worker, and the files of its job's folder that come with it."""


class Trainer:
    """The actor; its methods are called from the driver, `work` first and for as long as it lives.

    It is its own `mmtune.pool.worker.Line`: files that come with a job are put in a folder of its own, and those that
    the job leaves there are sent along with its end. fetch: from a reference, what it stands for; Ray's unless given.
    """

    def __init__(self, fetch: Callable[[Any], Files] | None = None) -> None:
        if fetch is None:
            import ray

            fetch = ray.get
        # The object store's arrays may not be written to, and no training writes to its data.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self.fetch = fetch
        self.inbox: SimpleQueue[Order | bool] = SimpleQueue()
        self.outbox: SimpleQueue[Message] = SimpleQueue()
        self.folder, self.lock = own_folder()

    def introduce(self) -> dict[str, Any]:
        """Where this is, and what it trains with: nothing that another version of mmtune could not read."""
        import ray

        node = f"{platform.node()} (Ray's node {ray.get_runtime_context().get_node_id()[:8]})"
        return {"node": node, "made_with": made_with()}

    def work(self, spec: WorkerSpec, partition: Partition) -> None:
        """Train whatever is told, until the device gives out."""
        try:
            live(spec, lambda: partition, self)
            reason = "its device gave out"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        self.outbox.put((Exited(reason=reason), {}))

    def tell(self, message: Order | bool) -> None:
        """A job, or the answer at a rung."""
        self.inbox.put(message)

    def listen(self) -> list[Message]:
        """Everything that has happened since the last call, waiting for the first."""
        said = [self.outbox.get()]
        with suppress(Empty):
            while True:
                said.append(self.outbox.get_nowait())
        return said

    def leave(self) -> None:
        """Leave no file behind; a job that still writes must not find its folder while that is removed."""
        shutil.rmtree(self.folder.rename(f"{self.folder}-left"), ignore_errors=True)

    def send(self, event: Event) -> None:
        """What the worker says, by which its files go along."""
        folder, files = self.folder / "job", {}
        if isinstance(event, Saved):
            files = {CHECKPOINT: (folder / CHECKPOINT).read_bytes()}
        if isinstance(event, Done | Failed):
            files = {name: content for name, content in pack(folder).items() if name not in (RUN, EPOCHS, CHECKPOINT)}
            empty(self.folder)
        if isinstance(event, Failed) and event.storage:
            event = replace(event, storage=f"{event.storage} (on {platform.node()})")
        self.outbox.put((event, files))

    def recv(self) -> Job | bool:
        """What the worker hears, a job with its files in place."""
        said = self.inbox.get()
        if isinstance(said, bool):
            return said
        empty(self.folder)
        for place, reference in said.folders.items():
            unpack(self.fetch(reference), self.folder / place)
        unpack(said.left, self.folder / "job")
        job = said.job
        encoders = {name: self.folder / "encoders" / name for name in job.encoders}
        checkpoint = None if job.checkpoint is None else self.folder / "checkpoint"
        return replace(job, folder=self.folder / "job", encoders=encoders, checkpoint=checkpoint)


def pack(folder: Path) -> Files:
    """The files in a folder, by their path in it; none where it is missing."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def unpack(files: Files, folder: Path) -> None:
    """Write the files of a folder; InputError where one would lie outside of it."""
    for name, content in files.items():
        path = inside(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)


def empty(folder: Path) -> None:
    """Remove what is in a folder."""
    for path in folder.iterdir():
        shutil.rmtree(path, ignore_errors=True)


def own_folder() -> tuple[Path, int]:
    """A folder that this process has locked for its life; those that killed ones of this user have left are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # What another process holds, or removes at this moment, is its own.
        with suppress(OSError):
            facts = left.lstat()
            if facts.st_uid == os.getuid() and time.time() - facts.st_ctime >= YOUNG_SECONDS:
                descriptor = locked_folder(left)
                shutil.rmtree(left, ignore_errors=True)
                os.close(descriptor)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    return folder, locked_folder(folder)


def locked_folder(folder: Path) -> int:
    """The descriptor that holds a folder's lock; BlockingIOError where another process does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
