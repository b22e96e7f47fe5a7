"""Studies whose processes are killed at random moments, for so many minutes; at the end nothing may be missing.

Several coordinators work at once in one store. Again and again one of them, one of its workers or all of its workers
gets SIGKILL; whatever ended is started again with the same command. When the time is over each study is left in peace
until it ends, and is then held against what must be true of it. `make torture MINUTES=3`.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from checks import check_search, check_trial, children, command, eventually, gone, journal_attempts

from mmtune.data.bundled import sample
from mmtune.data.dataset import Dataset
from mmtune.tracking import COMPLETE, FAIL, PRUNED, RUN_STATUS, MlflowTracker, StudyRun

VICTIMS = {"coordinator": 3, "a worker": 4, "all workers": 2}
MEAN_SECONDS = 0.7
TRIALS, EPOCHS = 6, 15
# 1 where each of its trials has lost two workers.
FINISHED = (0, 1)
GIVEN_UP = "workers cannot start: worker was killed by SIGKILL\n"


@dataclass(kw_only=True)
class Victim:
    """A study that is killed again and again, and its present process."""

    words: list[str]
    process: subprocess.Popen[bytes] | None = None
    calls: int = 0
    log: Path = field(default_factory=Path)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """The same command again."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log)
        self.calls += 1

    def kill(self, whom: str, rng: random.Random) -> int:
        """Kill a part of it; returns how many processes were."""
        assert self.process is not None
        workers = children(self.process.pid)
        chosen = {
            "coordinator": [self.process.pid],
            "a worker": rng.sample(workers, min(1, len(workers))),
            "all workers": workers,
        }[whom]
        for pid in chosen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if whom == "coordinator":
            self.process.wait()
            assert eventually(lambda: all(gone(pid) for pid in workers)), (
                f"workers outlive their coordinator: {workers}"
            )
        return len(chosen)


def torture(dataset: Dataset, store: Path, minutes: float, seed: int, studies: int) -> Counter[str]:
    """Kill for so many minutes; returns how many processes of each kind were killed, calls made, studies begun."""
    rng, counts = random.Random(seed), Counter[str]()
    victims = [begin(dataset, store, number) for number in range(studies)]
    end = time.monotonic() + 60 * minutes
    shown = time.monotonic()
    while time.monotonic() < end:
        for place, victim in enumerate(victims):
            if victim.runs:
                continue
            if victim.process is not None and victim.process.returncode in FINISHED:
                counts["studies finished under fire"] += 1
                victims[place] = victim = begin(dataset, store, studies + counts["studies finished under fire"] - 1)
            elif victim.process is not None and victim.process.returncode > 0:
                assert tail(victim).endswith(GIVEN_UP), f"{victim.words} ended by itself; {tail(victim)}"
                counts["calls that gave up, as no worker lived to be ready"] += 1
            victim.start()
        time.sleep(rng.expovariate(1 / MEAN_SECONDS))
        whom = rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        victim = rng.choice(victims)
        if victim.runs:
            counts[f"killed: {whom}"] += victim.kill(whom, rng)
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(f"{max(0, end - shown):4.0f} s left; {told(counts)}", flush=True)
    for victim in victims:
        finish(victim)
    counts["studies"] = len({tuple(victim.words) for victim in victims}) + counts["studies finished under fire"]
    return counts


def begin(dataset: Dataset, store: Path, seed: int) -> Victim:
    """A study of its own, by its seed."""
    words = command(dataset, store, "--seed", str(seed), "--fix", "view=step", trials=TRIALS, epochs=EPOCHS)
    return Victim(words=words, log=store.parent / f"{seed}.log")


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


def inspect(store: Path) -> Counter[str]:
    """What is in the store in the end; AssertionError where a trial is lost, doubled or still said to run."""
    tracker, counts = MlflowTracker(store), Counter[str]()
    for study in tracker.studies():
        counts.update(inspect_study(store, tracker, study))
    assert not list((store / "staging").glob("*")), "files are left in staging"
    assert not list((store / "optuna").glob("*.spool")), "epochs are left undelivered"
    return counts


def inspect_study(store: Path, tracker: MlflowTracker, study: StudyRun) -> Counter[str]:
    """Every trial ended well once, or was given up after two attempts of its own that say why."""
    runs = tracker.trials(study.run_id)
    for run in runs:
        assert run.status == RUN_STATUS[run.state], f"{study.key.slug} {run.name} is {run.state} and {run.status}"
    well = [run for run in runs if run.state in (COMPLETE, PRUNED)]
    assert len({run.number for run in well}) == len(well), f"{study.key.slug} has a trial twice"
    attempts = journal_attempts(store, study.key.slug)
    failed = Counter(a.index for a in attempts if a.state == FAIL and not a.interrupted)
    lost = set(range(TRIALS)) - {run.number for run in well} - {index for index, times in failed.items() if times > 1}
    assert not lost, f"{study.key.slug} has lost trials {sorted(lost)}"
    for run in well:
        check_trial(tracker, run, EPOCHS)
    check_search(attempts, well)
    why = Counter(f"failed attempts: {run.tags['mmtune.reason']}" for run in runs if run.state == FAIL)
    return Counter({"trials that ended well": len(well), "given up": TRIALS - len(well)}) + why


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--studies", type=int, default=3, help="coordinators at once")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmtune-torture-") as folder:
        store = Path(folder) / "mlruns"
        counts = torture(sample(), store, given.minutes, given.seed, given.studies)
        found = inspect(store)
    killed = sum(count for what, count in counts.items() if what.startswith("killed"))
    print("\n".join(f"{what}: {count}" for what, count in [*sorted(counts.items()), *sorted(found.items())]))
    print(f"{killed} processes killed; lost 0, doubled 0, zombies 0")


if __name__ == "__main__":
    sys.exit(main())
