"""The runs of trials and of their parts in staging, as they begin, and as they end without a worker.

The recorder hears of each at once.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from mmtune.base.clock import milliseconds
from mmtune.base.fields import short_names
from mmtune.study.space import Value
from mmtune.tracking import Recorder
from mmtune.train.staging import ERROR, PARTS, Result, StagedRun, write_result
from mmtune.tune.parts import Part, part_name
from mmtune.tune.plan import Plan
from mmtune.tune.search import derive_seed

LONGEST_NAME = 120
"""Letters of what was drawn for a trial that its name has."""


class StagedRuns:
    """Makes the runs of a plan. staging: the study's own folder there."""

    def __init__(self, plan: Plan, recorder: Recorder, staging: Path) -> None:
        self.plan, self.recorder, self.staging = plan, recorder, staging
        self.divided = len(plan.parts) > 1

    def trial(
        self,
        index: int,
        values: Mapping[str, Value],
        params: Mapping[str, Any],
        started: int,
        folder: Path | None = None,
    ) -> StagedRun:
        """The run of a trial that begins, in the folder of an earlier attempt where it goes on."""
        facts = {"drawn": json.dumps(values), "seed": derive_seed(self.plan.key.seed, self.plan.schedule.place(index))}
        run = StagedRun(
            id=uuid.uuid4().hex,
            number=index,
            name=trial_name(index, values),
            started=started,
            folder=folder or new_folder(self.staging, index),
            params=params,
            tags=self._tags(index, params, facts),
            values=values,
        )
        return self._stage(run)

    def part(self, trial: StagedRun, part: Part, folder: Path | None = None) -> StagedRun:
        """The run of a part that begins; of a trial that has only one it is the trial's.

        folder: in which another attempt goes on.
        """
        if not self.divided:
            return trial
        facts = {"fold": part.fold, "repeat": part.repeat, "seed": self.seed(trial.number, part)}
        run = StagedRun(
            id=uuid.uuid4().hex,
            number=trial.number,
            name=f"{trial.name} {part_name(part, self.plan.key)}",
            started=milliseconds(),
            folder=folder or new_folder(trial.folder / PARTS, self.plan.parts.index(part)),
            params=trial.params,
            tags=self._tags(trial.number, trial.params, facts),
            parent=trial.id,
        )
        return self._stage(run)

    def seed(self, index: int, part: Part) -> int:
        """Of a part's training."""
        place = self.plan.schedule.place(index)
        if not self.divided:
            return derive_seed(self.plan.key.seed, place)
        return derive_seed(self.plan.key.seed, place, 2 + part.fold, 1 + part.repeat)

    def end(self, run: StagedRun, result: Result) -> None:
        """End a run that no worker has ended; of its files only what went wrong is kept."""
        failed = run.folder / "failed"
        run.folder.mkdir(parents=True, exist_ok=True)
        if (run.folder / ERROR).exists():
            failed.mkdir(exist_ok=True)
            (run.folder / ERROR).replace(failed / ERROR)
        result = replace(result, files=failed.name)
        write_result(run.folder, result)
        self.recorder.end(run, result)

    def _tags(self, index: int, params: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
        told = {"number": index, "params": json.dumps(dict(params)), **facts}
        return {**self.plan.tags, **{f"mmtune.{fact}": str(value) for fact, value in told.items()}}

    def _stage(self, run: StagedRun) -> StagedRun:
        run.write()
        self.recorder.add(run)
        return run


def new_folder(folder: Path, number: int) -> Path:
    """A folder in staging that is not there yet."""
    return folder / f"{number:05d}-{uuid.uuid4().hex[:8]}"


def trial_name(index: int, values: Mapping[str, Value]) -> str:
    """A trial in a few words: its number and what was drawn for it, as much of it as a line is read for."""
    names = short_names(list(values))
    shown = {path: f"{value:.4g}" if isinstance(value, float) else str(value) for path, value in values.items()}
    words = [f"{index:02d}", *(f"{names[path]}={value}" for path, value in shown.items())]
    kept = [word for word, so_far in zip(words, accumulate(map(len, words)), strict=True) if so_far <= LONGEST_NAME]
    return " ".join(kept if len(kept) == len(words) else [*kept, f"and {len(words) - len(kept)} more"])
