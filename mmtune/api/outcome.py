"""What came of a study, to look at, to report and to promote from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.study import Study, StudyKey
from mmtune.study.key import ENSEMBLE
from mmtune.tracking import COMPLETE, FAIL, PRUNED, REASON, MlflowTracker, StudyRun, TrialRun
from mmtune.tracking.runs import drawn_values
from mmtune.train.objective import Objective, objective_of

if TYPE_CHECKING:
    import pandas as pd

    from mmtune.serve.promotion import Promotion
    from mmtune.tune.run import Outcome as Ended


@dataclass(frozen=True, kw_only=True, repr=False)
class Trial:
    """A trial as it was tracked.

    number: from 0; state: COMPLETE, PRUNED, FAIL, RUNNING or INTERRUPTED; scores: what its study searches for, such as
    `best_val_macro_f1`; values: what was drawn for it, by path; params: everything that it was made from, by path;
    metrics: the last value of each; run_id: MLflow's; reason: why it failed, "" elsewhere.
    """

    number: int
    state: str
    scores: Mapping[str, float]
    values: Mapping[str, Any]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    run_id: str
    reason: str

    @classmethod
    def of(cls, run: TrialRun, objective: Objective) -> Self:
        """The trial of a run."""
        return cls(
            number=run.number,
            state=run.state,
            scores={name: run.metrics[name] for name in objective.names if name in run.metrics},
            values=drawn_values(run),
            params=run.params,
            metrics=run.metrics,
            run_id=run.run_id,
            reason=run.tags.get(REASON, "") if run.state == FAIL else "",
        )

    def __repr__(self) -> str:
        scores = [f"{name} {value:.4f}" for name, value in self.scores.items()]
        drawn = [f"{path}={value}" for path, value in self.values.items()]
        return f"Trial({', '.join([str(self.number), self.state.lower(), *scores, *drawn])})"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Outcome:
    """A study as it stands after a call of `mmtune.run`.

    key: what makes it the same study; planned: how many trials it has; finished: whether none is left to do; ended:
    what of `hours`, `until` and `patience` ended it before, "" if none did; failed: how many never will be; best: the
    best complete one by the study's objective, None where none is; front: of an objective of several metrics the trials
    that no other one dominates, the best by the first metric first.
    study, data, store: what was run, on what, and where it is kept, whatever folder the process goes to meanwhile.
    """

    key: StudyKey
    planned: int
    finished: bool
    ended: str
    failed: int
    best: Trial | None
    front: tuple[Trial, ...]
    study: Study
    data: Dataset
    store: Path
    tracker: MlflowTracker

    @classmethod
    def of(cls, ended: Ended, study: Study, data: Dataset, store: Path) -> Self:
        """What a call of `run_study` has come to."""
        objective = ended.key.objective
        return cls(
            key=ended.key,
            planned=ended.trials,
            finished=ended.finished,
            ended=ended.ended,
            failed=ended.failed,
            best=None if ended.best is None else Trial.of(ended.best, objective),
            front=tuple(Trial.of(run, objective) for run in ended.front),
            study=study,
            data=data,
            store=store,
            tracker=MlflowTracker(store),
        )

    def trials(self) -> pd.DataFrame:
        """A row for each trial, by number, as it is tracked now; of several attempts the last, or the one that worked.

        Columns: state; what was drawn, by path; every metric, the objective's first; all other params, by path; run_id;
        reason.
        """
        import pandas as pd

        found = sorted(self.tracker.trials(self._run().run_id), key=lambda run: run.state in (COMPLETE, PRUNED))
        last = [Trial.of(run, self.key.objective) for _, run in sorted({run.number: run for run in found}.items())]
        drawn = dict.fromkeys(path for trial in last for path in trial.values)
        metrics = dict.fromkeys([*self.key.objective.names, *sorted({name for own in last for name in own.metrics})])
        params = dict.fromkeys(path for trial in last for path in trial.params if path not in drawn)
        rows = [{**vars(trial), **trial.params, **trial.values, **trial.metrics} for trial in last]
        columns = ["state", *drawn, *metrics, *params, "run_id", "reason"]
        return pd.DataFrame(rows, columns=["number", *columns]).set_index("number")

    def report(self, out: str | Path | None = None) -> Path:
        """Write one HTML page on the study, beside other runs of it, and return where: `store`/reports if not told.

        Raises InputError where no trial is complete.
        """
        from mmtune.report.page import write_report

        run = self._run()
        others = [own for own in self.tracker.studies(self.key.study) if own.run_id != run.run_id]
        return write_report(
            self.tracker, run, self.study, others, None if out is None else Path(out).resolve(), self.data
        )

    def ensemble(self) -> Outcome:
        """What the best trials make together, or the folds of the best one, as an outcome of its own to promote.

        Rows that did not train them choose; the test partition is not looked at. Raises InputError where no trial is
        complete whose model is kept.
        """
        from mmtune.best.together import together
        from mmtune.data.dataset import quiet

        made, runs = together(self.tracker, self.study, self._run(), self.data, quiet)
        best = Trial.of(max(runs, key=lambda run: made.key.objective.rank(run.metrics)), made.key.objective)
        return replace(self, key=made.key, planned=len(runs), finished=True, ended="", failed=0, best=best, front=())

    def promote(self, trial: int | None = None, *, force: bool = False) -> Promotion:
        """Score the best trial on the test partition, register it, and make it champion unless it is worse.

        trial: another one by its number. force: make it champion although it is worse. Raises InputError where it is
        not complete, there is no test partition, or the study was cross-validated: the model of one fold has seen fewer
        rows (`ensemble` makes one of all).
        """
        from mmtune.data.dataset import quiet
        from mmtune.report.publish import renew
        from mmtune.serve.promotion import promote

        if self.key.divided:
            hint = ": ensemble() makes one model of them" if self.key.joinable else ""
            raise InputError(f"{self.key.slug} must have one split to be promoted, it has {self.key.folds} folds{hint}")
        if trial is None and self.key.sampler == ENSEMBLE and self.best is not None:
            # What other trials have made stands in the same study.
            trial = self.best.number
        run = self._run()
        made = promote(self.tracker, run, self.data, force, trial, objective_of(self.study.objective))
        renew(self.tracker, run, self.study, self.data, quiet)
        return made

    def _run(self) -> StudyRun:
        """The study's run as it is now."""
        found = self.tracker.study(self.key)
        if found is None:
            raise InputError(f"{self.key.slug} must be in {self.tracker.name}, its run was deleted")
        return found

    def __repr__(self) -> str:
        how = self.ended or ("finished" if self.finished else "not finished")
        failed = f", {self.failed} failed" if self.failed else ""
        return f"Outcome({self.key.slug}: {self.planned} trials, {how}{failed}, best {self.best})"
