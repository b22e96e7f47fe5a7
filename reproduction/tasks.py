"""What is to be run: each report's own configuration under every protocol and seed, and at what length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.data.dataset import SPEAKER, Dataset
from mmtune.data.protocols import PROTOCOLS
from mmtune.study import Study, load_study, parse_fixed, with_fixed
from mmtune.study.finding import shipped_names
from mmtune.study.options import Options
from mmtune.tune.machine import default_workers, require_threads
from mmtune.tune.plan import make_splits
from mmtune.tune.trying import require_network

# What `Study.reduced` counts for: 80 % of the reports' 60,000 pairs.
PAIRS = 60_000
GPU_TASKS = 2
# XFlow, section 3.2: the best of five runs in each fold; ten persons at most.
BEST_OF, LEAST_FOLDS, MOST_FOLDS = 5, 3, 10


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to make again, and where. epochs: None for the usual budget; device: as torch has it.

    full: whether everything has its report's length on a CPU too. threads: of a worker on a CPU.

    data: the data set's folder as the user gave it, None for the bundled sample.
    """

    seeds: tuple[int, ...]
    epochs: int | None
    workers: int | None
    device: str
    data: Path | None
    store: Path
    results: Path
    full: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "workers"):
            if getattr(self, name) is not None:
                require_count(f"--{name}", getattr(self, name), 1, 100_000)
        require_threads(self.threads, self.device)
        if self.full and self.epochs is not None:
            raise InputError(
                f"--full and --epochs both say how long trainings are, give one; got --epochs {self.epochs}"
            )

    @property
    def reduced(self) -> bool:
        """Whether long studies get fewer epochs than their reports'."""
        return self.device == "cpu" and self.epochs is None and not self.full

    @property
    def slots(self) -> int:
        """How many workers train at once."""
        return self.workers or (default_workers(self.device, self.threads) if self.device == "cpu" else GPU_TASKS)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One call of `mmtune study`. epochs: None for the report's own; fixed: choices fixed, as NAME=VALUE."""

    study: str
    protocol: str
    seed: int = 0
    epochs: int | None = None
    folds: int = 0
    repeats: int = 1
    fixed: tuple[str, ...] = ()

    def command(self, data: Path | None = None) -> list[str]:
        """The words of that call, as a user would type them."""
        words = ["mmtune", "study", self.study, "--sampler", "reported"]
        words += ["--protocol", self.protocol, "--seed", str(self.seed)]
        words += [] if self.epochs is None else ["--epochs", str(self.epochs)]
        words += ["--folds", str(self.folds)] if self.folds else []
        words += ["--repeats", str(self.repeats)] if self.repeats > 1 else []
        words += [word for text in self.fixed for word in ("--fix", text)]
        return words + ([] if data is None else ["--data", str(data)])

    @property
    def title(self) -> str:
        """The task in a few words."""
        folds = [f"{self.folds} folds"] if self.folds else []
        return ", ".join([self.study, self.protocol, f"seed {self.seed}", *folds])

    @property
    def line(self) -> tuple[str, str, int]:
        """Which lines of the table it belongs to."""
        return self.study, self.protocol, self.folds

    @property
    def parts(self) -> int:
        """How many trainings it is made of."""
        return max(self.folds, 1) * self.repeats

    def options(self, study: Study) -> Options:
        """The same as options of a study that is run in this process."""
        return Options(
            protocol=self.protocol,
            seed=self.seed,
            sampler="reported",
            epochs=self.epochs,
            folds=self.folds,
            repeats=self.repeats,
            fixed=parse_fixed(list(self.fixed), study.base),
        )


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from text such as "0 1 2"; InputError unless each is a whole number from 0."""
    words = text.replace(",", " ").split()
    if not words or not all(word.isascii() and word.isdigit() for word in words):
        raise InputError(f"--seeds must be whole numbers from 0, such as '0 1', got {text!r}")
    return tuple(dict.fromkeys(int(word) for word in words))


def paper_names() -> list[str]:
    """The shipped studies that make a paper's trials again, sorted."""
    return [name for name in shipped_names() if load_study(name).paper]


def with_needed(names: Iterable[str]) -> dict[str, Study]:
    """The studies of these names, each after those whose models it starts from, which need not be named."""
    found: dict[str, Study] = {}
    for name in names:
        study = load_study(name)
        found |= {**with_needed(study.encoders.values()), name: study} if name not in found else {}
    return found


def tasks_of(
    studies: Mapping[str, Study], dataset: Dataset, seeds: Sequence[int], epochs: int | None, reduced: bool
) -> list[Task]:
    """Every task of these studies. epochs: of every training, None for the report's own, or fewer where `reduced`.

    Where speakers are not known, there is no `speaker_disjoint`. Where enough of them are, large models are also
    cross-validated as their report does it: persons are held out, and the best of several runs counts.
    """
    known = dataset.train.known(SPEAKER)
    plain = [
        Task(
            study=study.name,
            protocol=protocol,
            seed=seed,
            epochs=length(study, dataset, epochs, reduced),
            fixed=adapted(study, dataset),
        )
        for seed in seeds
        for protocol in PROTOCOLS
        for study in studies.values()
        if known or protocol != "speaker_disjoint"
    ]
    short = reduced and epochs is None
    folds = min(len(np.unique(dataset.train.groups[SPEAKER])), MOST_FOLDS) if known else 0
    crossed = [
        replace(task, folds=folds, repeats=1 if short or is_shorter(task, studies[task.study]) else BEST_OF)
        for task in plain
        if folds >= LEAST_FOLDS and task.protocol == "speaker_disjoint" and studies[task.study].repeats == "best"
    ]
    return plain + crossed


def length(study: Study, dataset: Dataset, epochs: int | None, reduced: bool) -> int | None:
    """The epochs to ask for: those given, or of the reduced budget; None where they are the report's own."""
    own = study.base.train.epochs
    fewer = min(own, -(-study.reduced * PAIRS // len(dataset.train))) if reduced else own
    asked = fewer if epochs is None else epochs
    return None if asked == own else asked


def is_shorter(task: Task, study: Study) -> bool:
    """Whether a task has fewer epochs than its report's."""
    return task.epochs is not None and task.epochs < study.base.train.epochs


def adapted(study: Study, dataset: Dataset) -> tuple[str, ...]:
    """What has to be fixed for this data: a network that hears waveforms reads features where there are no others."""
    deaf = "waveform" in study.base.model.reads and "waveform" not in dataset.train.banks
    return ("view=mfcc",) if deaf else ()


def obstacle(task: Task, study: Study, dataset: Dataset) -> str:
    """Why a task cannot run on this data, "" where it can."""
    try:
        options = task.options(study)
        model = with_fixed(study, options.fixed, options.epochs).model
        require_network(model, dataset)
        make_splits(dataset, options)
    except InputError as error:
        return str(error)
    return ""


def needs(task: Task, tasks: Iterable[Task], study: Study) -> list[Task]:
    """The tasks whose models this one starts from."""
    wanted = set(study.encoders.values())
    return [t for t in tasks if t.study in wanted and (t.protocol, t.seed, t.folds) == (task.protocol, task.seed, 0)]


def epochs_in_all(task: Task, study: Study) -> int:
    """The epochs of all trainings of a task together."""
    return (task.epochs or study.base.train.epochs) * task.parts
