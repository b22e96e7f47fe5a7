"""The study that `mmtune best` searches, as a file like any other: made for a data set's banks, and yours to change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmtune.base.files import make_folder, write_whole
from mmtune.data.banks import banks_of, lacks
from mmtune.data.dataset import Dataset
from mmtune.data.forms import Form, Speech, dtype_of
from mmtune.networks.shapes import as_read
from mmtune.study.finding import HERE, study_files

LONGEST_NAME = 50
SKEWED = 3


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is tried for banks of a kind.

    encoders: by name, the first the base, the encoder and the space of the catalogue that belongs to it. augment: how
    its values are changed, as an expression; changes: what of that is searched, another space of the catalogue.
    """

    what: str
    encoders: Mapping[str, tuple[str, str]]
    augment: str
    changes: str


PICTURE = Kind(
    what="pictures",
    encoders={
        "resnet": ("SmallResNet()", "SMALL_RESNET"),
        "cnn": ("SmallCNN()", "SMALL_CNN"),
        "transformer": ("SmallTransformer()", "SMALL_TRANSFORMER"),
    },
    augment="PictureAugmentation(shift=0.1, rotate=10.0, scale=0.1)",
    changes="PICTURE_AUGMENTATION",
)
SPEECH = Kind(
    what="words",
    encoders={
        "log_mel": ("LogMelResNet(test_speed=0.08)", "LOG_MEL_RESNET"),
        "spectrogram": ("SpectrogramCNN()", "SPECTROGRAM_CNN"),
        "conv1d": ("Conv1dEncoder(stride=4)", "CONV1D"),
    },
    augment="SpeechAugmentation(speed=0.25, shift=0.05, tilt=6.0, room=0.4, noise=0.8)",
    changes="SPEECH_AUGMENTATION",
)
WAVEFORM = Kind(
    what="waveforms",
    encoders={**SPEECH.encoders, "log_mel": ("LogMelResNet()", "LOG_MEL_RESNET")},
    augment="SoundAugmentation(shift=0.1, gain=6.0, noise=0.1)",
    changes="WAVEFORM_AUGMENTATION",
)
FEATURES = Kind(
    what="features over time",
    encoders={
        "recurrent": ("Recurrent()", "RECURRENT"),
        "conv1d": ("Conv1dEncoder()", "CONV1D"),
        "transformer": ("SmallTransformer()", "SMALL_TRANSFORMER"),
    },
    augment="SoundAugmentation(shift=0.1, noise=0.1, time_mask=0.1)",
    changes="FEATURE_AUGMENTATION",
)
NUMBERS = Kind(
    what="numbers",
    encoders={"mlp": ("MLP()", "PERCEPTRON")},
    augment="VectorAugmentation(noise=0.05)",
    changes="VECTOR_AUGMENTATION",
)
OTHER = Kind(what="arrays", encoders={"mlp": ("MLP()", "PERCEPTRON")}, augment="", changes="")
FUSIONS = {
    "sum": ("Sum()", ""),
    "concatenation": ("Concatenation()", ""),
    "gated": ("Gated()", "GATED"),
    "attention": ("CrossAttention()", "CROSS_ATTENTION"),
    "low_rank": ("LowRank()", "LOW_RANK"),
}


def kind_of(form: Form) -> Kind:
    """What is tried for a bank of this form."""
    if isinstance(form, Speech):
        return SPEECH
    kind = dtype_of(form)
    axes = len(as_read(form.shape, kind))
    if axes == 1:
        return WAVEFORM if kind == np.int16 else NUMBERS
    if axes == 2:
        return FEATURES
    return PICTURE if axes == 3 else OTHER


def name_of(dataset: Dataset) -> str:
    """The study's name: best_ and the data set's, with the beginning of its digest where that is not plain."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", dataset.name).strip("_")[:LONGEST_NAME]
    return (
        f"best_{plain}"
        if plain.replace("_", "") == re.sub(r"[-_ .]", "", dataset.name)
        else (f"best_{plain}_{dataset.digest[:6]}".replace("__", "_"))
    )


def find_or_write(dataset: Dataset, folder: Path | None) -> tuple[Path, bool]:
    """The study's file, and whether it was written now: into `folder`, or `studies`, where there is none."""
    name = name_of(dataset)
    there = study_files().get(name, [])
    path = (folder or HERE) / f"{name}.py"
    if path.exists() or there:
        return (path if path.exists() else there[0]), False
    make_folder(path.parent)
    write_whole(path, text_of(name, dataset).encode())
    return path, True


def text_of(name: str, dataset: Dataset) -> str:
    """A study's file for the banks of a data set."""
    kinds = {bank: kind_of(dataset.forms[bank]) for bank in banks_of(dataset)}
    fusions = FUSIONS if len(kinds) > 1 else {"concatenation": FUSIONS["concatenation"]}
    encoders = "".join(
        f'                "{bank}": {chosen(kind.encoders, " " * 16)},\n' for bank, kind in kinds.items()
    )
    fusion = chosen(fusions, " " * 12) if len(kinds) > 1 else "Concatenation()"
    augment = "".join(f'                "{bank}": {kind.augment},\n' for bank, kind in kinds.items() if kind.augment)
    several = "            modality_dropout=0.3,\n            outliers=0.1,\n" if len(kinds) > 1 else ""
    spaces = [f'one_of("model.encoders.{bank}", {spaces_of(kind.encoders)})' for bank, kind in kinds.items()]
    spaces += [f'one_of("model.fusion", {spaces_of(fusions)})'] if len(kinds) > 1 else []
    spaces += [f'under("train.augment.{bank}", {kind.changes})' for bank, kind in kinds.items() if kind.changes]
    recipes = ["RECIPE", *(["MODALITY_DROPOUT"] if several else []), *(["CLASS_WEIGHTS"] if is_skewed(dataset) else [])]
    spaces += [f'under("train", {own})' for own in recipes]
    tried = [*(own for kind in kinds.values() for own in kind.encoders.values()), *fusions.values()]
    names = sorted({made.partition("(")[0] for made, _ in tried})
    augments = sorted({kind.augment.partition("(")[0] for kind in kinds.values() if kind.augment})
    catalogue = sorted(
        {space for _, space in tried if space} | {kind.changes for kind in kinds.values() if kind.changes} | {*recipes}
    )
    lacking = tuple(bank for bank in kinds if lacks(dataset, bank))
    reads = ", ".join(f"{kind.what} ({bank})" for bank, kind in kinds.items())
    return TEMPLATE.format(
        name=name,
        data=re.sub(r'["\\\\]', "'", dataset.name),
        reads=reads,
        missing=f"    missing={lacking!r},\n" if lacking else "",
        networks=wrapped(sorted([*names, "LateFusion", "OneOf"])),
        catalogue=wrapped(catalogue),
        augmentations=f"from mmtune.train.augmentations import {', '.join(augments)}\n" if augments else "",
        encoders=encoders,
        fusion=fusion,
        several=several,
        augment=f"            augment={{\n{augment}            }},\n" if augment else "",
        space="\n    + ".join(spaces),
    )


def is_skewed(dataset: Dataset) -> bool:
    """Whether a class has so few training rows beside another that weighing classes is worth a try."""
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    return bool(counts.max() > SKEWED * counts.min())


def chosen(options: Mapping[str, tuple[str, str]], indent: str) -> str:
    """A OneOf of options, the first of which is the base, as an expression over several lines."""
    lines = "".join(f'{indent}        "{name}": {made},\n' for name, (made, _) in options.items())
    inner = f'{indent}    chosen="{next(iter(options))}",\n{indent}    options={{\n{lines}{indent}    }},\n'
    return f"OneOf(\n{inner}{indent})"


def spaces_of(options: Mapping[str, tuple[str, str]]) -> str:
    """By option its space of the catalogue, as an expression."""
    return "{" + ", ".join(f'"{name}": {space or "()"}' for name, (_, space) in options.items()) + "}"


def wrapped(names: Sequence[str]) -> str:
    """Names to import, a line each."""
    return "".join(f"    {name},\n" for name in names)


TEMPLATE = '''"""{name}: the best network for {data} in its time; written by `mmtune best`, and yours to change.

It reads {reads}. What is chosen among: encoders, fusions, augmentation, recipe.

Command: mmtune best --data ... --hours 1
"""

from mmtune.networks import (
{networks})
from mmtune.study import Study, one_of, under
from mmtune.study.catalogue import (
{catalogue})
{augmentations}from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="{name}",
    title="The best network for {data}",
    base=TrialConfig(
        model=LateFusion(
            encoders={{
{encoders}            }},
            fusion={fusion},
        ),
        train=Train(
            weights="last",
            batch_size=128,
            optimizer="adamw",
            learning_rate=0.003,
            schedule="one-cycle",
            warmup=0.2,
            weight_decay=0.01,
            label_smoothing=0.1,
            ema=0.99,
{several}{augment}        ),
    ),
    space={space},
{missing}    doc=__doc__,
)
'''
