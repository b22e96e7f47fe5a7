"""A study that is ready to run: its identity, its trials, and the rows that each training sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.fields import flatten
from mmtune.data.dataset import AUDIO_SHAPE, IMAGE_SHAPE, Dataset
from mmtune.data.protocols import Split, folds, rotated, split
from mmtune.networks.config import model_kind, sizes_for, takes_sequences
from mmtune.study import Study, StudyKey
from mmtune.study.key import DRAWN
from mmtune.study.options import Options, parse_keep
from mmtune.study.schedule import Schedule, Tries
from mmtune.study.space import Value
from mmtune.tracking import DataInput
from mmtune.train.recipe import TrialConfig
from mmtune.tune.parts import Part, parts_of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study that is ready to run.

    base: the configuration that draws are put into. trials: how many. parts: of every trial; repeats: what stands for
    several trainings of a fold. encoders: by modality, the folder of a trained model, and its run. inputs: its data.
    doc: what the study's file says of it. keep: of how many best trials files are kept, None for all.
    checkpoint_every: seconds. tags: what every run of the study says of its making.
    """

    key: StudyKey
    base: TrialConfig
    schedule: Schedule
    trials: int
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
        return flatten(config) | {f"encoder.{modality}": run for modality, run in self.encoder_runs.items()}


def make_splits(dataset: Dataset, options: Options) -> tuple[Split, ...]:
    """The rows that each fold trains on, validates on and holds out; without folds the one split of the protocol."""
    if not options.folds:
        return (split(dataset.train, options.protocol, options.seed),)
    return tuple(rotated(folds(dataset.train, options.protocol, options.folds, options.seed)))


def shapes(base: TrialConfig, dataset: Dataset, fixed: Mapping[str, Value]) -> dict[str, Value]:
    """What the shapes of a data set settle, by path, beside what the user has.

    Raises InputError where the model takes pairs of pictures and clips, and the data set has sequences.
    """
    images, clips = dataset.train.images.shape[1:], dataset.train.clips.shape[1:]
    if (images, clips) == (IMAGE_SHAPE, AUDIO_SHAPE):
        return {}
    if not takes_sequences(base.model):
        kind = model_kind(base.model)
        raise InputError(f"{kind} takes pictures {IMAGE_SHAPE} and clips {AUDIO_SHAPE}, {dataset.name} has sequences")
    frames, classes = fixed.get("model.frames", images[0]), int(dataset.train.labels.max()) + 1
    sizes = sizes_for(base.model, images, clips, classes, frames)
    return {f"model.{name}": value for name, value in sizes.items() if f"model.{name}" not in fixed}


def make_key(
    study: Study, dataset: Dataset, options: Options, epochs: int, encoder_runs: Mapping[str, str]
) -> StudyKey:
    """The identity of a study; hopeless trials are stopped early where a sampler draws them, unless told otherwise."""
    sampler = options.sampler or study.sampler
    return StudyKey(
        study=study.name,
        data=dataset.name,
        digest=dataset.digest,
        protocol=options.protocol,
        seed=options.seed,
        epochs=epochs,
        sampler=sampler,
        prune=sampler in DRAWN if options.prune is None else options.prune,
        folds=options.folds,
        repeats=options.repeats,
        fixed=tuple(sorted(options.fixed.items())),
        encoders=tuple(sorted(encoder_runs.items())),
    )


def data_inputs(dataset: Dataset, key: StudyKey, modalities: Sequence[str]) -> tuple[DataInput, ...]:
    """The rows that trials train on and are validated on; all of them where each row is held out once."""
    kinds = {"image": "binary", "audio": "double", "waveform": "long"}
    columns = {name: kinds[name] for name in modalities} | {"label": "long"}
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
    """A plan from what was settled for this data, and what its encoders are."""
    key = make_key(study, dataset, options, base.train.epochs, encoder_runs)
    return Plan(
        key=key,
        base=base,
        schedule=schedule,
        trials=min(options.trials or schedule.trials, schedule.trials),
        parts=parts_of(options.folds, options.repeats),
        repeats=study.repeats,
        encoders=encoders,
        encoder_runs=encoder_runs,
        inputs=data_inputs(dataset, key, base.model.modalities),
        doc=study.doc,
        keep=parse_keep(options.keep),
        checkpoint_every=options.checkpoint_every,
        tags={**tags, "mmtune.data_digest": key.digest, "mmtune.protocol": key.protocol},
    )
