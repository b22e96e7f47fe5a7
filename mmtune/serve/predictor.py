"""Raw or prepared inputs to classes with probabilities; everything that comes in is checked.

A predictor is a folder: `model/` (see `mmtune.networks.storage`) and `inputs.json`, which says what the model was
trained on, what its classes are called, and how a file becomes its input. Nothing in it can run code.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmtune.base.bounds import inside
from mmtune.base.errors import InputError
from mmtune.base.files import read_json, write_whole
from mmtune.data.checks import require_bank_names, require_classes
from mmtune.data.forms import Form, dtype_of, form_from_json
from mmtune.networks.card import CARD, WEIGHTS
from mmtune.networks.output import answer
from mmtune.networks.shapes import as_read
from mmtune.networks.storage import Loaded, load_model
from mmtune.serve.given import Given, assigned, check_inputs, values_given
from mmtune.train.batches import as_input
from mmtune.train.device import CPU_BATCH

FORMAT = 2
MODEL, INPUTS = "model", "inputs.json"
SHOWN = 8
# No bank has such a name.
LOGITS, EMBEDDING = "logits of all", "embedding of all"


def save_predictor(folder: Path, model: Path, card: Mapping[str, Any]) -> None:
    """Write a predictor into the new folder `folder`, from a saved model's folder and its card.

    card: at least `forms` and `classes`, as the data set has them, and `data` with its name.
    """
    (folder / MODEL).mkdir(parents=True)
    # These two and no others: what else lies there, or is linked from there, was never checked.
    for name in (CARD, WEIGHTS):
        shutil.copyfile(inside(model, name), folder / MODEL / name)
    write_sealed(folder / INPUTS, card)


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with its format and its own SHA-256, so that a changed number is refused; whole or not at all."""
    body = {"format": FORMAT, **content}
    write_whole(path, json.dumps({**body, "sha256": seal(body)}, indent=2).encode())


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote, format and seal included; InputError where it is missing, changed or cut."""
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise InputError(f"{path} must be of format {FORMAT}, got {content.get('format')!r}")
    found = seal({name: value for name, value in content.items() if name != "sha256"})
    if found != content.get("sha256"):
        raise InputError(f"{path} must have SHA-256 {content.get('sha256')}, got {found}: it was changed or cut")
    return content


def seal(content: Mapping[str, Any]) -> str:
    """The SHA-256 of JSON content, whatever its layout."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Prediction:
    """What a model says of B rows; `alone`, for a fusion model, what each bank says without the others.

    label (B,) int64, the number of the class; probability (B,) float32, of that class; probabilities (B, C) float32.
    classes: their names.
    """

    label: NDArray[np.int64]
    probability: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    alone: Mapping[str, Prediction]

    @property
    def names(self) -> list[str]:
        """The name of each row's class."""
        return [self.classes[number] for number in self.label]

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        first = [f"{name} {share:.4f}" for name, share in zip(self.names[:SHOWN], self.probability, strict=False)]
        return f"Prediction({', '.join(first)}{f', ... {len(self)} rows' if len(self) > SHOWN else ''})"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Predictor:
    """A model on the CPU, ready to predict.

    card: what `inputs.json` holds. classes: their names; forms: by bank that the model reads, what its values are;
    missing: the banks that need not be given, for which the model then gets zeros.
    """

    loaded: Loaded
    card: Mapping[str, Any]
    classes: tuple[str, ...]
    forms: Mapping[str, Form]
    missing: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Read a predictor's folder; InputError where a file of it is missing, changed or misfits.

        The folder may be a symbolic link, what is in it may not lead out of it.
        """
        path = inside(folder, INPUTS)
        card = read_sealed(path)
        data, forms, classes = card.get("data"), card.get("forms"), card.get("classes")
        known = isinstance(data, dict) and isinstance(data.get("name"), str)
        if not known or not isinstance(forms, dict) or not isinstance(classes, list):
            raise InputError(f"{path} must hold forms, classes, and data with its name, holds {', '.join(card)}")
        if not all(isinstance(name, str) for name in classes):
            raise InputError(f"{path} must hold the names of classes, got {classes!r:.200}")
        require_classes(classes, str(path))
        require_bank_names(list(forms), str(path))
        loaded = load_model(inside(folder, MODEL))
        reads = tuple(loaded.config.reads)
        if loaded.shapes.classes != len(classes) or not set(reads) <= forms.keys() & loaded.shapes.banks.keys():
            raise InputError(f"{folder}: {MODEL} and {INPUTS} must speak of the same banks and classes")
        own = {name: form_from_json(forms[name], f"{path}: {name}") for name in reads}
        for name, form in own.items():
            if loaded.shapes[name] != as_read(form.shape, dtype_of(form)):
                raise InputError(f"{path}: {name} must be {loaded.shapes[name]} as the model reads it, is {form.shape}")
        missing = card.get("missing", [])
        if not isinstance(missing, list) or not all(isinstance(name, str) for name in missing):
            raise InputError(f"{path} must name the banks that may be missing, got {missing!r:.200}")
        return cls(loaded=loaded, card=card, classes=tuple(classes), forms=own, missing=tuple(missing))

    @property
    def model(self) -> nn.Module:
        """The network itself, in eval mode."""
        return self.loaded.model

    def __repr__(self) -> str:
        takes = ", ".join(f"{name} ({form.source or form.kind})" for name, form in self.forms.items())
        classes = ", ".join(self.classes[:SHOWN]) + ", ..." * (len(self.classes) > SHOWN)
        return f"Predictor({self.card.get('study_key', 'of no study')}: {takes} -> {classes})"

    def predict(self, **given: Given) -> Prediction:
        """Predict B >= 1 rows from what a user has of each bank: files, numbers, arrays, one or many of them.

        A picture may be given as `image` and a recording as `audio` whatever their banks are called, where the model
        takes one of that kind. What may be given for a bank, and how many rows it is, says `values_given`; each
        becomes exactly what its like became when the data set was built.
        Raises InputError where something is missing, too much, unfit, or not equally many.
        """
        by_bank = assigned(given, self.forms, self.missing)
        found = self.predict_values(**self._values(by_bank))
        # What was not given says nothing.
        return replace(found, alone={name: said for name, said in found.alone.items() if name in by_bank})

    def embed(self, **given: Given) -> NDArray[np.float32]:
        """The embedding (B, E) of rows that are given as to `predict`: what the network's Output has, or its logits."""
        return self._answers(self._values(assigned(given, self.forms, self.missing)))[EMBEDDING].numpy()

    def predict_values(self, **banks: NDArray[Any]) -> Prediction:
        """Predict B >= 1 rows from the values of each bank that the model reads, as a data set has them, (B, *shape).

        Raises InputError on a missing or extra bank, another type or shape, NaN, or unequal numbers of rows.
        """
        answers = self._answers(banks)
        answers.pop(EMBEDDING)
        return as_prediction(answers.pop(LOGITS), self.classes, answers)

    def _values(self, by_bank: Mapping[str, Given]) -> dict[str, NDArray[Any]]:
        """By bank the values (B, *shape) of what was given for it."""
        ready = self.card["data"]["name"]
        return {name: values_given(name, own, self.forms[name], ready) for name, own in by_bank.items()}

    def _answers(self, banks: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        """What the model says of values: LOGITS (B, C), EMBEDDING (B, E), and by bank the logits of it alone."""
        count = check_inputs(banks, self.asked(banks))
        whole = dict(banks)
        for name in self.forms.keys() - banks.keys():
            form = self.forms[name]
            whole[name] = np.broadcast_to(np.zeros(form.shape, dtype_of(form)), (count, *form.shape))
        outputs = [self._answer(whole, slice(start, start + CPU_BATCH)) for start in range(0, count, CPU_BATCH)]
        return {name: torch.cat([part[name] for part in outputs]) for name in outputs[0]}

    def asked(self, given: Collection[object]) -> Mapping[str, Form]:
        """By bank, the forms of what must be given, and of what is given; of all where that would be nothing."""
        found = {name: form for name, form in self.forms.items() if name in given or name not in self.missing}
        return found or self.forms

    @torch.no_grad()
    def _answer(self, given: Mapping[str, NDArray[Any]], rows: slice) -> dict[str, Tensor]:
        tensors = {name: as_input(torch.from_numpy(given[name][rows].copy())) for name in self.forms}
        output = answer(self.model, tensors)
        return {LOGITS: output.logits, EMBEDDING: output.embedding, **output.alone}


def as_prediction(logits: Tensor, classes: tuple[str, ...], alone: Mapping[str, Tensor]) -> Prediction:
    """A Prediction from logits (B, C); InputError where they are not finite, as inputs of absurd size can make them.

    The class is that of the greatest logit, also where float32 probabilities are equal, as in `Evaluation`.
    """
    if not bool(torch.isfinite(logits).all()):
        raise InputError("the model's scores must be finite, got NaN or infinity: an input is absurdly large")
    label, shares = logits.argmax(1), torch.softmax(logits, 1)
    return Prediction(
        label=label.numpy(),
        probability=shares.gather(1, label[:, None])[:, 0].numpy(),
        probabilities=shares.numpy(),
        classes=classes,
        alone={name: as_prediction(own, classes, {}) for name, own in alone.items()},
    )


def describe(prediction: Prediction) -> str:
    """The first row in lines to print: the class, and what each bank alone would say."""
    lines = {"class": prediction, **{f"{name} alone": said for name, said in prediction.alone.items()}}
    width = max(map(len, lines))
    names = max(len(said.names[0]) for said in lines.values())
    return "\n".join(
        f"{name:{width}}  {said.names[0]:{names}}  probability {said.probability[0]:.4f}"
        for name, said in lines.items()
    )
