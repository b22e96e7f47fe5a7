"""Raw or prepared inputs to classes with probabilities; everything that comes in is checked.

A predictor is a folder: `model/` (see `mmtune.networks.storage`), what is familiar to it (see
`mmtune.train.familiarity`), and `inputs.json`, which says what the model was trained on, what its classes are called,
and how a file becomes its input. Nothing in it can run code.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmtune.base.bounds import inside
from mmtune.base.errors import InputError
from mmtune.base.sealed import read_sealed, write_sealed
from mmtune.data.checks import require_bank_names, require_classes
from mmtune.data.forms import Form, dtype_of, form_from_json
from mmtune.networks.card import CARD, WEIGHTS
from mmtune.networks.shapes import as_read
from mmtune.networks.storage import Loaded, load_model
from mmtune.networks.vectors import TOGETHER, answer_and_vectors
from mmtune.serve.answer.given import Given, assigned, check_inputs, require_taken, values_given
from mmtune.serve.answer.prediction import SHOWN, Caution, Prediction, as_prediction
from mmtune.serve.answer.trained import again, load_trained, save_trained
from mmtune.serve.answer.usual import NOTHING, Usual, extents_from
from mmtune.train.batches import as_input
from mmtune.train.calibration import Calibration
from mmtune.train.calibration_file import calibration_from
from mmtune.train.device import CPU_BATCH
from mmtune.train.familiarity import Vectors, load_familiarity, save_familiarity

FORMAT = 4
MODEL, INPUTS = "model", "inputs.json"
# No bank has such a name.
LOGITS, EMBEDDING = "logits of all", "embedding of all"


def save_predictor(folder: Path, model: Path, card: Mapping[str, Any], usual: Usual = NOTHING) -> None:
    """Write a predictor into the new folder `folder`, from a saved model's folder and its card.

    card: at least `forms` and `classes`, as the data set has them, `data` with its name, and `calibration` as
    `Calibration.told` has it. usual: what the model was trained on.
    """
    (folder / MODEL).mkdir(parents=True)
    # These two and no others: what else lies there, or is linked from there, was never checked.
    for name in (CARD, WEIGHTS):
        shutil.copyfile(inside(model, name), folder / MODEL / name)
    save_familiarity(folder, usual.near)
    trained = save_trained(folder, usual.trained)
    write_sealed(folder / INPUTS, FORMAT, {**card, "usual": usual.extents, "trained": trained})


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Predictor:
    """A model on the CPU, ready to predict.

    card: what `inputs.json` holds. classes: their names; forms: by bank that the model reads, what its values are;
    missing: the banks that need not be given, for which the model then gets zeros. calibration: what validation said of
    its confidence. usual: what it was trained on. caution: what is asked of its answers.
    """

    loaded: Loaded
    card: Mapping[str, Any]
    classes: tuple[str, ...]
    forms: Mapping[str, Form]
    missing: tuple[str, ...]
    calibration: Calibration
    usual: Usual = NOTHING
    caution: Caution = field(default_factory=Caution)

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Read a predictor's folder; InputError where a file of it is missing, changed or misfits.

        The folder may be a symbolic link, what is in it may not lead out of it.
        """
        path = inside(folder, INPUTS)
        card = read_sealed(path, FORMAT)
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
        calibration = calibration_from(card.get("calibration"), f"{path}: calibration")
        if not calibration.alone.keys() <= own.keys():
            raise InputError(f"{path}: calibration must be of {', '.join(own)}, is of {', '.join(calibration.alone)}")
        near = load_familiarity(folder)
        if not near.keys() <= own.keys() | {TOGETHER}:
            raise InputError(f"{folder}: what is familiar must be of {', '.join(own)}, is of {', '.join(near)}")
        extents = extents_from(card.get("usual"), own, f"{path}: usual")
        usual = Usual(extents=extents, near=near, trained=load_trained(folder, card.get("trained"), own))
        return cls(
            loaded=loaded,
            card=card,
            classes=tuple(classes),
            forms=own,
            missing=tuple(missing),
            calibration=calibration,
            usual=usual,
        )

    @property
    def model(self) -> nn.Module:
        """The network itself, in eval mode."""
        return self.loaded.model

    def __repr__(self) -> str:
        takes = ", ".join(f"{name} ({form.source or form.kind})" for name, form in self.forms.items())
        classes = ", ".join(self.classes[:SHOWN]) + ", ..." * (len(self.classes) > SHOWN)
        return f"Predictor({self.card.get('study_key', 'of no study')}: {takes} -> {classes})"

    def cautious(self, *, abstain_at: float | None = None, coverage: float = Caution.coverage) -> Predictor:
        """The same model, had its answers to keep to this: see `Caution`; InputError where it is no share."""
        return replace(self, caution=Caution(abstain_at=abstain_at, coverage=coverage))

    def predict(self, /, **given: Given) -> Prediction:
        """Predict B >= 1 rows from what a user has of each bank: files, numbers, arrays, one or many of them.

        A picture may be given as `image` and a recording as `audio` whatever their banks are called, where the model
        takes one of that kind. What may be given for a bank, and how many rows it is, says `values_given`; each
        becomes exactly what its like became when the data set was built.
        A single bank is answered by its own answer where the model has one; else those in `missing` may be left out.
        Raises InputError where something is missing, too much, unfit, or not equally many.
        """
        return self.predict_values(**self.values(**given))

    def values(self, /, **given: Given) -> dict[str, NDArray[Any]]:
        """By bank the values (B, *shape), as `predict_values` takes them, of what is given as to `predict`."""
        return self._values(self._assigned(given))

    def embed(self, /, **given: Given) -> NDArray[np.float32]:
        """The embedding (B, E) of rows that are given as to `predict`: what the network's Output has, or its logits."""
        by_bank = assigned(given, self.forms, self.missing)
        return self._answers(self._values(by_bank))[0][EMBEDDING].numpy()

    def vectors(self, banks: Mapping[str, NDArray[Any]]) -> dict[str, Vectors]:
        """By bank the vectors (B, F) by which it is told what is usual, of values as `predict_values` takes them."""
        return self._answers(banks)[1]

    def predict_values(self, /, **banks: NDArray[Any]) -> Prediction:
        """Predict B >= 1 rows from the values of each bank that the model reads, as a data set has them, (B, *shape).

        Raises InputError on a missing or extra bank, another type or shape, NaN, or unequal numbers of rows.
        """
        return self.predict_rows(banks)

    def predict_rows(
        self, banks: Mapping[str, NDArray[Any]], present: Mapping[str, NDArray[np.bool_]] = {}, decide: bool = True
    ) -> Prediction:
        """As `predict_values`; present (B,): by bank, which rows have a value in it, where some have zeros instead.

        decide: whether of banks that contradict each other the one nearer to training answers; else the network does.
        """
        answers, vectors = self._answers(banks)
        remote = self.usual.remoteness(vectors, present)
        strange = self.usual.strange(self.forms, banks, remote, present)
        trained = again(self.usual.trained, banks, present, self.forms)
        alone = {bank: logits for bank, logits in answers.items() if bank in banks}
        missing = tuple(name for name in self.forms if name not in banks)
        by = self._speaker(banks)
        if by:
            own = as_prediction(alone[by], {}, self.classes, self.calibration.of(by), self.caution)
            return replace(own, alone={by: own}, missing=missing, by=by, trained=trained).doubted(strange)
        found = as_prediction(answers[LOGITS], alone, self.classes, self.calibration, self.caution, present)
        found = replace(found, missing=missing, trained=trained).doubted(strange)
        return found.decided(self.usual.further(remote, strange)) if decide else found

    def _assigned(self, given: Mapping[str, Given]) -> dict[str, Given]:
        """By bank what was given for it; InputError where the model can be asked by no such banks."""
        found = assigned(given, self.forms, self.forms)
        require_taken(found, self.asked(found))
        return found

    def _speaker(self, given: Collection[object]) -> str:
        """The bank that is given by itself and has answers of its own, "" where there is none such."""
        alone = next(iter(given), "") if len(given) == 1 < len(self.forms) else ""
        return str(alone) if alone in self.calibration.alone else ""

    def _values(self, by_bank: Mapping[str, Given]) -> dict[str, NDArray[Any]]:
        """By bank the values (B, *shape) of what was given for it."""
        ready = self.card["data"]["name"]
        return {name: values_given(name, own, self.forms[name], ready) for name, own in by_bank.items()}

    def _answers(self, banks: Mapping[str, NDArray[Any]]) -> tuple[dict[str, Tensor], dict[str, Vectors]]:
        """What the model says of values: LOGITS (B, C), EMBEDDING (B, E), and by bank the logits of it alone.

        Beside it what `bank_vectors` gives.
        """
        count, whole = check_inputs(banks, self.asked(banks)), self.filled(banks)
        outputs = [self._answer(whole, slice(start, start + CPU_BATCH)) for start in range(0, count, CPU_BATCH)]
        said, vectors = (joined([part[side] for part in outputs]) for side in (0, 1))
        return said, {name: own.float().numpy() for name, own in vectors.items()}

    def filled(self, banks: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Values (B, *shape) of all banks that the model reads, zeros of those that are not given."""
        count = len(next(iter(banks.values())))
        empty = {name: np.zeros(form.shape, dtype_of(form)) for name, form in self.forms.items() if name not in banks}
        return {**banks, **{name: np.broadcast_to(own, (count, *own.shape)) for name, own in empty.items()}}

    def asked(self, given: Collection[object]) -> Mapping[str, Form]:
        """By bank, the forms of what must be given, and of what is given; of all where that would be nothing."""
        by = self._speaker(given)
        if by:
            return {by: self.forms[by]}
        found = {name: form for name, form in self.forms.items() if name in given or name not in self.missing}
        return found or self.forms

    def _answer(self, given: Mapping[str, NDArray[Any]], rows: slice) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        tensors = {name: as_input(torch.from_numpy(given[name][rows].copy())) for name in self.forms}
        output, vectors = answer_and_vectors(self.model, tensors)
        return {LOGITS: output.logits, EMBEDDING: output.embedding, **output.alone}, vectors


def joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """By name, tensors one after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
