"""What a study is: a search as data, and the trials it comes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mmtune.base.errors import InputError
from mmtune.base.fields import flatten, replace_path, replace_paths
from mmtune.base.rules import require_choice, require_count
from mmtune.networks.config.ensemble import every_bank
from mmtune.study.checks import (
    require_condition,
    require_contract,
    require_drawable,
    require_kind,
    require_name,
    require_parts,
    require_plain,
)
from mmtune.study.key import RANDOM
from mmtune.study.schedule import TRY, Enumerated, Phase, Phased, Sampled, Schedule, Tries, enumerated
from mmtune.study.space import Space, Value, as_drawn, distinct, grid, pin, point_at
from mmtune.train.objective import Metric, objective_of
from mmtune.train.recipe import TrialConfig

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A search as data: one that a report made, or anybody's own.

    Only name, base and space are needed for a study of one's own.

    reported: the report's own number by metric ("accuracy", "macro_f1"), as a share; of the configuration in `base`.
    base: the configuration that a trial's draws are put into; its epochs are the report's budget.
    space: what any sampler may vary; trials: how many trials such a sampler makes unless told otherwise.
    objective: what is searched for: a metric by its name (`mmtune.train.objective.KNOWN`), a Metric of one's own, or
      several. The first picks the best epoch and the best trial; several have a front of trials (Pareto).
    What the report itself tried is one of three, and the study's usual sampler:
      grid: the values that it combined, by path, the rest staying at the base;
      tries: configurations that it lists by name; going_on: by name, the try whose last epoch a try goes on from;
        seeds_from: the number that the first try's seed follows from, so that what a search had is trained otherwise;
      phases: searches one after the other, each around the best trial so far.
    encoders: by bank, the study whose best tracked model this study starts from.
    baseline: the study that this one is compared with.
    repeats: what stands for several trainings of a fold, their "mean" or the "best" by validation.
    reduced: epochs of the reduced budget on 48,000 training rows, for where the report's would take too long.
    missing: banks in which a row may have no value; its network then gets zeros.
    published: accuracies of others that the report compares itself with, as shares; published_source: where.
    """

    name: str
    base: TrialConfig
    space: Space
    paper: str = ""
    title: str = ""
    reported: Mapping[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    grid: Mapping[str, tuple[Value, ...]] | None = None
    tries: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    going_on: Mapping[str, str] = field(default_factory=dict)
    seeds_from: int = 0
    phases: tuple[Phase, ...] = ()
    trials: int = 30
    objective: str | Metric | tuple[str | Metric, ...] = "macro_f1"
    encoders: Mapping[str, str] = field(default_factory=dict)
    baseline: str = ""
    repeats: str = "mean"
    reduced: int = 5
    published: Mapping[str, float] = field(default_factory=dict)
    published_source: str = ""
    doc: str = ""

    def __post_init__(self) -> None:
        require_name(self.name)
        require_parts(self)
        require_contract(self.name, self.base.model)
        known, space = flatten(self.base), {choice.path: choice for choice in self.space}
        for path, plain in known.items():
            require_plain(self.name, path, plain)
            if "kind" in path.split("."):
                rule = f"study {self.name}: {path} must have another name than kind"
                raise InputError(f"{rule}, which a model's card calls the class of each of its parts")
        named = [*space, *(path for values in self.tries.values() for path in values), *(self.grid or {})]
        for path in named:
            if path not in known:
                raise InputError(f"study {self.name}: the space names {path}, which its configuration has not")
        if len(space) < len(self.space):
            twice = next(path for path in space if [choice.path for choice in self.space].count(path) > 1)
            raise InputError(f"study {self.name}: the space must name a choice once, it names {twice} twice")
        for choice in self.space:
            require_drawable(self.name, choice, self.base)
            require_condition(self.name, choice, space, known)
        for listed in (self.grid or {}, *(phase.varied for phase in self.phases)):
            for path, values in listed.items():
                if path not in space:
                    raise InputError(f"study {self.name}: {path} is varied, so it must be in the space")
                for value in values:
                    if not space[path].admits(value):
                        raise InputError(f"study {self.name}: {path} must be in {space[path]}, got {value!r}")
        names = list(self.tries)
        for later, earlier in self.going_on.items():
            if later not in names or earlier not in names[: names.index(later)]:
                raise InputError(f"study {self.name}: {later} must go on from a try before it, got {earlier!r}")
        if isinstance(self.missing, str) or not set(self.missing) <= set(every_bank(self.base.model)):
            own = " and ".join(every_bank(self.base.model))
            raise InputError(f"study {self.name}: missing must be a tuple of banks of {own}, got {self.missing!r}")
        try:
            objective_of(self.objective)
        except InputError as error:
            raise InputError(f"study {self.name}: {error}") from error
        require_choice(f"study {self.name}: repeats", self.repeats, ("mean", "best"))
        require_count(f"study {self.name}: reduced", self.reduced)
        require_count(f"study {self.name}: trials", self.trials)

    @property
    def sampler(self) -> str:
        """The usual sampler, where nothing is fixed."""
        return usual_sampler(self, self.base, {})

    @property
    def epochs(self) -> tuple[int, int]:
        """The least and the most epochs of a trial that the report made."""
        own = [int(values["train.epochs"]) for values in self.tries.values() if "train.epochs" in values]
        return min(own, default=self.base.train.epochs), max(own, default=self.base.train.epochs)


def usual_sampler(study: Study, base: TrialConfig, fixed: Mapping[str, Value]) -> str:
    """What makes the trials that the report made; each combination once where few are left by what is fixed in base."""
    if study.tries or study.phases:
        return "tries" if study.tries else "phases"
    if study.grid is not None:
        return "grid"
    return "grid" if distinct(pin(study.space, fixed), flatten(base)) <= study.trials else "tpe"


def with_fixed(study: Study, fixed: Mapping[str, Value], epochs: int | None) -> TrialConfig:
    """The base configuration with the choices that the user fixed, and another budget if one is given."""
    known = flatten(study.base)
    for path, value in fixed.items():
        if path not in known:
            raise InputError(f"study {study.name} has no choice {path}; it has {', '.join(known)}")
        require_kind(study.name, path, value, known[path])
    base: TrialConfig = replace_paths(study.base, fixed)
    return base if epochs is None else replace_path(base, "train.epochs", epochs)


def schedule(
    study: Study,
    sampler: str,
    base: TrialConfig,
    fixed: Mapping[str, Value],
    trials: int | None = None,
    epochs: int | None = None,
) -> Schedule:
    """The trials that `sampler` makes of a study around `base`; "reported" is the base alone.

    trials: how many a sampler draws; the study's own number if not given, or one where there is nothing to draw. Raises
    InputError where the study has no such trials.
    """
    space = pin(study.space, fixed)
    match sampler:
        case "reported":
            made: Schedule = Enumerated(space=(), points=({},))
        case "grid":
            if study.grid is not None:
                made = enumerated({path: values for path, values in study.grid.items() if path not in fixed})
            else:
                listed = study.tries or study.phases
                made = Enumerated(space=space, points=() if listed else tuple(grid(space, flatten(base))))
        case "tries":
            own = fixed if epochs is None else {**fixed, "train.epochs": epochs}
            tries = {name: {**values, **own} for name, values in study.tries.items()}
            made = Tries(tries=tries, going_on=study.going_on, seeds_from=study.seeds_from)
            require_resumable(made, study.name, base)
        case "phases":
            phases = tuple(phase.without(fixed) for phase in study.phases)
            metric = objective_of(study.objective).first
            made = Phased(space=space, phases=phases, base=flatten(base), metric=metric)
        case _:
            # What somebody has thought of is a good place for a sampler to learn from.
            start = point_at(space, flatten(base)) if sampler != RANDOM else {}
            count = trials or (study.trials if space else 1)
            made = Sampled(space=space, trials=count, sampler=sampler, first=(start,) if start else ())
    if made.trials == 0:
        raise InputError(f"study {study.name} has no trials with --sampler {sampler}; choose another sampler")
    return made


def require_resumable(tries: Tries, study: str, base: TrialConfig) -> None:
    """Raise InputError where a try goes on from another that does not keep its last epoch, or steps differently."""
    for later, earlier in tries.going_on.items():
        own, before = (tries.configure(base, {TRY: name}).train for name in (later, earlier))
        if not before.keep_final:
            raise InputError(f"study {study}: {later} goes on from {earlier}, so keep_final must be True, got False")
        if own.optimizer != before.optimizer:
            rule = f"{later} goes on from {earlier}, so its optimizer must be {before.optimizer}"
            raise InputError(f"study {study}: {rule}, got {own.optimizer}")


def parse_fixed(texts: list[str], base: TrialConfig, space: Space = ()) -> dict[str, Value]:
    """`path=value` texts as typed values; a path's last part is enough for the only field of it, or the only choice."""
    flat = flatten(base)
    words = [(text.partition("="), text) for text in texts]
    raw = by_path([(name if equals else "", own, text) for (name, equals, own), text in words], flat, space)
    return {path: parse_value(path, own, type(flat[path])) for path, own in raw.items()}


def paths_fixed(given: Mapping[str, Value], base: TrialConfig, space: Space = ()) -> dict[str, Value]:
    """Values by path of what is given by path, or by a path's last part as `parse_fixed` takes it."""
    flat = flatten(base)
    fixed = by_path([(name, as_drawn(value), f"{name}={value}") for name, value in given.items()], flat, space)
    # A whole number is the same study from the command line, which reads it as its field's type.
    return {path: float(own) if type(own) is int and type(flat[path]) is float else own for path, own in fixed.items()}


def by_path(choices: Iterable[tuple[str, T, str]], flat: Mapping[str, Any], space: Space) -> dict[str, T]:
    """What each choice is fixed at, from its name, that, and what was given as a text; InputError for one twice."""
    fixed: dict[str, T] = {}
    for name, value, text in choices:
        path = path_of(name, flat, text, space)
        if path in fixed:
            raise InputError(f"--fix must be given once for {path}, got another by {text!r}")
        fixed[path] = value
    return fixed


def path_of(name: str, flat: Mapping[str, Any], text: str, space: Space) -> str:
    """The path of a choice by its name; InputError, quoting what was given as a text, where it is none or several."""
    paths = [path for path in flat if path == name or path.rpartition(".")[2] == name]
    exact = [path for path in paths if path == name] or paths
    varied = {choice.path for choice in space}.intersection(exact)
    exact = list(varied) if len(varied) == 1 else exact
    if len(exact) != 1:
        known = exact or [path for path in flat if path != "train.epochs"]
        raise InputError(f"--fix takes NAME=VALUE with one of {', '.join(known)}, got {text!r}")
    if exact[0] == "train.epochs":
        raise InputError(f"--fix is for what is searched, the budget is --epochs; got {text!r}")
    return exact[0]


def parse_value(path: str, raw: str, kind: type[Any]) -> Value:
    """A text as a value of `kind`."""
    if kind is bool:
        require_choice(path, raw, ("True", "False"))
        return raw == "True"
    if kind not in (str, int, float):
        raise InputError(f"--fix takes a text, a number or a truth value, {path} is of type {kind.__name__}")
    try:
        return kind(raw)
    except ValueError as error:
        raise InputError(f"{path} must be of type {kind.__name__}, got {raw!r}") from error
