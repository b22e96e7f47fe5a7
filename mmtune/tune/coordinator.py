"""The one process that asks and tells, writes the tracked runs, and drives the workers.

Every write about a trial goes to the tracker first and to the search last: whatever ended in the search is
in the tracker whole, and whatever did not is settled when the study is resumed.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mmtune.base.clock import now
from mmtune.base.errors import InputError
from mmtune.base.files import storage_problem, unusable
from mmtune.base.progress import Progress
from mmtune.networks.card import FINAL
from mmtune.pool.worker import Died, Done, Epoch, Event, Failed, Job
from mmtune.study import StudyKey
from mmtune.study.space import Value
from mmtune.tracking import COMPLETE, FAIL, INTERRUPTED, OBJECTIVE, PRUNED, MlflowTracker, TrialRun
from mmtune.train.recipe import TrialConfig
from mmtune.tune.parts import CURVES, SUMMARISED, Metrics, Part, best_part, mean_curves, spread, units
from mmtune.tune.plan import Plan
from mmtune.tune.search import ATTEMPTS, REPORTED, Given, Search, closed, derive_seed, drawn_values, make_sampler

# Many workers may end together; for so long no other one is heard.
TURN_SECONDS = 0.05


class Pool(Protocol):
    """What trains: processes on this machine, or anything else that keeps to this."""

    @property
    def idle(self) -> int: ...
    def narrow(self) -> int: ...
    def submit(self, job: Job) -> None: ...
    def answer(self, number: int, go_on: bool) -> None: ...
    def events(self, timeout: float) -> Iterable[Event]: ...


@dataclass(kw_only=True)
class Live:
    """A trial under way: its run, and its parts that wait, run (by their run) and are done.

    A trial of one part has one run for both. reason: why it has failed; hopeless: whether it is far behind the best.
    """

    number: int
    run_id: str
    name: str
    config: TrialConfig
    waiting: list[Part]
    running: dict[Part, str] = field(default_factory=dict)
    ended: dict[Part, str] = field(default_factory=dict)
    metrics: dict[Part, Metrics] = field(default_factory=dict)
    failures: Counter[Part] = field(default_factory=Counter)
    reason: str = ""
    hopeless: bool = False


class Coordinator:
    """Runs the missing trials of a plan on a pool until none is left or `stop()` says so.

    tracked: the runs of the study's trials so far, as `reconcile` found them; parts: their complete parts.
    """

    def __init__(
        self,
        plan: Plan,
        search: Search,
        tracker: MlflowTracker,
        parent: str,
        pool: Pool,
        progress: Progress,
        staging: Path,
        missing: Mapping[int, Mapping[str, Value]],
        tracked: Iterable[TrialRun] = (),
        parts: Mapping[tuple[int, Part], TrialRun] = {},
    ) -> None:
        self.plan, self.search, self.tracker, self.parent = plan, search, tracker, parent
        self.pool, self.progress, self.staging = pool, progress, staging
        self.live: dict[int, Live] = {}
        self.endings: deque[Event] = deque()
        self.open = dict(missing)
        self.divided = len(plan.parts) > 1
        self.parts = parts
        self.part_runs = {place: run.run_id for place, run in self.parts.items()}
        self.complete = {run.number: run.run_id for run in tracked if run.state == COMPLETE}

    def run(self, stop: Callable[[], bool]) -> None:
        """Until every index is closed, or `stop()`; then whatever is under way is ended as interrupted.

        Where no file can be written, that is left to the next call.
        """
        try:
            while (self.open or self.live) and not stop():
                self._hear(0 if self._work() else 0.5)
                self.tracker.deliver_if_due()
            while self.endings:
                self._handle(self.endings.popleft())
        except Exception as error:
            if storage_problem(error) is not None:
                self.live.clear()
            else:
                with suppress(Exception):
                    self._keep_heard()
            raise
        finally:
            for index in list(self.live):
                self._interrupt(index)

    def _keep_heard(self) -> None:
        """What was trained to its end has ended, whatever else went wrong."""
        for event in self.endings:
            if isinstance(event, Done):
                self._done(event)

    # ---- handing out work

    def _work(self) -> bool:
        """End trials that are over and begin others, in turn and not for long; whether there is more to do."""
        until = time.monotonic() + TURN_SECONDS
        while time.monotonic() < until:
            ending = bool(self.endings)
            if ending:
                self._handle(self.endings.popleft())
            if not (self._begin() or ending):
                return False
        return True

    def _begin(self) -> bool:
        """Give an idle worker what is to be done next; whether there were both."""
        if not self.pool.idle:
            return False
        waiting = min((index for index, live in self.live.items() if live.waiting), default=None)
        if waiting is not None:
            self._submit(waiting, self.live[waiting].waiting.pop(0))
            return True
        index = next((i for i in self.open if not self._blocked(i)), None)
        if index is None:
            return False
        self._launch(index, self.open.pop(index))
        return True

    def _blocked(self, index: int) -> bool:
        return any(i in self.open or i in self.live for i in self.plan.schedule.needs(index))

    def _launch(self, index: int, earlier: Mapping[str, Value]) -> None:
        values = self.search.ask(index, self._sampler(index, earlier))
        name = trial_name(index, values)
        seed = derive_seed(self.plan.key.seed, index)
        own = {"mmtune.seed": str(seed), "mmtune.started": now(), "mmtune.drawn": json.dumps(values)}
        tags = {**self.plan.tags, **own}
        try:
            config = self.plan.schedule.configure(self.plan.base, values)
            params, reason = self.plan.params(config), self._obstacle(index)
        except InputError as error:
            params, reason = dict(values), str(error)
        run_id = self.tracker.start_trial(self.parent, index, name, params, tags)
        self.search.attach(index, run_id)
        if reason:
            self.tracker.end_trial(run_id, FAIL, {}, reason=reason)
            self.search.tell(index, FAIL, None)
            self.progress.say(f"trial {name}: fail, {reason}")
            return
        self.live[index] = Live(number=index, run_id=run_id, name=name, config=config, waiting=list(self.plan.parts))
        for part in self.plan.parts:
            self._adopt(index, part)
        self._conclude_if_over(index)

    def _obstacle(self, index: int) -> str:
        """Why a trial cannot begin, "" where it can."""
        needed = self.plan.schedule.resumes(index)
        if needed is None:
            return ""
        if needed not in self.complete:
            return f"trial {needed:02d}, which it goes on from, is not complete"
        for part in self.plan.parts:
            self._checkpoint(index, part)
        return ""

    def _sampler(self, index: int, earlier: Mapping[str, Value]) -> Any:
        drawn = self.plan.schedule.draw(index, self.search.attempts())
        if earlier or not drawn.sampler:
            return Given(earlier or drawn.given)
        sampler = make_sampler(drawn.sampler, derive_seed(self.plan.key.seed, index, 1))
        return Given(drawn.given, sampler) if drawn.given else sampler

    def _adopt(self, index: int, part: Part) -> None:
        """Take over a part that an interrupted attempt at this trial had finished."""
        live, run = self.live[index], self.parts.get((index, part))
        if run is not None and run.params == self.plan.params(live.config):
            self.tracker.adopt(run.run_id, live.run_id)
            live.waiting.remove(part)
            live.ended[part], live.metrics[part] = run.run_id, run.metrics
            self.progress.done += 1
            self._report_part(index, part, run.metrics[OBJECTIVE])

    def _submit(self, index: int, part: Part) -> None:
        live = self.live[index]
        ticket = self._ticket(index, part)
        seed, name = derive_seed(self.plan.key.seed, index), live.name
        run_id = live.run_id
        if self.divided:
            seed = self._part_seed(index, part)
            name = f"{live.name} {part_name(part, self.plan.key)}"
            place = {"mmtune.fold": str(part.fold), "mmtune.repeat": str(part.repeat)}
            tags = {**self.plan.tags, **place, "mmtune.seed": str(seed), "mmtune.started": now()}
            run_id = self.tracker.start_part(self.parent, live.run_id, index, name, self.plan.params(live.config), tags)
        live.running[part] = run_id
        self.progress.begin(ticket, name, live.config.train.epochs)
        shutil.rmtree(self._folder(ticket), ignore_errors=True)
        job = Job(
            number=ticket,
            config=live.config,
            seed=seed,
            folder=self._folder(ticket),
            split=part.fold,
            rungs=self.search.rungs,
            encoders=self.plan.encoders,
            checkpoint=self._checkpoint(index, part),
        )
        self.pool.submit(job)

    def _part_seed(self, index: int, part: Part) -> int:
        return derive_seed(self.plan.key.seed, index, 2 + part.fold, 1 + part.repeat)

    def _ticket(self, index: int, part: Part) -> int:
        return index * len(self.plan.parts) + self.plan.parts.index(part)

    def _folder(self, ticket: int) -> Path:
        return self.staging / f"{ticket}"

    def _checkpoint(self, index: int, part: Part) -> Path | None:
        needed = self.plan.schedule.resumes(index)
        if needed is None:
            return None
        run_id = self.part_runs[needed, part] if self.divided else self.complete[needed]
        return self.tracker.artifact(run_id, FINAL)

    def _place(self, ticket: int) -> tuple[int, Part]:
        index, place = divmod(ticket, len(self.plan.parts))
        return index, self.plan.parts[place]

    # ---- hearing what came of it

    def _hear(self, timeout: float) -> None:
        """Take note of epochs, since a worker may wait for an answer; what takes longer has its turn later."""
        for event in self.pool.events(timeout):
            if isinstance(event, Epoch):
                self._epoch(event)
                continue
            if isinstance(event, Failed) and event.memory:
                # How many may train goes by how many do at this moment.
                self.progress.say(f"memory gave out: from now on at most {self.pool.narrow()} train side by side")
            self.endings.append(event)

    def _handle(self, event: Event) -> None:
        match event:
            case Done():
                self._done(event)
            case Failed():
                if event.storage:
                    # Not the trial's fault: it is made again once there is room.
                    raise unusable(event.storage)
                self._fail(event.number, event.reason, retry=event.retry)
            case Died():
                self._fail(event.number, event.reason, retry=True)
            case _:
                pass

    def _epoch(self, event: Epoch) -> None:
        index, part = self._place(event.number)
        self.tracker.log_epoch(self.live[index].running[part], event.epoch, event.metrics)
        self.progress.advance(event.number, event.epoch, event.metrics)
        if event.epoch in self.search.rungs:
            go_on = self.search.report(index, event.epoch, event.metrics[REPORTED])
            self.pool.answer(event.number, go_on)

    def _done(self, event: Done) -> None:
        index, part = self._place(event.number)
        live = self.live[index]
        run_id = live.running.pop(part)
        live.ended[part], live.metrics[part] = run_id, event.metrics
        self.part_runs[index, part] = run_id
        live.hopeless |= event.pruned
        state, score = PRUNED if event.pruned else COMPLETE, event.metrics[OBJECTIVE]
        self.tracker.end_trial(run_id, state, event.metrics, self._folder(event.number))
        shutil.rmtree(self._folder(event.number), ignore_errors=True)
        self.progress.finish(event.number, state, score)
        self._report_part(index, part, score)
        self._conclude_if_over(index)

    def _report_part(self, index: int, part: Part, score: float) -> None:
        live = self.live[index]
        if self.search.compares_parts:
            worth_it = self.search.report(index, self.plan.parts.index(part), score)
            # With no part left to save, a trial far behind the best is as complete as any.
            live.hopeless |= not worth_it and bool(live.waiting)

    def _fail(self, ticket: int, reason: str, retry: bool) -> None:
        index, part = self._place(ticket)
        live = self.live[index]
        self._end_failed(live.running.pop(part), ticket, reason, retry)
        self.progress.finish(ticket, FAIL, None, reason)
        live.failures[part] += 1
        if self.divided and retry and live.failures[part] < ATTEMPTS:
            live.waiting.insert(0, part)
        else:
            live.reason = live.reason or reason
        self._conclude_if_over(index, retry=retry and not self.divided)

    def _end_failed(self, run_id: str, ticket: int, reason: str, retry: bool = False) -> None:
        folder = self._folder(ticket)
        kept = folder if (folder / "error.txt").exists() else None
        self.tracker.end_trial(run_id, FAIL, {}, kept, reason, retry=retry)
        shutil.rmtree(folder, ignore_errors=True)

    # ---- ending a trial

    def _conclude_if_over(self, index: int, retry: bool = False) -> None:
        live = self.live[index]
        if live.hopeless or live.reason:
            self.progress.trials -= len(live.waiting)
            live.waiting.clear()
        if not live.waiting and not live.running:
            self._conclude(index, retry)

    def _conclude(self, index: int, retry: bool = False) -> None:
        live = self.live.pop(index)
        state = FAIL if live.reason else PRUNED if live.hopeless else COMPLETE
        metrics = self._sum_up(live, state) if self.divided else live.metrics.get(self.plan.parts[0], {})
        score = metrics.get(OBJECTIVE)
        self.search.tell(index, state, score, retry=retry)
        if state == COMPLETE and score is not None:
            self.complete[index] = live.run_id
            self.progress.rate(live.name, score)
        attempts = self.search.attempts_at(index)
        if not closed(attempts):
            self.open = dict(sorted([*self.open.items(), (index, drawn_values(attempts))]))

    def _sum_up(self, live: Live, state: str) -> Metrics:
        """End the run of a trial whose parts have their own: with what they say together, and the best one's files."""
        if state == FAIL:
            self.tracker.end_trial(live.run_id, FAIL, {}, reason=live.reason)
            return {}
        found = units(live.metrics, self.plan.repeats)
        metrics, best = spread(found), best_part(live.metrics)
        curves = self.tracker.curves_of(list(live.ended.values()), CURVES)
        for epoch, means in mean_curves(list(curves.values())).items():
            self.tracker.log_epoch(live.run_id, epoch, means)
        self.tracker.log_units(live.run_id, [{n: unit[n] for n in SUMMARISED if n in unit} for unit in found])
        # The files are those of one part, and so is the seed that made its clusters.
        self.tracker.record(live.run_id, {}, {"mmtune.seed": str(self._part_seed(live.number, best))})
        self.tracker.end_trial(live.run_id, state, metrics, self.tracker.artifact(live.ended[best], ""))
        self.progress.say(f"trial {live.name}: {state.lower()}, {told(metrics, len(found), self.plan)}")
        return metrics

    def _interrupt(self, index: int) -> None:
        live = self.live.pop(index)
        for part, run_id in live.running.items():
            self._end_failed(run_id, self._ticket(index, part), INTERRUPTED)
        if self.divided:
            self.tracker.end_trial(live.run_id, FAIL, {}, reason=INTERRUPTED)
        self.search.tell(index, FAIL, None, interrupted=True)


def part_name(part: Part, key: StudyKey) -> str:
    """A part in words."""
    fold = [f"fold {part.fold + 1}"] if key.folds else []
    return ", ".join([*fold, *([f"repeat {part.repeat + 1}"] if key.repeats > 1 else [])])


def told(metrics: Metrics, count: int, plan: Plan) -> str:
    """The objective of a trial over its units."""
    spread = f" (deviation {metrics[f'{OBJECTIVE}_sd']:.4f} over {count})" if count > 1 else ""
    best = f"best of {plan.key.repeats} by validation" if plan.repeats == "best" and plan.key.repeats > 1 else ""
    what = ", ".join(filter(None, ["mean" if count > 1 or not best else "", best]))
    return f"{what}: val macro-F1 {metrics[OBJECTIVE]:.4f}{spread}"


def trial_name(index: int, values: Mapping[str, Value]) -> str:
    """A trial in a few words: its number and what was drawn for it."""
    drawn = [f"{path.rpartition('.')[2]}={show(value)}" for path, value in values.items()]
    return " ".join([f"{index:02d}", *drawn])


def show(value: Value) -> str:
    """A value with four significant digits at most."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
