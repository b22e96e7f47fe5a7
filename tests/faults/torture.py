"""Studies whose processes are killed at random moments, for so many minutes; at the end nothing may be missing.

Several coordinators work at once in one store, some of them on trials of several folds. Again and again one of them,
one of its workers or all of its workers gets SIGKILL, or its whole process group SIGTERM, SIGINT, SIGHUP or SIGKILL;
whatever ended is started again with the same command. When the time is over each study is left in peace until it ends,
and is then held against what must be true of it. `make torture MINUTES=3`; with --server the runs go to an MLflow
server, with --postgres into PostgreSQL.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

# The servers and databases of the tests, one folder up.
sys.path.insert(0, str(Path(__file__).parents[1]))

from checks import check_runs, command, eventually, gone
from counted import again, epochs
from processes import children

from mmtune.data.bundled.sample import sample_folder
from mmtune.data.dataset import Dataset
from mmtune.data.storage.store import load
from mmtune.tracking import FAIL, MlflowTracker, StudyRun

ONE = {"coordinator": 3, "a worker": 4, "all workers": 2}
GROUP = {"SIGTERM": 1, "SIGINT": 1, "SIGHUP": 1, "SIGKILL": 1}
VICTIMS = {**ONE, **{f"group by {name}": weight for name, weight in GROUP.items()}}
MEAN_SECONDS = 0.7
TRIALS, EPOCHS, FOLDS = 6, 15, 3
# 1 where each of its trials has lost two workers; 130 where it was asked to stop.
FINISHED, INTERRUPTED = (0, 1), 130
GIVEN_UP = "workers cannot start: worker was killed by SIGKILL\n"
KILLED = "worker was killed by SIGKILL"
SCRIPT = Path(__file__).with_name("counted.py")


@dataclass(kw_only=True)
class Victim:
    """A study that is killed again and again, and its present process. log: what it prints; counted: what it trains."""

    words: list[str]
    log: Path
    counted: Path
    process: subprocess.Popen[bytes] | None = None
    calls: int = 0

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """The same command again, in a process group of its own."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log, start_new_session=True)
        self.calls += 1

    def kill(self, whom: str, rng: random.Random) -> int:
        """Kill a part of it; returns how many processes were."""
        assert self.process is not None
        workers = children(self.process.pid)
        if whom.startswith("group"):
            os.killpg(self.process.pid, signal.Signals[whom.rpartition(" ")[2]])
            self._see_it_end(workers)
            return 1 + len(workers)
        chosen = {
            "coordinator": [self.process.pid],
            "a worker": rng.sample(workers, min(1, len(workers))),
            "all workers": workers,
        }[whom]
        for pid in chosen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if whom == "coordinator":
            self._see_it_end(workers)
        return len(chosen)

    def _see_it_end(self, workers: list[int]) -> None:
        assert self.process is not None
        self.process.wait(timeout=300)
        assert eventually(lambda: all(gone(pid) for pid in workers)), f"workers outlive their coordinator: {workers}"


@dataclass(kw_only=True)
class Torture:
    """All of it: studies on a data set in a store; `victims` are those under way, `studies` all that were begun."""

    dataset: Dataset
    store: Path
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    studies: list[Victim] = field(default_factory=list)

    def begin(self) -> Victim:
        """A study of its own, by its seed; every third one on folds."""
        seed = len(self.studies)
        more = ["--folds", str(FOLDS)] if seed % 3 == 2 else []
        options = ["--seed", str(seed), "--fix", "view=step", "--checkpoint-every", "0.2", *more]
        words = command(self.dataset, self.store, *options, trials=TRIALS, epochs=EPOCHS)[3:]
        counted = self.store.parent / f"{seed}.counted"
        words = ["env", f"COUNTED={counted}", sys.executable, str(SCRIPT), *words]
        self.studies.append(Victim(words=words, log=self.store.parent / f"{seed}.log", counted=counted))
        return self.studies[-1]

    def run(self, minutes: float, at_once: int) -> None:
        """Kill for so many minutes, then let all of them end in peace."""
        victims = [self.begin() for _ in range(at_once)]
        end, shown = time.monotonic() + 60 * minutes, time.monotonic()
        while time.monotonic() < end:
            victims = [self.awake(victim) for victim in victims]
            time.sleep(self.rng.expovariate(1 / MEAN_SECONDS))
            whom = self.rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
            victim = self.rng.choice(victims)
            if victim.runs:
                self.counts[f"killed: {whom}"] += victim.kill(whom, self.rng)
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                print(f"{max(0, end - shown):4.0f} s left; {told(self.counts)}", flush=True)
        for victim in victims:
            finish(victim)
        self.counts["studies"] = len(self.studies)

    def awake(self, victim: Victim) -> Victim:
        """A study that runs: the same one, started again if need be, or another one where it is finished."""
        if victim.runs:
            return victim
        code = None if victim.process is None else victim.process.returncode
        if code in FINISHED:
            self.counts["studies finished under fire"] += 1
            victim = self.begin()
        elif code is not None and code > 0 and code != INTERRUPTED:
            assert tail(victim).endswith(GIVEN_UP), f"{victim.words} ended by itself; {tail(victim)}"
            self.counts["calls that gave up, as no worker lived to be ready"] += 1
        victim.start()
        return victim

    def inspect(self) -> None:
        """Count what there is in the end; AssertionError where a trial is lost, doubled or still said to run."""
        tracker = MlflowTracker(self.store)
        for study in tracker.studies():
            self.counts.update(inspect_study(tracker, study))
        assert not list((self.store / "staging").glob("*")), "files are left in staging"
        for victim in self.studies:
            doubled = again(victim.counted)
            assert not doubled, f"trainings were done again although they had finished: {doubled}; {victim.words}"
            # Ctrl-C that comes while Python still imports the command line is Python's own to tell.
            said = re.sub(r"(?m)^Traceback.*\n(?: .*\n)*KeyboardInterrupt.*\n", "", victim.log.read_text())
            assert "Traceback" not in said, said[-5000:]
            self.counts["epochs trained"] += epochs(victim.counted)


def inspect_study(tracker: MlflowTracker, study: StudyRun) -> Counter[str]:
    """Every trial ended well once, or was given up after two attempts of its own that say why."""
    well = check_runs(tracker, study, EPOCHS)
    runs = [*tracker.trials(study.run_id), *tracker.parts(study.run_id)]
    failed = [run for run in runs if run.state == FAIL]
    # Of all that can go wrong here, only a worker that was killed by itself is charged to a trial.
    assert {run.tags["mmtune.reason"] for run in failed} <= {KILLED}
    given_up = set(range(TRIALS)) - {run.number for run in well}
    charged = Counter(run.number for run in failed)
    lost = {number for number in given_up if charged[number] < 2}
    assert not lost, f"{study.key.slug} has lost trials {sorted(lost)}"
    assert study.status == "FINISHED"
    why = Counter(f"failed attempts: {run.tags['mmtune.reason']}" for run in failed)
    return Counter({"trials that ended well": len(well), "given up": len(given_up)}) + why


def finish(victim: Victim) -> None:
    """Let a study end in peace."""
    if victim.runs:
        assert victim.process is not None
        victim.process.wait(timeout=600)
    if victim.process is None or victim.process.returncode not in FINISHED:
        victim.start()
        assert victim.process is not None
        code = victim.process.wait(timeout=600)
        assert code in FINISHED, f"{' '.join(victim.words)} ended with {code}; {tail(victim)}"


def tail(victim: Victim) -> str:
    return victim.log.read_text()[-2000:]


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))


@contextmanager
def kept_elsewhere(folder: Path, server: bool, postgres: bool) -> Iterator[None]:
    """Let runs go to an MLflow server, or into PostgreSQL."""
    if server:
        from mlflow_servers import ServerProcess

        made = ServerProcess(folder / "server", folder, f"sqlite:///{folder / 'server' / 'server.db'}")
        made.start()
        os.environ["MLFLOW_TRACKING_URI"] = made.uri
        try:
            yield
        finally:
            made.kill()
    elif postgres:
        from databases import running_postgres

        with running_postgres() as database:
            os.environ["MLFLOW_TRACKING_URI"] = database.url()
            yield
    else:
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--studies", type=int, default=3, help="coordinators at once")
    elsewhere = parser.add_mutually_exclusive_group()
    elsewhere.add_argument("--server", action="store_true", help="keep runs on an MLflow server")
    elsewhere.add_argument("--postgres", action="store_true", help="keep runs in PostgreSQL")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="mmtune-torture-") as folder,
        kept_elsewhere(Path(folder), given.server, given.postgres),
    ):
        torture = Torture(dataset=load(sample_folder()), store=Path(folder) / "mlruns", rng=random.Random(given.seed))
        torture.run(given.minutes, given.studies)
        torture.inspect()
    killed = sum(count for what, count in torture.counts.items() if what.startswith("killed"))
    print("\n".join(f"{what}: {count}" for what, count in sorted(torture.counts.items())))
    print(f"{killed} processes killed; lost 0, doubled 0, trained again 0, zombies 0")


if __name__ == "__main__":
    sys.exit(main())
