"""What makes a study the same study."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.rules import require_choice, require_count
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import require_protocol
from mmtune.networks.config.ensemble import MOST_MEMBERS
from mmtune.train.objective import MACRO_F1, Objective

AUTO = "auto"
"""Of a warm start: from earlier runs of the same study."""
RANDOM = "random"
DRAWN = ("tpe", RANDOM, "gp", "cmaes")
ENSEMBLE = "ensemble"
"""How the networks came about that are made of trained ones; nothing that draws is called so."""
SAMPLERS = ("grid", "tries", "phases", "reported", *DRAWN)
LONGEST_SLUG = 180


@dataclass(frozen=True, kw_only=True)
class StudyKey:
    """What makes two trials comparable; two studies with the same key are one study, resumed.

    data: the data set's name, digest: of its content. prune: whether hopeless trials are stopped early.
    folds: of the cross-validation of every trial, 0 for the one split of the protocol. repeats: how often each fold,
        or the split, is trained on, every time with another seed.
    fixed: choices fixed by the user, as (path, value). encoders: the runs it starts from, as (bank, run id).
    warm: the study whose best trials it begins with, "auto" for earlier runs of its own, "" for none.
    objective: what it searches for; whoever ranks its trials asks this.
    """

    study: str
    data: str
    digest: str
    protocol: str
    seed: int
    epochs: int
    sampler: str
    prune: bool = False
    folds: int = 0
    repeats: int = 1
    fixed: tuple[tuple[str, Any], ...] = ()
    encoders: tuple[tuple[str, str], ...] = ()
    warm: str = ""
    objective: Objective = MACRO_F1

    def __post_init__(self) -> None:
        require_protocol(self.protocol)
        require_choice("sampler", self.sampler, (*SAMPLERS, ENSEMBLE))
        require_count("seed", self.seed, 0)
        require_count("epochs", self.epochs, 1, 100_000)
        require_count("folds", self.folds, 0, 10_000)
        require_count("repeats", self.repeats, 1, 10_000)

    @property
    def division(self) -> tuple[str, ...]:
        """Into what parts every trial is divided, in words; nothing for a single training."""
        folds = (f"{self.folds} folds",) if self.folds else ()
        return folds + ((f"{self.repeats} repeats",) if self.repeats > 1 else ())

    @property
    def trainings(self) -> int:
        """How many trainings a trial takes."""
        return max(self.folds, 1) * self.repeats

    @property
    def divided(self) -> bool:
        """Whether each of its networks is one of a fold, which has seen fewer rows than others train on."""
        return self.folds > 0 and not self.of_all_folds

    @property
    def joinable(self) -> bool:
        """Whether the networks of a trial's folds may answer together."""
        return self.divided and self.trainings <= MOST_MEMBERS

    @property
    def of_all_folds(self) -> bool:
        """Whether its networks are those of a cross-validation together: every training row has trained some of one."""
        return self.sampler == ENSEMBLE and self.folds > 0

    @property
    def searched(self) -> tuple[str, ...]:
        """What it searches for, in words; nothing for what a study does that says nothing of it."""
        return () if self.objective.is_usual else (f"by {self.objective.words}",)

    @property
    def beside(self) -> tuple[str, ...]:
        """Whatever else is not as usual, in words."""
        warm = (f"warm start {self.warm}",) if self.warm else ()
        return (*warm, *self.searched, *self.division)

    def require_data(self, dataset: Dataset, rule: str) -> None:
        """InputError, a sentence that `rule` begins, unless a data set is what the study was run on."""
        if dataset.digest != self.digest:
            known = f"{self.data} has digest {self.digest}, {dataset.name} has {dataset.digest}"
            raise InputError(f"{rule} its own data: {known}")

    @property
    def title(self) -> str:
        """What sets this study apart from others of its name, in words."""
        facts = [self.data, self.protocol, f"seed {self.seed}", f"{self.epochs} epochs", self.sampler]
        fixed = [f"{path}={value}" for path, value in self.fixed]
        return ", ".join([*facts, *self.beside, *fixed])

    @property
    def slug(self) -> str:
        """A readable name that is safe in a path: study.data-digest.protocol.seed.epochs.sampler."""
        data = f"{self.data}-{self.digest[:8]}"
        parts = [self.study, data, self.protocol, f"seed{self.seed}", f"epochs{self.epochs}"]
        searched = [] if self.objective.is_usual else [f"by-{self.objective.slug}"]
        division = [words.replace(" ", "-") for words in self.division]
        warm = [f"warm-{self.warm}"] if self.warm else []
        how = [self.sampler + ("-pruned" if self.prune else ""), *warm, *searched, *division]
        fixed = [f"{path}={value}" for path, value in self.fixed]
        started = [f"{bank}-{run_id[:8]}" for bank, run_id in self.encoders]
        text = re.sub(r"[^A-Za-z0-9_.=-]", "_", ".".join([*parts, *how, *fixed, *started]))
        # Names of files end at 255 bytes, suffixes included.
        if len(text) <= LONGEST_SLUG:
            return text
        return f"{text[:LONGEST_SLUG]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
