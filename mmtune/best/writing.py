"""The study that `mmtune best` searches, as a file like any other: made for a data set's banks, and yours to change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.base.files import make_folder
from mmtune.data.dataset import Dataset
from mmtune.data.forms import Form, Sound, Speech, dtype_of
from mmtune.networks.shapes import as_read
from mmtune.study.finding import HERE, study_files

SOUNDS = ("speech", "waveform", "logmel", "mfcc")
"""Of banks that are made of the same recordings one is read, the first of these kinds."""


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


def banks_of(dataset: Dataset) -> list[str]:
    """The banks that are read: all, but of those that are made of the same recordings one."""
    found: list[str] = []
    sounds = {name: form for name, form in dataset.forms.items() if isinstance(form, Sound)}
    ranked = sorted(sounds, key=lambda name: SOUNDS.index(sounds[name].kind))
    heard: list[str] = []
    for name in ranked:
        own = dataset.train.banks[name].index
        if not any(same_rows(own, dataset.train.banks[other].index) for other in heard):
            heard.append(name)
    found = [name for name in dataset.forms if name not in sounds or name in heard]
    return found


def same_rows(one: Any, other: Any) -> bool:
    """Whether two banks have a value in the same rows, and of as many recordings."""
    alike = np.array_equal(one >= 0, other >= 0)
    return bool(alike and abs(int(one.max()) - int(other.max())) <= 0.02 * max(1, int(one.max())))


def name_of(dataset: Dataset) -> str:
    """The study's name: best_ and the data set's."""
    return f"best_{re.sub(r'[^A-Za-z0-9]+', '_', dataset.name).strip('_')}"[:80]


def find_or_write(dataset: Dataset, folder: Path | None) -> tuple[Path, bool]:
    """The study's file, and whether it was written now: into `folder`, or `studies`, where there is none."""
    name = name_of(dataset)
    there = study_files().get(name, [])
    path = (folder or HERE) / f"{name}.py"
    if path.exists() or there:
        return (path if path.exists() else there[0]), False
    make_folder(path.parent)
    path.write_text(text_of(name, dataset))
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
    several = (
        "            modality_dropout=0.3,\n            outliers=0.1,\n" if len(kinds) > 1 and may_lack(dataset) else ""
    )
    spaces = [f'one_of("model.encoders.{bank}", {spaces_of(kind.encoders)})' for bank, kind in kinds.items()]
    spaces += [f'one_of("model.fusion", {spaces_of(fusions)})'] if len(kinds) > 1 else []
    spaces += [f'under("train.augment.{bank}", {kind.changes})' for bank, kind in kinds.items() if kind.changes]
    spaces += ['under("train", RECIPE)'] + (['under("train", MODALITY_DROPOUT)'] if several else [])
    names = sorted(set(re.findall(r"\b[A-Z][A-Za-z0-9]+(?=\()", encoders + fusion)) - {"OneOf"})
    augments = sorted(set(re.findall(r"\b[A-Za-z]+Augmentation(?=\()", augment)))
    catalogue = sorted({own for one in spaces for own in re.findall(r"\b[A-Z][A-Z0-9_]+\b", one)})
    reads = ", ".join(f"{kind.what} ({bank})" for bank, kind in kinds.items())
    return TEMPLATE.format(
        name=name,
        data=dataset.name,
        reads=reads,
        networks=wrapped(sorted([*names, "LateFusion", "OneOf"])),
        catalogue=wrapped(catalogue),
        augmentations=f"from mmtune.train.augmentations import {', '.join(augments)}\n" if augments else "",
        encoders=encoders,
        fusion=fusion,
        several=several,
        augment=f"            augment={{\n{augment}            }},\n" if augment else "",
        space="\n    + ".join(spaces),
    )


def may_lack(dataset: Dataset) -> bool:
    """Whether rows have every bank, so that some may be taken away in training."""
    return all(bool((bank.index >= 0).all()) for bank in dataset.train.banks.values())


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
    doc=__doc__,
)
'''
