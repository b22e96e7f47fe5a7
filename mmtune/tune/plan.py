"""A study that is ready to run: its identity, its trials, and the rows that each training sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.fields import flatten
from mmtune.base.rules import require_choice, require_count
from mmtune.data.dataset import AUDIO_SHAPE, IMAGE_SHAPE, Dataset
from mmtune.data.protocols import Split, folds, rotated, split
from mmtune.networks.config import model_kind, sizes_for, takes_sequences
from mmtune.pool.worker import CHECKPOINT_EVERY, HUNG_AFTER
from mmtune.study import Study, StudyKey
from mmtune.study.key import DRAWN
from mmtune.study.schedule import Schedule, Tries
from mmtune.study.space import Value
from mmtune.tracking import DataInput
from mmtune.train.recipe import TrialConfig
from mmtune.tune.keep import parse_keep
from mmtune.tune.parts import Part, parts_of

POOLS = ("local", "ray")
PATIENCE = 600.0
KEEP = "best:20"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How much of a study to run, and where. None stands for the study's own number or sampler, or the machine's.

    folds: of a cross-validation of every trial, 0 for the one split of the protocol; repeats: trainings of each.
    hung_after: after so many seconds without an epoch a worker counts as hung. checkpoint_every: so many seconds of a
    training an interruption costs at most. patience: for so many seconds a store may be away. keep: of which trials the
    models and embeddings are kept, "all" or "best:N".
    pool: what trains, "local" or "ray"; ray_address: of a running cluster, None for Ray on this machine alone;
    gpus_per_trial: the share of a GPU that a trial has there, 0 for the CPU.
    """

    protocol: str = "clip_disjoint"
    seed: int = 0
    sampler: str | None = None
    trials: int | None = None
    epochs: int | None = None
    folds: int = 0
    repeats: int = 1
    workers: int | None = None
    device: str = "auto"
    hung_after: float = HUNG_AFTER
    checkpoint_every: float = CHECKPOINT_EVERY
    patience: float = PATIENCE
    keep: str = KEEP
    pool: str = "local"
    ray_address: str | None = None
    gpus_per_trial: float = 0.0
    prune: bool | None = None
    fixed: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_count("--seed", self.seed, 0)
        require_count("--repeats", self.repeats, 1, 1_000)
        if self.folds != 0 and not (isinstance(self.folds, int) and 3 <= self.folds <= 10_000):
            raise InputError(f"--folds must be 0 for one split, or a whole number from 3 to 10000, got {self.folds!r}")
        for name in ("trials", "epochs", "workers"):
            value = getattr(self, name)
            if value is not None:
                require_count(f"--{name}", value, 1, 100_000)
        for name in ("hung_after", "checkpoint_every", "patience"):
            seconds = getattr(self, name)
            if not seconds >= 0 or (name == "hung_after" and not seconds):
                raise InputError(f"--{name.replace('_', '-')} must be seconds above 0, got {seconds}")
        parse_keep(self.keep)
        require_choice("--pool", self.pool, POOLS)
        if self.pool == "local" and (self.ray_address is not None or self.gpus_per_trial):
            raise InputError("--ray-address and --gpus-per-trial are Ray's, so --pool must be ray, got local")
        given = "cuda" if self.gpus_per_trial else "cpu"
        if self.pool == "ray" and self.device not in ("auto", given):
            raise InputError(f"--device must be auto or {given} with this --gpus-per-trial, got {self.device!r}")
        if not 0 <= self.gpus_per_trial <= 1:
            raise InputError(f"--gpus-per-trial must be a share from 0 to 1, got {self.gpus_per_trial:g}")


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
