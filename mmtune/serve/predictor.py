"""Raw or prepared inputs to digits with probabilities; everything that comes in is checked.

A predictor is a folder: `model/` (see `mmtune.networks.storage`) and `features.json`, which says what the model
was trained on and how a recording becomes its input. Nothing in it can run code.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmtune.base.bounds import inside
from mmtune.base.errors import InputError
from mmtune.base.files import read_json, write_whole
from mmtune.base.rules import CLASSES
from mmtune.data.dataset import AUDIO_SHAPE, IMAGE_SHAPE, SAMPLE_RATE
from mmtune.data.features import FeatureStats, mfcc
from mmtune.data.pictures import read_digit
from mmtune.data.recordings import one_second, read_wav, to_int16
from mmtune.networks.card import CARD, WEIGHTS
from mmtune.networks.config import ModelConfig, takes_sequences
from mmtune.networks.storage import load_model
from mmtune.train.batches import as_input
from mmtune.train.device import CPU_BATCH

FORMAT = 1
MODEL, FEATURES = "model", "features.json"
INPUTS: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
    "image": (IMAGE_SHAPE, np.uint8),
    "audio": (AUDIO_SHAPE, np.float32),
    "waveform": ((SAMPLE_RATE,), np.int16),
}
# What the files of `predict_files` can become, by the name of the file.
KINDS = {"image": ("image",), "audio": ("audio", "waveform")}


def save_predictor(folder: Path, model: Path, card: Mapping[str, Any]) -> None:
    """Write a predictor into the new folder `folder`, from a saved model's folder and its card.

    card: at least `features` (as `Dataset.features`) and `data` with its name.
    """
    (folder / MODEL).mkdir(parents=True)
    # These two and no others: what else lies there, or is linked from there, was never checked.
    for name in (CARD, WEIGHTS):
        shutil.copyfile(inside(model, name), folder / MODEL / name)
    write_sealed(folder / FEATURES, card)


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


def require_servable(folder: Path, config: ModelConfig) -> None:
    """Raise InputError unless a model takes the inputs of `INPUTS` and tells the ten digits apart."""
    if not takes_sequences(config):
        return
    wanted = dict(zip(("height", "width", "steps", "coefficients"), (*IMAGE_SHAPE, *AUDIO_SHAPE), strict=True))
    for name, value in {**wanted, "classes": CLASSES, "frames": 1}.items():
        found = getattr(config, name)
        if found != value:
            raise InputError(f"{folder} must hold a model with {name} {value} to predict digits, its {name} is {found}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model says of B rows; `alone`, for a fusion model, what each modality says without the other.

    digit (B,) int64; probability (B,) float32, of that digit; probabilities (B, 10) float32, of every digit.
    """

    digit: NDArray[np.int64]
    probability: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    alone: Mapping[str, Prediction]


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A model on the CPU, ready to predict.

    card: what `features.json` holds. features: how a recording becomes a clip, or None where the training data came as
    features only.
    """

    model: nn.Module
    modalities: tuple[str, ...]
    card: Mapping[str, Any]
    features: FeatureStats | None

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Read a predictor's folder; InputError where a file of it is missing, changed or misfits.

        The folder may be a symbolic link, what is in it may not lead out of it.
        """
        path = inside(folder, FEATURES)
        card = read_sealed(path)
        data = card.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("name"), str) or "features" not in card:
            raise InputError(f"{path} must hold features and data with its name, holds {', '.join(card)}")
        features = None if card["features"] is None else FeatureStats.from_json(card["features"], str(path))
        model, config = load_model(inside(folder, MODEL))
        require_servable(folder, config)
        return cls(model=model, modalities=config.modalities, card=card, features=features)

    @property
    def heard(self) -> str:
        """What the model takes of a recording: its MFCCs as "audio", or its "waveform"."""
        return next((name for name in self.modalities if name in KINDS["audio"]), "audio")

    def predict(self, images: NDArray[np.uint8] | None = None, recordings: NDArray[Any] | None = None) -> Prediction:
        """images (B, 28, 28) uint8; recordings, as the model takes them, (B, 39, 13) float32 or (B, 16000) int16.

        Each only where the model takes it, B >= 1. Raises InputError on a missing or extra input, another type or
        shape, NaN, or unequal numbers of rows.
        """
        given = {name: array for name, array in (("image", images), (self.heard, recordings)) if array is not None}
        count = check_inputs(given, self.modalities)
        outputs = [self._logits(given, slice(start, start + CPU_BATCH)) for start in range(0, count, CPU_BATCH)]
        whole = {name: torch.cat([part[name] for part in outputs]) for name in outputs[0]}
        return as_prediction(whole.pop(""), whole)

    @torch.no_grad()
    def _logits(self, given: Mapping[str, NDArray[Any]], rows: slice) -> dict[str, Tensor]:
        """The logits (B, 10) of the model, under "", and of each modality alone."""
        tensors = {name: as_input(torch.from_numpy(array[rows].copy())) for name, array in given.items()}
        output = self.model(tensors.get("image"), tensors.get(self.heard))
        return {"": output.logits, **output.alone}


def as_prediction(logits: Tensor, alone: Mapping[str, Tensor]) -> Prediction:
    """A Prediction from logits (B, 10); InputError where they are not finite, as inputs of absurd size can make them.

    The digit is that of the greatest logit, also where float32 probabilities are equal, as in `Evaluation`.
    """
    if not bool(torch.isfinite(logits).all()):
        raise InputError("the model's scores must be finite, got NaN or infinity: an input is absurdly large")
    digit, shares = logits.argmax(1), torch.softmax(logits, 1)
    return Prediction(
        digit=digit.numpy(),
        probability=shares.gather(1, digit[:, None])[:, 0].numpy(),
        probabilities=shares.numpy(),
        alone={name: as_prediction(own, {}) for name, own in alone.items()},
    )


def check_inputs(given: Mapping[str, Any], modalities: tuple[str, ...]) -> int:
    """The number of rows; InputError unless `given` holds what `modalities` names, sound and equally long."""
    require_taken(given, modalities)
    for name in modalities:
        check_input(name, given[name])
    counts = {name: len(given[name]) for name in modalities}
    if len(set(counts.values())) > 1:
        found = " and ".join(f"{count} of {name}" for name, count in counts.items())
        raise InputError(f"inputs must have equally many rows, got {found}")
    return next(iter(counts.values()))


def require_taken(given: Collection[object], wanted: Collection[str]) -> None:
    """Raise InputError unless the names of what is given are those of what a model takes."""
    if set(given) != set(wanted):
        got = " and ".join(map(str, given)) or "nothing"
        raise InputError(f"this model takes {' and '.join(wanted)}, got {got}")


def check_input(name: str, array: Any) -> None:
    """Raise InputError unless `array` is a batch of the input `name`: type, shape, at least one row, finite."""
    shape, kind = INPUTS[name]
    rule = f"{name} must be an array (B, {', '.join(map(str, shape))}) of {kind.__name__} with B >= 1"
    # What a masked array hides would be predicted from all the same.
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{rule}, got {type(array).__name__}")
    if array.dtype != kind or array.shape[1:] != shape or not len(array):
        raise InputError(f"{rule}, got {array.shape} of {array.dtype}")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
        raise InputError(f"{name} must be finite, row {row} holds NaN or infinity")


def predict_files(predictor: Predictor, image: Path | None = None, audio: Path | None = None) -> Prediction:
    """The digit (B = 1) of a picture and a recording, read exactly as the data set was built.

    Raises InputError where a file is missing, unfit or not the model's to take, or where the model knows only
    ready-made features.
    """
    given = {name: path for name, path in (("image", image), ("audio", audio)) if path is not None}
    require_taken(given, [name for name, kinds in KINDS.items() if set(kinds) & set(predictor.modalities)])
    images = None if image is None else read_digit(image)[None]
    heard = None if audio is None else read_recording(predictor, audio)[None]
    return predictor.predict(images, heard)


def read_recording(predictor: Predictor, path: Path) -> NDArray[Any]:
    """A recording as the model's input: (39, 13) float32, or (16000,) int16 where it hears waveforms."""
    stats = predictor.features
    if predictor.heard == "waveform":
        return to_int16(one_second(*read_wav(path)))
    if stats is None:
        data = predictor.card["data"]["name"]
        raise InputError(
            f"{path}: this model was trained on {data}, which came as features without the statistics that made "
            "them, so no recording can be turned into its input"
        )
    return stats.apply(mfcc(one_second(*read_wav(path))))


def describe(prediction: Prediction) -> str:
    """The first row in lines to print: the digit, and what each modality alone would say."""
    lines = {"digit": prediction, **{f"{name} alone": said for name, said in prediction.alone.items()}}
    width = max(map(len, lines))
    return "\n".join(
        f"{name:{width}}  {said.digit[0]}  probability {said.probability[0]:.4f}" for name, said in lines.items()
    )
