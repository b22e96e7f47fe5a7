"""A worker's life: it loads the data once, then trains job after job, and says what comes of each.

A worker knows neither Optuna nor MLflow, nor how it is tied to its pool: it hears jobs and verdicts, and sends events.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mmtune.base.clock import CLOCK
from mmtune.base.errors import InputError, first_line
from mmtune.base.files import storage_problem
from mmtune.data.dataset import Partition
from mmtune.data.protocols import RANDOM, Split
from mmtune.networks.kinds import remember
from mmtune.study.options import CHECKPOINT_EVERY, HUNG_AFTER
from mmtune.train.objective import MACRO_F1, Objective
from mmtune.train.recipe import TrialConfig
from mmtune.train.staging import ERROR, Point, append_epoch, now_ms, read_epochs, tidy

if TYPE_CHECKING:
    import torch

    from mmtune.train.batches import Resident


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training to do in `folder`. After the epochs in `rungs` the worker waits to hear whether to go on.

    split: the number of the split to train on. encoders: by bank, the folder of a trained model to start from.
    checkpoint: the folder of another training to go on from. checkpoint_every: seconds after which the folder gets a
    checkpoint of this one. after: milliseconds since 1970 that nothing of it is before, whatever clock the worker has.
    """

    number: int
    config: TrialConfig
    seed: int
    folder: Path
    split: int = 0
    rungs: frozenset[int] = frozenset()
    encoders: Mapping[str, Path] = field(default_factory=dict)
    checkpoint: Path | None = None
    checkpoint_every: float = CHECKPOINT_EVERY
    after: int = 0


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A worker has its data."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A worker cannot get its data, or cannot train what it is there for, and no other one could."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """An epoch of a job is done. new: whether it is not on record from before an interruption."""

    number: int
    point: Point
    new: bool = True


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A job has left a checkpoint in its folder."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Done:
    """A job is done, or was pruned; its folder is complete, and says how it ended."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A job raised; its folder holds `error.txt`.

    retry: whether another attempt makes sense. memory: whether there was too little of it for this job beside others.
    storage: what kept its files from being written, "" if nothing did. last: whether its worker can do no more.
    """

    number: int
    reason: str
    retry: bool
    memory: bool = False
    storage: str = ""
    last: bool = False


@dataclass(frozen=True, kw_only=True)
class Died:
    """A worker died under a job.

    lost: whether its place to run was taken away, which is no fault of the job's. memory: whether for want of it.
    """

    number: int
    reason: str
    lost: bool = False
    memory: bool = False


Event = Ready | Broken | Epoch | Saved | Done | Failed | Died


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What every worker is started with: the data, the rows of each split, and the device.

    study: the name of what is trained; classes: how many there are; missing: banks in which rows may have no value.
    objective: what a model is good by. protocol: what made the splits.
    base: what every trial is a variation of, which a machine that cannot train it refuses before there is any.
    hung_after: after so many seconds without a word a worker that has something to do counts as hung.
    digest: what the data must have, "" for any. threads: on how many a worker computes, on a CPU.
    """

    data: Path
    splits: tuple[Split, ...]
    device: str
    classes: int
    study: str = ""
    base: TrialConfig | None = None
    missing: tuple[str, ...] = ()
    objective: Objective = MACRO_F1
    protocol: str = RANDOM
    hung_after: float = HUNG_AFTER
    digest: str = ""
    threads: int = 1

    def training_rows(self) -> Partition:
        """The training partition; InputError where another data set has taken the place of the study's."""
        from mmtune.data.storage.store import load

        dataset = load(self.data, verify=False)
        if self.digest and dataset.digest != self.digest:
            rule = f"{self.data} must be the data of the study, digest {self.digest:.12}"
            raise InputError(f"{rule}, it has been replaced by {dataset.digest:.12}")
        return dataset.train


class Line(Protocol):
    """A worker's end of what ties it to its pool: it sends events, and receives jobs and verdicts at rungs."""

    def send(self, event: Event, /) -> None: ...
    def recv(self) -> Any: ...


def live(spec: WorkerSpec, read: Callable[[], Partition], *lines: Line) -> None:
    """The life of workers in one process, one for each line: load the data once, then train job after job, side by
    side, for as long as the device does, and all of them are there."""
    import torch

    from mmtune.train.batches import Resident
    from mmtune.train.device import prepare_torch
    from mmtune.train.fit import require_trainable

    device = torch.device(spec.device)
    prepare_torch(device, spec.threads)
    try:
        data = Resident(read(), spec.classes, device, spec.missing)
        if spec.base is not None:
            remember(spec.base.model, spec.study)
            require_trainable(spec.base, data)
    except InputError as error:
        for line in lines:
            line.send(Broken(reason=str(error)))
        return

    def serve(line: Line) -> None:
        with own_stream(device):
            line.send(Ready())
            lives = True
            while lives:
                event = run_job(line.recv(), data, spec, line)
                lives = device_lives(device)
                line.send(event if lives or not isinstance(event, Failed) else replace(event, last=True))

    def serve_beside(line: Line) -> None:
        try:
            serve(line)
        finally:
            # What ends one of them, a device or a coordinator that is gone, ends all.
            os._exit(1)

    for line in lines[1:]:
        threading.Thread(target=serve_beside, args=(line,), daemon=True).start()
    serve(lines[0])


def own_stream(device: torch.device) -> AbstractContextManager[Any]:
    """What a worker does on a GPU inside of this waits for none of what the others in its process do."""
    import torch

    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()


def device_lives(device: torch.device) -> bool:
    """Whether more can be done on the device; after a failed assertion on a GPU its process never can."""
    import torch

    from mmtune.networks.randomness import ALONE

    try:
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()
            with ALONE:
                torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


def run_job(job: Job, data: Resident, spec: WorkerSpec, line: Line) -> Event:
    """Train one job; whatever it raises becomes a Failed event."""
    from mmtune.train.step import DivergenceError
    from mmtune.train.trial import Origin, run_trial

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
        point = Point(epoch=epoch, time=now_ms(), metrics=metrics)
        if epoch > recorded:
            append_epoch(job.folder, point)
        line.send(Epoch(number=job.number, point=point, new=epoch > recorded))
        return bool(line.recv()) if epoch in job.rungs else True

    def on_saved() -> None:
        line.send(Saved(number=job.number))

    CLOCK.show_milliseconds(job.after)
    try:
        origin = Origin(encoders=job.encoders, checkpoint=job.checkpoint)
        split = spec.splits[job.split]
        job.folder.mkdir(parents=True, exist_ok=True)
        tidy(job.folder)
        recorded = max((point.epoch for point in read_epochs(job.folder)), default=0)
        every, told = job.checkpoint_every, (spec.objective, spec.protocol)
        run_trial(job.config, data, split, job.seed, job.folder, on_epoch, origin, every, on_saved, *told)
        return Done(number=job.number)
    except Exception as error:  # a worker outlives every job
        # Where the disk is what failed, this fails too.
        with suppress(OSError):
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / ERROR).write_text(traceback.format_exc())
        return Failed(
            number=job.number,
            reason=f"{type(error).__name__}: {first_line(error)}",
            retry=not isinstance(error, DivergenceError | InputError),
            memory=out_of_memory(error),
            storage=("" if isinstance(error, InputError) else storage_problem(error)) or "",
        )


def out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, of Python's, of numpy's, or of torch's on any device."""
    import torch

    # On a CPU torch has no class of its own for it.
    told = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return told or isinstance(error, MemoryError | torch.OutOfMemoryError)
