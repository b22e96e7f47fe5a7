"""How much of a study to run, and where: every option of `mmtune study` once, with its default and what it means."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, TypedDict, TypeVar, get_args, get_type_hints

from mmtune.base.errors import InputError
from mmtune.base.rules import require_choice, require_count
from mmtune.data.protocols import PROTOCOLS, require_protocol
from mmtune.study.key import SAMPLERS
from mmtune.study.space import Value

POOLS = ("local", "ray", "slurm")
HUNG_AFTER, CHECKPOINT_EVERY, STORE_PATIENCE = 1800.0, 5.0, 600.0
KEEP = "best:20"
SECONDS = "train.seconds"
MOST_TRIALS, MOST_HOURS, MOST_THREADS = 100_000, 10_000.0, 1_000
Function = TypeVar("Function", bound=Callable[..., Any])


def option(default: object, meaning: str) -> Any:
    """A field that the command line offers."""
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may be said of a run of a study. None stands for the study's own number or sampler, or the machine's."""

    trials: int | None = option(None, "How many trials; the study's number, or its whole grid, if not given.")
    epochs: int | None = option(None, "Epochs of a trial; the study's if not given.")
    hours: float | None = option(None, "End after so many hours; what is under way then waits for the next call.")
    until: str | None = option(None, "End as soon as a trial is as good as this, such as val_macro_f1=.99")
    patience: int | None = option(
        None, "End after so many trials since the best one, none of them better by the first metric."
    )
    trial_minutes: float | None = option(None, "Begin no epoch of a training after so many minutes of it.")
    sampler: str | None = option(None, " | ".join(SAMPLERS) + "; the study's own if not given.")
    warm_start: str | None = option(None, "Begin with the best trials of this study, or of another: auto | NAME")
    protocol: str | None = option(None, "The split: " + " | ".join(PROTOCOLS) + " | random | disjoint:GROUP")
    seed: int = option(0, "Decides the split, every trial's weights, and what samplers draw.")
    folds: int = option(0, "Cross-validate every trial on so many folds; 0 for one split.")
    repeats: int = option(1, "Train every trial, or fold, so often, each with another seed.")
    workers: int | None = option(None, "Trials at once; one a core if not given, 8 on a GPU.")
    device: str = option("auto", "auto | cpu | cuda | cuda:N")
    threads: int = option(1, "Threads of a trial on a CPU; more where trials are fewer than cores.")
    pool: str = option("local", "What trains: " + " | ".join(POOLS) + " (see docs/cluster.md).")
    ray_address: str | None = option(None, "A running cluster; auto for this node's.")
    gpus_per_trial: float = option(0.0, "A trial's share of a GPU with --pool ray or slurm; 0 for CPUs.")
    slurm: str | None = option(None, "What sbatch is told of jobs: 'partition=gpu account=ml time=4:00:00'.")
    prune: bool | None = option(None, "Stop hopeless trials early; on for samplers that draw, but for several metrics.")
    keep: str = option(KEEP, "Of which trials models and embeddings are kept: best:N | all")
    checkpoint_every: float = option(
        CHECKPOINT_EVERY, "Seconds of a training that an interruption costs; more where a checkpoint takes long."
    )
    hung_after: float = option(HUNG_AFTER, "Seconds without an epoch after which a worker is replaced.")
    store_patience: float = option(STORE_PATIENCE, "Seconds for which the store may be away.")
    fixed: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for own, hint in offered():
            require_type(own.name, getattr(self, own.name), hint)
        if self.protocol is not None:
            require_protocol(self.protocol)
        if self.sampler is not None:
            require_choice("--sampler", self.sampler, SAMPLERS)
        if self.warm_start is not None and not self.warm_start.isidentifier():
            raise InputError(f"--warm-start must be the name of a study, or auto, got {self.warm_start!r:.80}")
        require_count("--seed", self.seed, 0)
        require_count("--repeats", self.repeats, 1, 1_000)
        require_count("--threads", self.threads, 1, MOST_THREADS)
        if self.folds != 0 and not (isinstance(self.folds, int) and 3 <= self.folds <= 10_000):
            raise InputError(f"--folds must be 0 for one split, or a whole number from 3 to 10000, got {self.folds!r}")
        for name in ("trials", "epochs", "workers", "patience"):
            value = getattr(self, name)
            if value is not None:
                require_count(f"--{name}", value, 1, MOST_TRIALS)
        for name, most in (("hours", MOST_HOURS), ("trial_minutes", 60 * MOST_HOURS)):
            value = getattr(self, name)
            if value is not None and not 0 < value <= most:
                raise InputError(f"--{name.replace('_', '-')} must be above 0 and at most {most:g}, got {value}")
        if self.until is not None:
            parse_until(self.until)
        for name in ("hung_after", "checkpoint_every", "store_patience"):
            seconds = getattr(self, name)
            if not seconds >= 0 or (name == "hung_after" and not seconds):
                least = "above 0" if name == "hung_after" else "from 0"
                raise InputError(f"--{name.replace('_', '-')} must be seconds {least}, got {seconds}")
        parse_keep(self.keep)
        require_choice("--pool", self.pool, POOLS)
        if self.pool != "ray" and self.ray_address is not None:
            raise InputError(f"--ray-address is Ray's, so --pool must be ray, got {self.pool}")
        if self.pool != "slurm" and self.slurm is not None:
            raise InputError(f"--slurm is SLURM's, so --pool must be slurm, got {self.pool}")
        if self.pool != "local" and self.threads > 1:
            raise InputError(f"--threads is of this machine's workers, so --pool must be local, got {self.pool}")
        if self.pool == "local" and self.gpus_per_trial:
            raise InputError("--gpus-per-trial is a cluster's, so --pool must be ray or slurm, got local")
        given = "cuda" if self.gpus_per_trial else "cpu"
        if self.pool != "local" and self.device not in ("auto", given):
            raise InputError(f"--device must be auto or {given} with this --gpus-per-trial, got {self.device!r}")
        if not 0 <= self.gpus_per_trial <= 1:
            raise InputError(f"--gpus-per-trial must be a share from 0 to 1, got {self.gpus_per_trial:g}")

    @property
    def is_open(self) -> bool:
        """Whether something else than a number of trials ends the study."""
        return self.trials is None and not (self.hours is None and self.until is None and self.patience is None)

    def with_seconds(self) -> Options:
        """The same, with `trial_minutes` as what it fixes; InputError where that is fixed otherwise too."""
        if self.trial_minutes is None:
            return self
        if SECONDS in self.fixed:
            raise InputError(f"--trial-minutes fixes {SECONDS}, which --fix must then leave alone")
        # As somebody would write it: it is in the names of files.
        seconds = float(f"{60 * self.trial_minutes:.9g}")
        return replace(self, trial_minutes=None, fixed={**self.fixed, SECONDS: seconds})


def offered() -> list[tuple[Field[Any], Any]]:
    """What a command and a call take: every option, and its type."""
    types = get_type_hints(Options)
    return [(own, types[own.name]) for own in fields(Options) if own.metadata]


def with_options(function: Function, annotate: Callable[[Field[Any], Any], Any] = lambda own, kind: kind) -> Function:
    """The function with every option, and its default, in its signature, instead of the last parameter that takes them.

    annotate: an option's annotation, of the option and its type.
    """
    signature = inspect.signature(function, eval_str=True)
    *own, _ = signature.parameters.values()
    told = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=annotate(one, kind))
        for one, kind in offered()
    ]
    function.__signature__ = signature.replace(parameters=[*own, *told])  # type: ignore[attr-defined]
    return function


def require_type(name: str, value: object, hint: Any) -> None:
    """Raise InputError unless the value of an option, which may come from Python, is of its type; as a number an int
    is a float too, and a truth value none of both."""
    kinds = get_args(hint) or (hint,)
    accepted = tuple(kinds) + ((int,) if float in kinds else ())
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in kinds):
        words = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in kinds)
        raise InputError(f"--{name.replace('_', '-')} must be of type {words}, got {value!r:.80}")


class Chosen(TypedDict, total=False):
    """The same options, for a call that names some of them; what they mean and their defaults say Options."""

    trials: int | None
    epochs: int | None
    hours: float | None
    until: str | None
    patience: int | None
    trial_minutes: float | None
    sampler: str | None
    warm_start: str | None
    protocol: str | None
    seed: int
    folds: int
    repeats: int
    workers: int | None
    device: str
    threads: int
    pool: str
    ray_address: str | None
    gpus_per_trial: float
    slurm: str | None
    prune: bool | None
    keep: str
    checkpoint_every: float
    hung_after: float
    store_patience: float


def parse_keep(text: str) -> int | None:
    """How many trials `--keep` says, None for all; InputError where it says neither."""
    if text == "all":
        return None
    known = re.fullmatch(r"best:([1-9]\d{0,5})", text)
    if not known:
        raise InputError(f"--keep must be all or best:N with N from 1 to 999999, got {text!r}")
    return int(known[1])


def parse_until(text: str) -> tuple[str, float]:
    """The name of a metric and the value that `--until` asks of it; InputError where it says none."""
    name, equals, raw = text.partition("=")
    try:
        value = float(raw)
    except ValueError:
        value = math.nan
    if not (name and equals and math.isfinite(value)):
        raise InputError(f"--until must be METRIC=NUMBER, such as val_macro_f1=.99, got {text!r:.80}")
    return name, value
