"""The trials of a study on their way from a draw to their end, in staging, in the search and soon in the store.

Whatever ends is in staging first, with its result; so a kill at any moment repeats nothing that had ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from optuna.samplers import BaseSampler

from mmtune.base.clock import CLOCK, milliseconds
from mmtune.base.errors import InputError
from mmtune.base.progress import Progress
from mmtune.networks.card import FINAL
from mmtune.pool.worker import Job
from mmtune.study.space import Value
from mmtune.tracking import COMPLETE, FAIL, PARENT, PRUNED, REMOVED, MlflowTracker, Recorder
from mmtune.tracking.recorder import Tracked
from mmtune.train.recipe import TrialConfig
from mmtune.train.staging import (
    EPOCHS,
    FILES,
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
from mmtune.tune.budget import Budget
from mmtune.tune.keep import Keeper
from mmtune.tune.parts import (
    Metrics,
    Part,
    best_part,
    part_of,
    result_of,
    spread,
    summed_points,
    units,
)
from mmtune.tune.plan import Plan
from mmtune.tune.resume import StagedTrial, Standing
from mmtune.tune.search import ATTEMPTS, Given, Search, closed, last_values, make_samplers
from mmtune.tune.staged import StagedRuns, new_folder


@dataclass(kw_only=True)
class Live:
    """A trial under way: its run, and its parts that wait, run (by their run) and are done.

    A trial of one part has one run for both. started: parts that wait and have a run already, which are brought to an
    end whatever becomes of the trial. known: the last epoch of a part that the recorder has. lost: the last one on
    record when its worker was last taken away. reason: why it has failed. hopeless: whether it is far behind the
    best.
    """

    run: StagedRun
    config: TrialConfig
    waiting: list[Part]
    running: dict[Part, StagedRun] = field(default_factory=dict)
    ended: dict[Part, StagedRun] = field(default_factory=dict)
    metrics: dict[Part, Metrics] = field(default_factory=dict)
    failures: Counter[Part] = field(default_factory=Counter)
    started: dict[Part, StagedRun] = field(default_factory=dict)
    known: dict[Part, int] = field(default_factory=dict)
    lost: dict[Part, int] = field(default_factory=dict)
    reason: str = ""
    hopeless: bool = False


class Trials:
    """The trials of a plan. A training of one is known by a number of its own, its ticket.

    open: by index, the trials that are yet to begin, with the values of an earlier attempt. standing: how the study
    stood, of which the search and the recorder know. staging: the study's own folder there.
    """

    def __init__(
        self,
        plan: Plan,
        search: Search,
        tracker: MlflowTracker,
        recorder: Recorder,
        progress: Progress,
        budget: Budget,
        staging: Path,
        standing: Standing,
    ) -> None:
        self.plan, self.search, self.tracker, self.recorder = plan, search, tracker, recorder
        self.progress, self.budget = progress, budget
        self.runs = StagedRuns(plan, recorder, staging)
        self.divided, self.objective = self.runs.divided, plan.key.objective
        self.live: dict[int, Live] = {}
        self.open = search.open_indices(plan.trials)
        self.built_on = frozenset(plan.built_on())
        # Of those, by trial, and by trial and part, the run whose last epoch another trial goes on from.
        self.complete: dict[int | tuple[int, Part], Tracked] = {}
        self.keeper = Keeper(plan.keep, recorder, self.built_on, self.objective)
        self.keeper.rebuild(search.attempts(), self._take_in(standing))
        for trial in standing.under_way(plan.trials):
            self._go_on(trial, standing.states)

    def _take_in(self, standing: Standing) -> dict[int, list[Tracked]]:
        """Note which trials are complete, in the store or in staging alone; gives the runs of all that have files."""
        kept: dict[int, list[Tracked]] = {}
        owners: dict[str, int] = {}
        for run in standing.ended:
            if run.state in (COMPLETE, PRUNED) and REMOVED not in run.tags:
                owners[run.run_id], kept[run.number] = run.number, [run]
            if run.state == COMPLETE:
                self._note_complete(run.number, run)
        for part in standing.parts:
            owner = owners.get(part.tags.get(PARENT, ""))
            if owner is not None:
                kept[owner].append(part)
                if part.state == COMPLETE:
                    self._note_complete(owner, part, part_of(part.tags))
        for trial in standing.staged:
            result, index = trial.run.result, trial.run.number
            if result is None or result.state == FAIL:
                continue
            kept[index] = list(trial.runs)
            if result.state == COMPLETE:
                self._note_complete(index, trial.run)
                for own in trial.parts:
                    if own.result and own.result.state == COMPLETE:
                        self._note_complete(index, own, part_of(own.tags))
        return kept

    def _note_complete(self, index: int, run: Tracked, part: Part | None = None) -> None:
        """A trial, or a part of one, is complete; those that none goes on from are forgotten, as there may be many."""
        if index in self.built_on:
            self.complete[index if part is None else (index, part)] = run

    # ---- what begins

    def begin(self, submit: Callable[[Job], None]) -> bool:
        """Submit the training that comes next, or begin the trial that does; whether there was any that may."""
        if self.budget.over():
            return False
        ready = (index for index, live in self.live.items() if live.waiting and not self._blocked(index))
        waiting = min(ready, default=None)
        if waiting is not None:
            self._submit(waiting, self.live[waiting].waiting.pop(0), submit)
            return True
        index = next((index for index in self.open if not self._blocked(index)), None)
        if index is None:
            return False
        if not self.budget.admits(self.progress.forecast.soonest(len(self.plan.parts))):
            self.open.clear()
            return False
        self._launch(index, self.open.pop(index))
        return True

    def _blocked(self, index: int) -> bool:
        return any(needed in self.open or needed in self.live for needed in self.plan.schedule.needs(index))

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
                self._note_complete(index, own, part)
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
            self._report_part(index, part, live.metrics[part][self.objective.name])
        self._conclude_if_over(index)

    def _launch(self, index: int, earlier: Mapping[str, Value], folder: Path | None = None) -> None:
        """Begin a trial, with the values of an earlier attempt if there was one, in the folder where that goes on."""
        started = milliseconds()
        values = self.search.ask(index, self._samplers(index, earlier), started)
        reason = self._obstacle(index)
        try:
            config = self.plan.schedule.configure(self.plan.base, values)
            params = self.plan.params(config)
        except InputError as error:
            config, params, reason = self.plan.base, dict(values), str(error)
        run = self.runs.trial(index, values, params, started, folder)
        live = self.live[index] = Live(run=run, config=config, waiting=list(self.plan.parts))
        if reason:
            self._give_up(live, reason)
            self._conclude_if_over(index)

    def _samplers(self, index: int, earlier: Mapping[str, Value]) -> Iterable[BaseSampler]:
        drawn = self.plan.schedule.draw(index, self.search.attempts())
        if earlier or not drawn.sampler:
            return [Given(earlier or drawn.given)]
        samplers = make_samplers(drawn.sampler, self.plan.key.seed, index)
        return [Given(drawn.given, next(samplers))] if drawn.given else samplers

    def _obstacle(self, index: int) -> str:
        """Why a trial cannot begin, "" where it can."""
        needed = self.plan.schedule.resumes(index)
        if needed is None:
            return ""
        if needed not in self.complete:
            return f"trial {needed:02d}, which it goes on from, is not complete"
        self.recorder.finish()
        try:
            for part in self.plan.parts:
                self._checkpoint(index, part)
        except InputError as error:
            return str(error)
        return ""

    def _checkpoint(self, index: int, part: Part) -> Path | None:
        needed = self.plan.schedule.resumes(index)
        if needed is None:
            return None
        return self.tracker.artifact(self.complete[(needed, part) if self.divided else needed].run_id, FINAL)

    def _submit(self, index: int, part: Part, submit: Callable[[Job], None]) -> None:
        live, ticket = self.live[index], index * len(self.plan.parts) + self.plan.parts.index(part)
        reason = self._obstacle(index)
        if reason:
            self._give_up(live, reason)
            self._conclude_if_over(index)
            return
        run = live.started.pop(part, None) or self.runs.part(live.run, part)
        live.running[part] = run
        live.known.setdefault(part, last_epoch(read_epochs(run.folder)))
        self.progress.begin(ticket, run.name, live.config.train.epochs)
        job = Job(
            number=ticket,
            config=live.config,
            seed=self.runs.seed(index, part),
            folder=run.folder,
            split=part.fold,
            rungs=self.search.rungs,
            encoders=self.plan.encoders,
            checkpoint=self._checkpoint(index, part),
            checkpoint_every=self.plan.checkpoint_every,
            after=milliseconds(),
        )
        submit(job)

    # ---- what comes of a training

    def _place(self, ticket: int) -> tuple[int, Part, Live]:
        index, place = divmod(ticket, len(self.plan.parts))
        return index, self.plan.parts[place], self.live[index]

    def has_ended(self, ticket: int) -> bool:
        """Whether a training has left its result, of which its worker could not tell any more."""
        _, part, live = self._place(ticket)
        return read_result(live.running[part].folder) is not None

    def advance(self, ticket: int, point: Point, new: bool) -> bool | None:
        """Take note of an epoch, new or on record from before; whether to go on, None where nobody asks."""
        index, part, live = self._place(ticket)
        # A worker's clock may be another machine's, or have jumped since.
        CLOCK.show_milliseconds(point.time)
        if new:
            self.recorder.epoch(live.running[part], point)
            live.known[part] = point.epoch
        score = point.metrics[self.objective.first.curve]
        self.progress.advance(ticket, point.epoch, score, new)
        if point.epoch not in self.search.rungs:
            return None
        return self.search.report(index, point.epoch, score)

    def done(self, ticket: int) -> None:
        """A training has left all there is in its folder."""
        index, part, live = self._place(ticket)
        run = live.running[part]
        result = read_result(run.folder)
        if result is None:
            raise InputError(f"{run.folder} must hold what trial {run.name} has left, it was emptied by somebody")
        del live.running[part]
        live.ended[part], live.metrics[part] = run, result.metrics
        self._note_complete(index, run, part)
        live.hopeless |= result.state == PRUNED
        score = result.metrics[self.objective.name]
        self.recorder.end(run, result if self.divided else self._kept(live, result))
        self.progress.finish(ticket, result.state, self.objective.show(self.objective.values(result.metrics)))
        self._report_part(index, part, score)
        self._conclude_if_over(index)

    def _kept(self, live: Live, result: Result) -> Result:
        """The result of a trial that has ended well, with its files if they are to be kept."""
        index = live.run.number
        reports = {} if self.divided else self.search.attempts_at(index)[-1].reports
        runs = [live.run, *(run for run in live.ended.values() if run is not live.run)]
        if self.keeper.keeps(index, result.state, self.objective.values(result.metrics), reports, runs):
            return result
        return replace(result, files="", tags={**result.tags, REMOVED: "True"})

    def _report_part(self, index: int, part: Part, score: float) -> None:
        live = self.live[index]
        if self.search.compares_parts:
            worth_it = self.search.report(index, self.plan.parts.index(part), score)
            # With no part left to save, a trial far behind the best is as complete as any.
            live.hopeless |= not worth_it and any(other not in live.started for other in live.waiting)

    def fail(self, ticket: int, reason: str, retry: bool) -> None:
        """A training has come to nothing; retry: whether another attempt makes sense."""
        index, part, live = self._place(ticket)
        run = live.running.pop(part)
        live.failures[part] += 1
        before = [] if self.divided else self.search.attempts_at(index)
        again = retry and sum(own.state == FAIL and not own.lost for own in before) + live.failures[part] < ATTEMPTS
        later = new_folder(run.folder.parent, int(run.folder.name.partition("-")[0]))
        if again:
            hand_on(run.folder, later)
        self.runs.end(run, Result(state=FAIL, time=now_ms(), reason=reason, retry=retry))
        self.progress.finish(ticket, FAIL, reason)
        if again and self.divided:
            # In staging at once: a kill before a worker is free costs no epoch.
            live.started[part] = self.runs.part(live.run, part, later)
            live.waiting.insert(0, part)
        else:
            live.reason = live.reason or reason
        self._conclude_if_over(index, later if again and not self.divided else None)

    def lose(self, ticket: int, reason: str) -> None:
        """A training has lost its worker through no fault of its own: it waits for another one, in the same run.

        Where it has made no epoch since that happened before, it fails: it may need longer than a worker ever has.
        """
        index, part, live = self._place(ticket)
        run = live.running[part]
        points = read_epochs(run.folder)
        last = last_epoch(points)
        if last <= live.lost.get(part, -1):
            self.fail(ticket, f"{reason}, as before, and no epoch was done between", retry=True)
            return
        # A worker may end between writing an epoch and telling it, and the next one tells it as one of before.
        for point in points:
            if point.epoch > live.known[part]:
                self.recorder.epoch(run, point)
        live.known[part] = live.lost[part] = last
        del live.running[part]
        if self.divided:
            live.started[part] = run
        live.waiting.insert(0, part)
        self.progress.put_back(ticket, reason)
        self._conclude_if_over(index)

    def _give_up(self, live: Live, reason: str) -> None:
        """Let a trial that cannot begin, or go on, fail."""
        live.reason = live.reason or reason
        self.progress.say(f"trial {live.run.name}: fail, {reason}")
        if not self.divided:
            self.runs.end(live.run, Result(state=FAIL, time=now_ms(), reason=reason))

    # ---- what comes of a trial

    def _conclude_if_over(self, index: int, folder: Path | None = None) -> None:
        """End a trial that no part of waits or runs; another attempt goes on in `folder`, if there is one."""
        live = self.live[index]
        if live.reason:
            for run in live.started.values():
                self.runs.end(run, Result(state=FAIL, time=now_ms(), reason=live.reason))
            live.started.clear()
        if live.hopeless or live.reason:
            begun = [part for part in live.waiting if part in live.started]
            self.progress.drop(len(live.waiting) - len(begun))
            live.waiting = begun
        if not live.waiting and not live.running:
            self._conclude(index, folder)

    def _conclude(self, index: int, folder: Path | None) -> None:
        live = self.live.pop(index)
        state = FAIL if live.reason else PRUNED if live.hopeless else COMPLETE
        metrics = self._sum_up(live, state) if self.divided else live.metrics.get(self.plan.parts[0], {})
        scores = self.objective.values(metrics)
        self.search.tell(index, state, *scores, retry=folder is not None)
        if state != FAIL or closed(self.search.attempts_at(index)):
            self.budget.note(index, scores if state == COMPLETE else (), failed=state == FAIL)
        if state == COMPLETE and scores:
            self._note_complete(index, live.run)
            self.progress.rate(live.run.name, scores[0])
        attempts = self.search.attempts_at(index)
        if not closed(attempts):
            # In staging at once: a kill before a worker is free costs no epoch.
            self._launch(index, last_values(attempts), folder)

    def _sum_up(self, live: Live, state: str) -> Metrics:
        """End the run of a trial whose parts have their own: with what they say together, and the best one's files."""
        if state == FAIL:
            self.runs.end(live.run, Result(state=FAIL, time=now_ms(), reason=live.reason))
            return {}
        folder = live.run.folder
        (folder / EPOCHS).unlink(missing_ok=True)
        found = units(live.metrics, self.plan.repeats, self.objective)
        metrics, best = spread(found, self.objective), best_part(live.metrics, self.objective)
        for point in summed_points([live.ended[part] for part in sorted(live.ended)], found, self.objective):
            append_epoch(folder, point)
            self.recorder.epoch(live.run, point)
        # The files are those of one part, and so is the seed that made its clusters.
        of_best = live.ended[best].result
        tags = {**(of_best.tags if of_best else {}), "mmtune.seed": str(self.runs.seed(live.run.number, best))}
        files = str((live.ended[best].folder / FILES).relative_to(folder))
        result = Result(state=state, time=now_ms(), metrics=metrics, files=files, tags=tags)
        write_result(folder, result)
        self.recorder.end(live.run, self._kept(live, result))
        told = result_of(metrics, len(found), self.plan.key.repeats, self.plan.repeats == "best", self.objective)
        self.progress.say(f"trial {live.run.name}: {state.lower()}, {told}")
        return metrics


def last_epoch(points: Sequence[Point]) -> int:
    """The last epoch on record, 0 for none."""
    return max((point.epoch for point in points), default=0)
