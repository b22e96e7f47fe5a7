"""A study that is ready to run: its identity, its trials, and the rows that each training sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.fields import flatten
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import Split, TooFewError, folds, rotated, split, usual_protocol
from mmtune.networks.config.ensemble import built_of
from mmtune.study import Study, StudyKey, with_fixed
from mmtune.study.definition import usual_sampler
from mmtune.study.key import DRAWN
from mmtune.study.options import Options, parse_keep
from mmtune.study.schedule import Sampled, Schedule, Tries
from mmtune.tracking import DataInput
from mmtune.train.objective import Objective, objective_of
from mmtune.train.recipe import TrialConfig
from mmtune.tune.parts import Part, parts_of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study that is ready to run.

    base: the configuration that draws are put into. trials: how many at most; is_open: whether something
    else than their number ends the study. parts: of every trial; repeats: what stands for several trainings of a fold.
    encoders: by bank, the folder of a trained model, and its run. inputs: its data.
    doc: what the study's file says of it. keep: of how many best trials files are kept, None for all.
    checkpoint_every: seconds. tags: what every run of the study says of its making.
    """

    key: StudyKey
    base: TrialConfig
    schedule: Schedule
    trials: int
    is_open: bool
    parts: tuple[Part, ...]
    repeats: str
    encoders: Mapping[str, Path]
    encoder_runs: Mapping[str, str]
    inputs: tuple[DataInput, ...]
    doc: str
    keep: int | None
    checkpoint_every: float
    tags: Mapping[str, str]

    @property
    def count(self) -> str:
        """How many trials there will be, in words."""
        return "trials" if self.is_open else f"{self.trials} trial{'s' * (self.trials > 1)}"

    @property
    def choices(self) -> tuple[str, ...]:
        """What differs between trials, by dotted path."""
        if isinstance(self.schedule, Tries):
            return tuple(dict.fromkeys(path for values in self.schedule.tries.values() for path in values))
        return tuple(choice.path for choice in self.schedule.space)

    def built_on(self) -> set[int]:
        """The trials whose last epoch another one goes on from."""
        earlier = (self.schedule.resumes(index) for index in range(self.trials))
        return {index for index in earlier if index is not None}

    def params(self, config: TrialConfig) -> dict[str, Any]:
        """Everything that a trial is made from, by dotted path."""
        # A tuple would come back from JSON as a list, which for a store is another value.
        flat = flatten(config, inner=built_of)
        plain = {path: list(own) if isinstance(own, tuple) else own for path, own in flat.items()}
        return plain | {f"encoder.{bank}": run for bank, run in self.encoder_runs.items()}


def protocol_of(options: Options, dataset: Dataset) -> str:
    """The split that was asked for, or the usual one for this data."""
    return options.protocol or usual_protocol(dataset)


def make_splits(dataset: Dataset, options: Options) -> tuple[Split, ...]:
    """The rows that each fold trains on, validates on and holds out; without folds the one split of the protocol."""
    protocol = protocol_of(options, dataset)
    try:
        if not options.folds:
            return (split(dataset.train, protocol, options.seed),)
        return tuple(rotated(folds(dataset.train, protocol, options.folds, options.seed)))
    except TooFewError as error:
        raise error.of(dataset.classes) from error


def sampler_of(study: Study, options: Options) -> str:
    """What makes the trials: what the options name, or the study's usual sampler of what they leave open."""
    return options.sampler or usual_sampler(study, with_fixed(study, options.fixed, None), options.fixed)


def make_key(
    study: Study, dataset: Dataset, options: Options, epochs: int, encoder_runs: Mapping[str, str]
) -> StudyKey:
    """The identity of a study; hopeless trials are stopped early where a sampler draws them, unless told otherwise."""
    sampler, objective = sampler_of(study, options), objective_of(study.objective)
    return StudyKey(
        study=study.name,
        data=dataset.name,
        digest=dataset.digest,
        protocol=protocol_of(options, dataset),
        seed=options.seed,
        epochs=epochs,
        sampler=sampler,
        prune=(sampler in DRAWN and not objective.several) if options.prune is None else options.prune,
        folds=options.folds,
        repeats=options.repeats,
        fixed=tuple(sorted(options.fixed.items())),
        encoders=tuple(sorted(encoder_runs.items())),
        warm=options.warm_start or "",
        objective=objective,
    )


def require_searchable(study: str, objective: Objective, sampler: str, prune: bool | None) -> None:
    """Raise InputError where trials by several metrics would have to be stopped early, or drawn by CMA-ES."""
    if objective.several and prune:
        raise InputError(
            f"--prune must be off for {study}, which searches for {objective.words}: one metric alone cannot say that "
            "a trial is hopeless"
        )
    if objective.several and sampler == "cmaes":
        raise InputError(
            f"--sampler must be tpe, random or gp for {study}, which searches for {objective.words}: cmaes takes one"
        )


def data_inputs(dataset: Dataset, key: StudyKey, reads: Sequence[str]) -> tuple[DataInput, ...]:
    """The rows that trials train on and are validated on; all of them where each row is held out once."""
    kinds = {"u": "binary", "i": "long", "f": "double"}
    columns = {name: kinds[dataset.train.banks[name].values.dtype.kind] for name in reads} | {"label": "long"}
    if key.folds:
        counts = {f"{key.folds} folds": len(dataset.train)}
    else:
        one = split(dataset.train, key.protocol, key.seed)
        counts = {"train": len(one.train), "validation": len(one.validation)}
    where = f"{key.data}, {key.protocol}, seed {key.seed}"
    return tuple(
        DataInput(
            name=f"{where}, {use}",
            digest=key.digest,
            source=str(dataset.folder.resolve()),
            rows=rows,
            use=use,
            columns=columns,
        )
        for use, rows in counts.items()
    )


def make_plan(
    study: Study,
    base: TrialConfig,
    schedule: Schedule,
    dataset: Dataset,
    options: Options,
    encoder_runs: Mapping[str, str],
    encoders: Mapping[str, Path],
    tags: Mapping[str, str],
) -> Plan:
    """A plan from what was fixed for this data, and what its encoders are."""
    key = make_key(study, dataset, options, base.train.epochs, encoder_runs)
    return Plan(
        key=key,
        base=base,
        schedule=schedule,
        trials=min(options.trials or schedule.trials, schedule.trials),
        is_open=options.is_open and isinstance(schedule, Sampled) and bool(schedule.space),
        parts=parts_of(options.folds, options.repeats),
        repeats=study.repeats,
        encoders=encoders,
        encoder_runs=encoder_runs,
        inputs=data_inputs(dataset, key, base.model.reads),
        doc=study.doc,
        keep=parse_keep(options.keep),
        checkpoint_every=options.checkpoint_every,
        tags={**tags, "mmtune.data_digest": key.digest, "mmtune.protocol": key.protocol},
    )
