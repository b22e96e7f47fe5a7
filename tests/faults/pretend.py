"""Workers in this process that train nothing and leave in staging what those that do would leave, epoch by epoch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from calibrated import never_wrong
from rich.console import Console

from mmtune.data.dataset import Dataset
from mmtune.networks.card import CALIBRATION
from mmtune.networks.config import AudioRNNConfig
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import save_model
from mmtune.pool.worker import Died, Done, Epoch, Event, Failed, Job, WorkerSpec
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.train.calibration_file import write_calibration
from mmtune.train.staging import (
    CHECKPOINT,
    FILES,
    Point,
    Result,
    append_epoch,
    now_ms,
    read_epochs,
    write_result,
)
from mmtune.tune.run import Outcome, run_study
from mmtune.tune.trying import DIGITS

SHAPES = Shapes(banks=DIGITS, classes=10)
SMALL = AudioRNNConfig(hidden=1)
NEVER_WRONG = never_wrong()
DIE, DIE_AFTER_ALL, KILL, FAIL = "die", "die after all", "kill", "fail"


class KilledError(BaseException):
    """As a SIGKILL of the coordinator: nobody handles it."""


@dataclass(kw_only=True)
class Story:
    """What happened in all calls of a study: epochs trained and trainings ended, by number. fault: what does happen.

    `fault` is asked for a job and an epoch that is about to be trained, the first time that it is; one beyond the last
    is asked for when the training is to end.
    """

    fault: Callable[[Job, int], str] = lambda job, epoch: ""
    epochs: list[tuple[int, int]] = field(default_factory=list)
    ended: Counter[int] = field(default_factory=Counter)
    asked: set[tuple[int, int]] = field(default_factory=set)

    def happens(self, job: Job, epoch: int) -> str:
        first = (job.number, epoch) not in self.asked
        self.asked.add((job.number, epoch))
        return self.fault(job, epoch) if first else ""

    def trained_again(self) -> int:
        """How many epochs were trained that had been before."""
        return len(self.epochs) - len(set(self.epochs))


@dataclass(kw_only=True)
class Pretend:
    """A pool; every job comes to one epoch more whenever it is listened to."""

    spec: WorkerSpec
    count: int
    story: Story
    busy: dict[int, Job] = field(default_factory=dict)
    reached: dict[int, int] = field(default_factory=dict)
    verdicts: dict[int, bool | None] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    @property
    def idle(self) -> int:
        return self.count - len(self.busy)

    def narrow(self) -> int:
        return self.count

    def submit(self, job: Job) -> None:
        """Begin where the folder's checkpoint says."""
        self.busy[job.number] = job
        path = job.folder / CHECKPOINT
        self.reached[job.number] = json.loads(path.read_text()) if path.exists() else 0

    def answer(self, number: int, go_on: bool) -> None:
        self.verdicts[number] = go_on

    def events(self, timeout: float) -> Iterator[Event]:
        for number, job in list(self.busy.items()):
            if number in self.verdicts and self.verdicts[number] is None:
                continue
            yield from self._advance(job, self.verdicts.pop(number, True) is False)

    def _advance(self, job: Job, pruned: bool) -> Iterator[Event]:
        number, epoch = job.number, self.reached[job.number] + 1
        over = pruned or epoch > job.config.train.epochs
        match self.story.happens(job, epoch):
            case "kill":
                raise KilledError
            case "die":
                # Its place stays empty, as if another worker took long to start.
                self.count = max(1, self.count - 1)
                yield from self._leave(Died(number=number, reason="it died"))
                return
            case "fail":
                yield from self._leave(Failed(number=number, reason="it failed", retry=False))
                return
            case "die after all" if over:
                self._finish(job, pruned)
                yield from self._leave(Died(number=number, reason="it died"))
                return
        if over:
            self._finish(job, pruned)
            yield from self._leave(Done(number=number))
            return
        yield from self._train(job, epoch)

    def _train(self, job: Job, epoch: int) -> Iterator[Event]:
        self.story.epochs.append((job.number, epoch))
        recorded = max((point.epoch for point in read_epochs(job.folder)), default=0)
        point = Point(epoch=epoch, time=now_ms(), metrics=metrics_of(job, epoch))
        if epoch > recorded:
            append_epoch(job.folder, point)
        if epoch in job.rungs:
            self.verdicts[job.number] = None
        else:
            (job.folder / CHECKPOINT).write_text(json.dumps(epoch))
        self.reached[job.number] = epoch
        yield Epoch(number=job.number, point=point, new=epoch > recorded)

    def _leave(self, event: Event) -> Iterator[Event]:
        del self.busy[event.number]  # type: ignore[union-attr]
        yield event

    def _finish(self, job: Job, pruned: bool) -> None:
        self.story.ended[job.number] += 1
        save_model(job.folder / FILES / "model", SMALL.build(SHAPES), SMALL, SHAPES)
        if job.config.train.keep_final:
            save_model(job.folder / FILES / "final", SMALL.build(SHAPES), SMALL, SHAPES)
        assert job.checkpoint is None or job.checkpoint.is_dir()
        (job.folder / FILES / "validation.npz").write_bytes(b"rows")
        write_calibration(job.folder / FILES / CALIBRATION, NEVER_WRONG)
        told = metrics_of(job, self.reached[job.number])
        objective = self.spec.objective
        metrics = {objective.at_best(name): value for name, value in told.items() if name.startswith("val")}
        if "parameters" in objective.names:
            metrics["parameters"] = float(job.seed % 97)
        metrics |= {"epoch_at_best": 1.0, "epochs_trained": float(self.reached[job.number]), "held_accuracy": 0.5}
        write_result(job.folder, Result(state="PRUNED" if pruned else "COMPLETE", time=now_ms(), metrics=metrics))


def metrics_of(job: Job, epoch: int) -> dict[str, float]:
    """What an epoch would say, from the seed alone."""
    score = float(np.random.default_rng(job.seed).uniform(0.2, 0.8)) + epoch / 1000
    return {"train_loss": 1 - score, "val_loss": 1 - score, "val_accuracy": score, "val_macro_f1": score}


@dataclass(kw_only=True)
class World:
    """A store and a study in it, whose calls share a story. said: what the last call printed."""

    dataset: Dataset
    store: Path
    study: str
    options: Options
    story: Story = field(default_factory=Story)
    said: str = ""

    def call(self, stopped: Callable[[], bool] = lambda: False, **changes: Any) -> Outcome | None:
        """The command, once."""
        out = StringIO()
        options = Options(**{**vars(self.options), **changes})
        try:
            return run_study(
                load_study(self.study),
                self.dataset,
                options,
                self.store,
                Console(file=out, width=1000),
                stopped,
                make_pool=lambda spec, count: Pretend(spec=spec, count=count, story=self.story),
            )
        finally:
            self.said = out.getvalue()

    def killed_at(self, epoch: int, number: int | None = None, what: str = KILL) -> None:
        """The command, killed as a training, of a number if one is given, is to come to an epoch."""

        def fault(job: Job, now: int) -> str:
            return what if now == epoch and number in (None, job.number) else ""

        self.story.fault = fault
        try:
            self.call()
        except KilledError:
            pass
        else:
            assert what != KILL, self.said
        self.story.fault = lambda job, epoch: ""

    @property
    def folders(self) -> list[Path]:
        """The folders of trials in staging."""
        return sorted((self.store / "staging").glob("*/*"))
