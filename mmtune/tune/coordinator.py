"""The one process that asks and tells, drives the workers, and has what they leave brought to the store.

Whatever ends is in staging first, with its result, and in the store soon after; so a kill at any moment repeats
nothing that had ended, and the store may be away for a while.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from mmtune.base.clock import milliseconds
from mmtune.base.errors import AwayError, InputError
from mmtune.base.files import storage_problem, unusable
from mmtune.base.progress import Progress
from mmtune.networks.card import FINAL, HELD, MAPS, MODEL, VALIDATION
from mmtune.pool.worker import Died, Done, Epoch, Event, Failed, Job
from mmtune.study.key import StudyKey
from mmtune.study.space import Value
from mmtune.tracking import (
    COMPLETE,
    FAIL,
    OBJECTIVE,
    PARENT,
    PRUNED,
    REMOVED,
    UNIT,
    MlflowTracker,
    Recorder,
    TakenOverError,
)
from mmtune.tracking.recorder import Tracked
from mmtune.train.recipe import TrialConfig
from mmtune.train.staging import (
    EPOCHS,
    ERROR,
    FILES,
    PARTS,
    Point,
    Result,
    StagedRun,
    append_epoch,
    hand_on,
    now_ms,
    read_epochs,
    read_result,
    write_result,
)
from mmtune.tune.keep import Keeper
from mmtune.tune.parts import CURVES, SUMMARISED, Metrics, Part, best_part, mean_curves, part_of, spread, units
from mmtune.tune.plan import Plan
from mmtune.tune.resume import StagedTrial, Standing
from mmtune.tune.search import ATTEMPTS, REPORTED, Given, Search, closed, derive_seed, last_values, make_sampler

# What takes room, and is kept of the best trials alone.
KEPT = (MODEL, FINAL, VALIDATION, HELD, MAPS)
# Many workers may end together; for so long no other one is heard.
TURN_SECONDS = 0.05
LAST_SECONDS = 5.0


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

    A trial of one part has one run for both. started: parts that wait and have a run already, which are brought to an
    end whatever becomes of the trial. reason: why it has failed; hopeless: whether it is far behind the best.
    """

    run: StagedRun
    config: TrialConfig
    waiting: list[Part]
    running: dict[Part, StagedRun] = field(default_factory=dict)
    ended: dict[Part, StagedRun] = field(default_factory=dict)
    metrics: dict[Part, Metrics] = field(default_factory=dict)
    failures: Counter[Part] = field(default_factory=Counter)
    started: dict[Part, StagedRun] = field(default_factory=dict)
    reason: str = ""
    hopeless: bool = False


class Coordinator:
    """Runs the missing trials of a plan on a pool until none is left or `stop()` says so.

    standing: how the study stood, of which the search and the recorder know. staging: the study's own folder there.
    """

    def __init__(
        self,
        plan: Plan,
        search: Search,
        tracker: MlflowTracker,
        recorder: Recorder,
        pool: Pool,
        progress: Progress,
        staging: Path,
        standing: Standing,
    ) -> None:
        self.plan, self.search, self.tracker, self.recorder = plan, search, tracker, recorder
        self.pool, self.progress, self.staging = pool, progress, staging
        self.divided = len(plan.parts) > 1
        self.live: dict[int, Live] = {}
        self.endings: deque[Event] = deque()
        self.open = search.open_indices(plan.trials)
        # By trial, and by trial and part, the run whose last epoch another trial may go on from.
        self.complete: dict[Any, Any] = {}
        self.keeper = Keeper(plan.keep, always=plan.built_on())
        self.keeper.rebuild(search.attempts())
        self.kept: dict[int, list[Tracked]] = {}
        self._take_in(standing)
        for trial in standing.under_way(plan.trials):
            self._go_on(trial, standing.states)

    def _take_in(self, standing: Standing) -> None:
        """Note which trials have ended well before, in the store or in staging alone."""
        owners: dict[str, int] = {}
        for run in standing.ended:
            if run.state in (COMPLETE, PRUNED) and REMOVED not in run.tags:
                owners[run.run_id], self.kept[run.number] = run.number, [run]
            if run.state == COMPLETE:
                self.complete[run.number] = run
        for part in standing.parts:
            owner = owners.get(part.tags.get(PARENT, ""))
            if owner is not None:
                self.kept[owner].append(part)
                if part.state == COMPLETE:
                    self.complete[owner, part_of(part.tags)] = part
        for trial in standing.staged:
            result, index = trial.run.result, trial.run.number
            if result is None or result.state == FAIL:
                continue
            self.kept[index] = list(trial.runs)
            if result.state == COMPLETE:
                self.complete[index] = trial.run
                self.complete |= {(index, part_of(own.tags)): own for own in trial.parts if is_complete(own)}
        self._drop([index for index in self.kept if not self.keeper.wants(index)])

    def run(self, stop: Callable[[], bool]) -> None:
        """Until every index is closed, or `stop()`; what is under way then goes on with the next call.

        Where no file can be written, what is left is for the next call too.
        """
        try:
            while (self.open or self.live) and not stop():
                self._hear(0 if self._work() else 0.5)
            while self.endings:
                self._handle(self.endings.popleft())
            leave(self.recorder, stopping=bool(self.open or self.live))
        except (TakenOverError, AwayError):
            raise
        except Exception as error:
            if storage_problem(error) is None:
                # What was trained to its end has ended, whatever else went wrong.
                for event in self.endings:
                    if isinstance(event, Done):
                        with suppress(Exception):
                            self._done(event)
                with suppress(Exception):
                    leave(self.recorder, stopping=True)
            raise

    # ---- handing out work

    def _work(self) -> bool:
        """End trials that are over, begin others, bring runs to the store, in turn and not for long; whether more is
        to be done."""
        until = monotonic() + TURN_SECONDS
        while monotonic() < until:
            ending = bool(self.endings)
            if ending:
                self._handle(self.endings.popleft())
            begun, brought = self._begin(), self.recorder.work()
            if not (begun or ending or brought):
                return False
        return True

    def _begin(self) -> bool:
        """Give an idle worker what is to be done next; whether there were both."""
        if not self.pool.idle:
            return False
        ready = (index for index, live in self.live.items() if live.waiting and not self._blocked(index))
        waiting = min(ready, default=None)
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

    def _go_on(self, trial: StagedTrial, states: Mapping[str, str]) -> None:
        """Take up a trial of an earlier call."""
        run, index = trial.run, trial.run.number
        live = self.live[index] = Live(run=run, config=self.plan.base, waiting=list(self.plan.parts))
        for staged in trial.runs:
            self.recorder.resume(staged, states.get(staged.run_id, ""))
        for own in trial.parts:
            part, result = part_of(own.tags), own.result
            if result is None:
                live.started[part] = own
            elif result.state == COMPLETE:
                live.waiting.remove(part)
                live.ended[part], live.metrics[part] = own, result.metrics
                self.complete[index, part] = own
                self.progress.done += 1
            else:
                live.failures[part] += 1
                if not result.retry or live.failures[part] >= ATTEMPTS:
                    live.reason = result.reason
        try:
            live.config = self.plan.schedule.configure(self.plan.base, run.values)
        except InputError as error:
            self._give_up(live, str(error))
        for part in list(live.ended)[-1:]:
            # What was said of all of them is known to the search.
            self._report_part(index, part, live.metrics[part][OBJECTIVE])
        self._conclude_if_over(index)

    def _give_up(self, live: Live, reason: str) -> None:
        """Let a trial that cannot begin, or go on, fail."""
        live.reason = live.reason or reason
        self.progress.say(f"trial {live.run.name}: fail, {reason}")
        if not self.divided:
            self._end(live.run, Result(state=FAIL, time=now_ms(), reason=reason))

    def _launch(self, index: int, earlier: Mapping[str, Value], folder: Path | None = None) -> None:
        """Begin a trial, with the values of an earlier attempt if there was one, in the folder where that goes on."""
        started = milliseconds()
        values = self.search.ask(index, self._sampler(index, earlier), started)
        seed = derive_seed(self.plan.key.seed, index)
        try:
            config = self.plan.schedule.configure(self.plan.base, values)
            params, reason = self.plan.params(config), self._obstacle(index)
        except InputError as error:
            config, params, reason = self.plan.base, dict(values), str(error)
        folder = folder or self._new_folder(self.staging, index)
        run = self._stage(folder, index, trial_name(index, values), params, started, {"seed": seed}, values)
        live = self.live[index] = Live(run=run, config=config, waiting=list(self.plan.parts))
        if reason:
            self._give_up(live, reason)
            self._conclude_if_over(index)

    def _new_folder(self, folder: Path, number: int) -> Path:
        return folder / f"{number:05d}-{uuid.uuid4().hex[:8]}"

    def _stage(
        self,
        folder: Path,
        index: int,
        name: str,
        params: Mapping[str, Any],
        started: int,
        facts: Mapping[str, Any],
        values: Mapping[str, Value],
        parent: str = "",
    ) -> StagedRun:
        """A new run, in staging and soon in the store."""
        own = {
            "mmtune.number": str(index),
            "mmtune.params": json.dumps(dict(params)),
            **({} if parent else {"mmtune.drawn": json.dumps(dict(values))}),
            **{f"mmtune.{fact}": str(value) for fact, value in facts.items()},
        }
        run = StagedRun(
            id=uuid.uuid4().hex,
            number=index,
            name=name,
            started=started,
            folder=folder,
            params=params,
            tags={**self.plan.tags, **own},
            values=values,
            parent=parent,
        )
        run.write()
        self.recorder.add(run)
        return run

    def _obstacle(self, index: int) -> str:
        """Why a trial cannot begin, "" where it can."""
        needed = self.plan.schedule.resumes(index)
        if needed is None:
            return ""
        if needed not in self.complete:
            return f"trial {needed:02d}, which it goes on from, is not complete"
        self.recorder.finish()
        for part in self.plan.parts:
            self._checkpoint(index, part)
        return ""

    def _sampler(self, index: int, earlier: Mapping[str, Value]) -> Any:
        drawn = self.plan.schedule.draw(index, self.search.attempts())
        if earlier or not drawn.sampler:
            return Given(earlier or drawn.given)
        sampler = make_sampler(drawn.sampler, derive_seed(self.plan.key.seed, index, 1))
        return Given(drawn.given, sampler) if drawn.given else sampler

    def _submit(self, index: int, part: Part) -> None:
        live, ticket = self.live[index], self._ticket(index, part)
        reason = self._obstacle(index)
        if reason:
            self._give_up(live, reason)
            self._conclude_if_over(index)
            return
        run = live.started.pop(part, None) or self._part_run(live, part)
        live.running[part] = run
        self.progress.begin(ticket, run.name, live.config.train.epochs)
        job = Job(
            number=ticket,
            config=live.config,
            seed=self._seed(index, part),
            folder=run.folder,
            split=part.fold,
            rungs=self.search.rungs,
            encoders=self.plan.encoders,
            checkpoint=self._checkpoint(index, part),
            checkpoint_every=self.plan.checkpoint_every,
            after=milliseconds(),
        )
        self.pool.submit(job)

    def _part_run(self, live: Live, part: Part, folder: Path | None = None) -> StagedRun:
        """The run of a part that begins; of a trial that has only one it is the trial's.

        folder: in which another attempt goes on.
        """
        if not self.divided:
            return live.run
        index = live.run.number
        facts = {"fold": part.fold, "repeat": part.repeat, "seed": self._seed(index, part)}
        name = f"{live.run.name} {part_name(part, self.plan.key)}"
        folder = folder or self._new_folder(live.run.folder / PARTS, self.plan.parts.index(part))
        return self._stage(folder, index, name, live.run.params, milliseconds(), facts, {}, live.run.id)

    def _seed(self, index: int, part: Part) -> int:
        if not self.divided:
            return derive_seed(self.plan.key.seed, index)
        return derive_seed(self.plan.key.seed, index, 2 + part.fold, 1 + part.repeat)

    def _ticket(self, index: int, part: Part) -> int:
        return index * len(self.plan.parts) + self.plan.parts.index(part)

    def _checkpoint(self, index: int, part: Part) -> Path | None:
        needed = self.plan.schedule.resumes(index)
        if needed is None:
            return None
        run = self.complete[(needed, part) if self.divided else needed]
        return self.tracker.artifact(run.run_id, FINAL)

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
                    # Not the trial's fault: it goes on once there is room.
                    raise unusable(event.storage)
                self._fail(event.number, event.reason, retry=event.retry)
            case Died() if self._has_ended(event.number):
                self._done(Done(number=event.number))
            case Died():
                self._fail(event.number, event.reason, retry=True)
            case _:
                pass

    def _has_ended(self, ticket: int) -> bool:
        """Whether a training has left its result, of which its worker could not tell any more."""
        index, part = self._place(ticket)
        return read_result(self.live[index].running[part].folder) is not None

    def _epoch(self, event: Epoch) -> None:
        index, part = self._place(event.number)
        if event.new:
            self.recorder.epoch(self.live[index].running[part], event.point)
        metrics, epoch = event.point.metrics, event.point.epoch
        self.progress.advance(event.number, epoch, metrics)
        if epoch in self.search.rungs:
            self.pool.answer(event.number, self.search.report(index, epoch, metrics[REPORTED]))

    def _done(self, event: Done) -> None:
        index, part = self._place(event.number)
        live = self.live[index]
        run = live.running[part]
        result = read_result(run.folder)
        if result is None:
            raise InputError(f"{run.folder} must hold what trial {run.name} has left, it was emptied by somebody")
        del live.running[part]
        live.ended[part], live.metrics[part] = run, result.metrics
        self.complete[index, part] = run
        live.hopeless |= result.state == PRUNED
        score = result.metrics[OBJECTIVE]
        if not self.divided:
            result = self._kept(live, result, score)
        self.recorder.end(run, result)
        self.progress.finish(event.number, result.state, score)
        self._report_part(index, part, score)
        self._conclude_if_over(index)

    def _kept(self, live: Live, result: Result, score: float) -> Result:
        """The result of a trial that has ended well, with its files if they are to be kept; worse ones lose theirs."""
        index = live.run.number
        self.kept[index] = [live.run, *(run for run in live.ended.values() if run is not live.run)]
        reports = {} if self.divided else self.search.attempts_at(index)[-1].reports
        self._drop(self.keeper.note(index, result.state, score, reports))
        if self.keeper.wants(index):
            return result
        if self.divided:
            self.recorder.drop(self.kept.pop(index)[1:], KEPT)
        return replace(result, files="", tags={**result.tags, REMOVED: "True"})

    def _drop(self, indices: Iterable[int]) -> None:
        for index in indices:
            self.recorder.drop(self.kept.pop(index, []), KEPT)

    def _report_part(self, index: int, part: Part, score: float) -> None:
        live = self.live[index]
        if self.search.compares_parts:
            worth_it = self.search.report(index, self.plan.parts.index(part), score)
            # With no part left to save, a trial far behind the best is as complete as any.
            live.hopeless |= not worth_it and any(other not in live.started for other in live.waiting)

    def _fail(self, ticket: int, reason: str, retry: bool) -> None:
        index, part = self._place(ticket)
        live = self.live[index]
        run = live.running.pop(part)
        live.failures[part] += 1
        earlier = (
            0 if self.divided else sum(own.state == FAIL and not own.lost for own in self.search.attempts_at(index))
        )
        again = retry and earlier + live.failures[part] < ATTEMPTS
        later = self._new_folder(run.folder.parent, int(run.folder.name.partition("-")[0]))
        if again:
            hand_on(run.folder, later)
        self._end(run, Result(state=FAIL, time=now_ms(), reason=reason, retry=retry))
        self.progress.finish(ticket, FAIL, None, reason)
        if again and self.divided:
            # In staging at once: a kill before a worker is free costs no epoch.
            live.started[part] = self._part_run(live, part, later)
            live.waiting.insert(0, part)
        else:
            live.reason = live.reason or reason
        self._conclude_if_over(index, later if again and not self.divided else None)

    def _end(self, run: StagedRun, result: Result) -> None:
        """End a run that no worker has ended; of its files only what went wrong is kept."""
        failed = run.folder / "failed"
        run.folder.mkdir(parents=True, exist_ok=True)
        if (run.folder / ERROR).exists():
            failed.mkdir(exist_ok=True)
            (run.folder / ERROR).replace(failed / ERROR)
        result = replace(result, files=failed.name)
        write_result(run.folder, result)
        self.recorder.end(run, result)

    # ---- ending a trial

    def _conclude_if_over(self, index: int, folder: Path | None = None) -> None:
        """End a trial that no part of waits or runs; another attempt goes on in `folder`, if there is one."""
        live = self.live[index]
        if live.reason:
            for run in live.started.values():
                self._end(run, Result(state=FAIL, time=now_ms(), reason=live.reason))
            live.started.clear()
        if live.hopeless or live.reason:
            begun = [part for part in live.waiting if part in live.started]
            self.progress.trials -= len(live.waiting) - len(begun)
            live.waiting = begun
        if not live.waiting and not live.running:
            self._conclude(index, folder)

    def _conclude(self, index: int, folder: Path | None) -> None:
        live = self.live.pop(index)
        state = FAIL if live.reason else PRUNED if live.hopeless else COMPLETE
        metrics = self._sum_up(live, state) if self.divided else live.metrics.get(self.plan.parts[0], {})
        score = metrics.get(OBJECTIVE)
        self.search.tell(index, state, score, retry=folder is not None)
        if state == COMPLETE and score is not None:
            self.complete[index] = live.run
            self.progress.rate(live.run.name, score)
        attempts = self.search.attempts_at(index)
        if not closed(attempts):
            # In staging at once: a kill before a worker is free costs no epoch.
            self._launch(index, last_values(attempts), folder)

    def _sum_up(self, live: Live, state: str) -> Metrics:
        """End the run of a trial whose parts have their own: with what they say together, and the best one's files."""
        if state == FAIL:
            self._end(live.run, Result(state=FAIL, time=now_ms(), reason=live.reason))
            return {}
        folder = live.run.folder
        (folder / EPOCHS).unlink(missing_ok=True)
        found = units(live.metrics, self.plan.repeats)
        metrics, best = spread(found), best_part(live.metrics)
        # What a kill has cut short is told again: the same, to the millisecond, so that it is there once.
        points = sum_of([read_epochs(live.ended[part].folder) for part in sorted(live.ended)])
        over = max(point.time for point in points)
        for step, unit in enumerate(found, start=1):
            told_of = {f"{UNIT}{name}": unit[name] for name in SUMMARISED if name in unit}
            points.append(Point(epoch=step, time=over, metrics=told_of))
        for point in points:
            append_epoch(folder, point)
            self.recorder.epoch(live.run, point)
        # The files are those of one part, and so is the seed that made its clusters.
        tags = {"mmtune.seed": str(self._seed(live.run.number, best))}
        files = str((live.ended[best].folder / FILES).relative_to(folder))
        result = Result(state=state, time=now_ms(), metrics=metrics, files=files, tags=tags)
        write_result(folder, result)
        result = self._kept(live, result, metrics[OBJECTIVE])
        self.recorder.end(live.run, result)
        self.progress.say(f"trial {live.run.name}: {state.lower()}, {told(metrics, len(found), self.plan)}")
        return metrics


def leave(recorder: Recorder, stopping: bool) -> None:
    """Bring the store all there is; what is under way there waits for the next call.

    Whoever stops a study does not wait for a store that is away: what it lacks is in staging.
    """
    if stopping:
        recorder.patience = min(recorder.patience, LAST_SECONDS)
    try:
        recorder.finish()
        recorder.pause_all([own.run for own in recorder.waiting.values() if own.result is None])
    except InputError as error:
        if not stopping:
            raise
        recorder.say(str(error))


def is_complete(run: StagedRun) -> bool:
    """Whether a run in staging has ended with a score."""
    result = run.result
    return result is not None and result.state == COMPLETE


def sum_of(parts: Sequence[Sequence[Point]]) -> list[Point]:
    """The means of each epoch over the parts that trained so long, at the time when the last one had."""
    means = mean_curves([epochs_by_metric(points) for points in parts])
    times = {epoch: max(p.time for points in parts for p in points if p.epoch == epoch) for epoch in means}
    return [Point(epoch=epoch, time=times[epoch], metrics=metrics) for epoch, metrics in means.items()]


def epochs_by_metric(points: Iterable[Point]) -> dict[str, list[tuple[int, float]]]:
    """By metric that is summed up, its (epoch, value) pairs."""
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in CURVES}
    for point in points:
        for name in CURVES:
            if name in point.metrics:
                found[name].append((point.epoch, point.metrics[name]))
    return found


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
