"""What every side of a search is asked for, and where it leaves what it has done."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.base.fields import flatten, replace_paths
from mmtune.study import Study, load_study, parse_fixed, with_fixed
from mmtune.study.space import Choice, Space, Value, draw, pin
from mmtune.train.recipe import TrialConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    import optuna

PROTOCOL = "clip_disjoint"
SCORE = "val_macro_f1"
COMPLETE, PRUNED, FAIL, RUNNING = "COMPLETE", "PRUNED", "FAIL", "RUNNING"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A search: `trials` of a study with choices fixed, for `epochs` at most, on the data set in a folder.

    seed: decides the split, as it does for mmtune, the draws and every trial's weights. root: the side's own folder.
    """

    study: str
    fix: tuple[str, ...]
    data: str
    root: str
    trials: int
    epochs: int
    seed: int

    @classmethod
    def read(cls, text: str) -> Asked:
        """The inverse of `to_json`."""
        told = json.loads(text)
        return cls(**{**told, "fix": tuple(told["fix"])})

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def folder(self) -> Path:
        return Path(self.root)

    @property
    def tracking_uri(self) -> str:
        """The MLflow store of a rival."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @cached_property
    def made(self) -> Study:
        return load_study(self.study)

    @cached_property
    def fixed(self) -> dict[str, Value]:
        """The fixed choices by path."""
        return parse_fixed(list(self.fix), self.made.base)

    @cached_property
    def base(self) -> TrialConfig:
        """What draws are put into."""
        return with_fixed(self.made, self.fixed, self.epochs)

    @cached_property
    def space(self) -> Space:
        """What is drawn."""
        return pin(self.made.space, self.fixed)

    def values(self, pick: Callable[[Choice], Value]) -> dict[str, Value]:
        """By path, what `pick` says of the choices that apply."""
        return draw(self.space, flatten(self.base), pick)

    def suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        """By path, what an Optuna trial draws."""
        return self.values(lambda choice: choice.suggest(trial))

    def config(self, values: Mapping[str, Value]) -> TrialConfig:
        """The configuration of a draw."""
        made: TrialConfig = replace_paths(self.base, values)
        return made


def leave(asked: Asked, states: Mapping[str, str]) -> None:
    """Say at a side's end how the tool itself has each trial in its own storage."""
    (asked.folder / "states.json").write_text(json.dumps(dict(states)))


def left(folder: Path) -> dict[str, str]:
    """By trial, the state that a tool has it in."""
    states: dict[str, str] = json.loads((folder / "states.json").read_text())
    return states


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def flat(config: TrialConfig) -> dict[str, Any]:
    """A configuration's fields by path, as they are logged."""
    return dict(flatten(config))
