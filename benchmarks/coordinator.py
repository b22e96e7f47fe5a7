"""Trials per second of the coordinator alone: a real search and a real store, and a pool whose work costs nothing.

Each trial reports 20 epochs of 8 metrics, is asked at every rung whether it is worth going on, never is hopeless, and
leaves a small folder of files.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from benchmarks.measure import resident
from benchmarks.results import keep_dated
from mmtune.data.bundled.sample import sample_folder
from mmtune.data.dataset import Dataset
from mmtune.data.storage.store import load
from mmtune.pool.worker import Done, Epoch, Event, Job, WorkerSpec
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.tracking import COMPLETE, PRUNED
from mmtune.train.objective import MACRO_F1
from mmtune.train.staging import FILES, RESULT, Point, Result, now_ms
from mmtune.tune.run import run_study

EPOCHS = 20
MARK = 1_000
"""After so many trials each it is seen what the coordinator holds."""
LEFT = {"model/model.safetensors": 60_000, "model/model.json": 700, "validation.npz": 20_000, "history.json": 3_000}
FINAL = ("val_ari", "val_nmi", "val_purity", "fit_seconds", *(f"val_f1_{digit}" for digit in range(10)))


@dataclass(kw_only=True)
class UntrainedPool:
    """What pools share that train nothing: how many jobs were made, since the first one's start, and how a job ends."""

    spec: WorkerSpec
    count: int
    made: int = 0
    began: float = 0.0
    began_cpu: float = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def narrow(self) -> int:
        """There is no memory to give out here."""
        return self.count

    def begin(self) -> None:
        """The first job starts the clocks."""
        self.began, self.began_cpu = self.began or time.perf_counter(), self.began_cpu or time.process_time()

    def done(self, job: Job, pruned: bool = False) -> Done:
        """The end of a job, whose folder says so, with the metrics that a trial has in the end."""
        best = {
            MACRO_F1.name: score(self.made),
            "val_accuracy_at_best": 0.5,
            "val_loss_at_best": 1.0,
            "epoch_at_best": EPOCHS,
        }
        metrics = best | dict.fromkeys(FINAL, 0.5)
        result = Result(state=PRUNED if pruned else COMPLETE, time=now_ms(), metrics=metrics)
        # A worker waits until this is on the disk, which is none of the coordinator's time.
        (job.folder / RESULT).write_text(json.dumps(asdict(result)))
        return Done(number=job.number)


@dataclass(kw_only=True)
class InstantPool(UntrainedPool):
    """Does every job at once: its epochs, the answers at its rungs, its files; `rate` of them a second at most."""

    rate: float = math.inf
    jobs: list[Job] = field(default_factory=list)
    go_on: dict[int, bool] = field(default_factory=dict)
    seconds: float = 0.0
    marks: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def idle(self) -> int:
        return self.count - len(self.jobs)

    def mark(self) -> None:
        """What this process has after so many jobs: bytes of memory, and files open."""
        self.marks[self.made] = resident(os.getpid()), sum(1 for _ in Path("/proc/self/fd").iterdir())

    def submit(self, job: Job) -> None:
        self.begin()
        self.jobs.append(job)

    def answer(self, number: int, go_on: bool) -> None:
        self.go_on[number] = go_on

    def events(self, timeout: float) -> Iterator[Event]:
        under_way, self.jobs = self.jobs, []
        for job in under_way:
            time.sleep(max(0.0, self.began + self.made / self.rate - time.perf_counter()))
            self.made += 1
            if self.made % MARK == 0:
                self.mark()
            pruned = yield from self._epochs(job)
            began = time.perf_counter()
            leave_files(job.folder / FILES)
            done = self.done(job, pruned)
            self.seconds += time.perf_counter() - began
            yield done

    def _epochs(self, job: Job) -> Generator[Event, None, bool]:
        """One Epoch after the other, until a rung's answer is no; returns whether it was."""
        for epoch in range(1, EPOCHS + 1):
            level = score(self.made) * epoch / EPOCHS
            yield Epoch(number=job.number, point=Point(epoch=epoch, time=now_ms(), metrics=metrics(epoch, level)))
            if epoch in job.rungs and not self.go_on.pop(job.number):
                return True
        return False


def score(made: int) -> float:
    """A little more for every trial, so that none is hopeless."""
    return 1 - 1 / (1 + made / 1_000)


def metrics(epoch: int, level: float) -> dict[str, float]:
    """What an epoch reports."""
    both = {f"{side}_{name}": level for side in ("train", "val") for name in ("accuracy", "macro_f1")}
    return both | {"train_loss": 2 / epoch, "val_loss": 3 / epoch, "lr": 1e-3, "epoch_seconds": 0.1}


def leave_files(folder: Path) -> None:
    """What a training leaves."""
    for name, size in LEFT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(size))


def measure(
    dataset: Dataset, trials: int, sampler: str, keep: str, root: Path, rate: float = math.inf
) -> dict[str, Any]:
    """Run `trials` trials; seconds from the first job to the study's end, and those of tracking, tuning and files.

    rate: of trials a second. held: by number of trials, bytes of memory and open files.
    """
    pools: list[InstantPool] = []

    def make_pool(spec: WorkerSpec, count: int) -> InstantPool:
        pools.append(InstantPool(spec=spec, count=count, rate=rate))
        return pools[-1]

    options = Options(sampler=sampler, trials=trials, epochs=EPOCHS, workers=2, device="cpu", keep=keep)
    # Lines that are kept would be counted as what a study holds.
    with Path(os.devnull).open("w") as nobody:
        outcome = run_study(load_study("image_cnn"), dataset, options, root, Console(file=nobody), make_pool=make_pool)
    seconds, cpu = time.perf_counter() - pools[0].began, time.process_time() - pools[0].began_cpu
    assert outcome is not None
    assert outcome.finished
    check(root, trials)
    parts = {"tracking": outcome.tracking_seconds, "tuning": outcome.tuning_seconds, "files": pools[0].seconds}
    rest = seconds - sum(parts.values())
    held = {"held": pools[0].marks} if pools[0].marks else {}
    return {"trials": trials, "seconds": seconds, "cpu_seconds": cpu, **parts, "rest": rest, **held}


def check(root: Path, trials: int) -> None:
    """Everything that was reported is in the store."""
    with sqlite3.connect(root / "mlflow.db") as store:
        count = "SELECT COUNT(*) FROM metrics WHERE key = 'val_loss'"
        assert store.execute(count).fetchone()[0] == trials * EPOCHS
        ended = "SELECT COUNT(*) FROM runs JOIN tags USING (run_uuid) WHERE status = 'FINISHED' AND value = 'trial'"
        assert store.execute(ended).fetchone()[0] == trials


def table(found: dict[str, Any]) -> Iterator[str]:
    """The measurement in lines."""
    trials, seconds = found["trials"], found["seconds"]
    yield f"{trials:.0f} trials of {EPOCHS} epochs: {seconds:.1f} s, {trials / seconds:.1f} trials per second"
    cpu = found["cpu_seconds"]
    yield f"  of the processor {cpu:.1f} s, {trials / cpu:.1f} trials per second; {cpu / seconds:.0%} of a core"
    for name in ("tracking", "tuning", "files", "rest"):
        yield f"  {name:<8} {1000 * found[name] / trials:6.2f} ms a trial, {found[name] / seconds:6.1%}"
    for made, (memory, files) in found.get("held", {}).items():
        yield f"  after {made:>6,} trials: {memory / 2**20:.0f} MiB of memory, {files} files open"


def main() -> None:
    """Measure, print, and keep."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--trials", type=int, default=1_000)
    arguments.add_argument("--sampler", default="random")
    arguments.add_argument("--keep", default=Options().keep, help="as of mmtune study; each trial here is the best")
    arguments.add_argument(
        "--rate", type=float, default=math.inf, help="trials a second at most: workers / seconds of one"
    )
    arguments.add_argument("--store", type=Path, help="keep the store there instead of in a temporary folder")
    arguments.add_argument("--out", type=Path, help="the folder of dated results, such as benchmarks/results")
    given = arguments.parse_args()
    dataset = load(sample_folder())
    # What is imported and opened once is not what a trial costs.
    with tempfile.TemporaryDirectory() as warm:
        measure(dataset, 4, given.sampler, given.keep, Path(warm))
    with tempfile.TemporaryDirectory() as folder:
        root = given.store or Path(folder) / "mlruns"
        found = measure(dataset, given.trials, given.sampler, given.keep, root, given.rate)
    print("\n".join(table(found)))
    if given.out:
        print(kept(found | {"trials_per_second": found["trials"] / found["seconds"]}, given))


def kept(found: dict[str, Any], given: argparse.Namespace) -> Path:
    """A dated JSON file of what was measured and with what."""
    versions = {name: version(name) for name in ("mlflow", "optuna", "sqlalchemy")}
    made_with = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, **versions}
    asked = {"sampler": given.sampler, "keep": given.keep, **({"rate": given.rate} if given.rate < math.inf else {})}
    told = {"measured": found, **asked, "cores": os.cpu_count(), "versions": made_with}
    return keep_dated(given.out, "coordinator", told)


if __name__ == "__main__":
    main()
