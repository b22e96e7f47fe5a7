"""What `mlflow.pyfunc.load_model` loads: a predictor behind MLflow's interface; this module needs no mlflow itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmtune.base.errors import InputError
from mmtune.networks.config import ModelConfig, alone_modalities
from mmtune.serve.predictor import INPUTS, Prediction, Predictor, check_inputs

if TYPE_CHECKING:
    import pandas as pd


class ServedPredictor:
    """A Predictor that takes MLflow's dict of inputs and returns a pandas DataFrame."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: Any = None) -> pd.DataFrame:
        """Arrays by the names and shapes in `INPUTS` to digit and probability, one row per input row.

        A fusion model adds what each modality says alone, as image_digit, image_probability and so on. A model
        server hands over nested lists: they become arrays where every value fits. Raises InputError as
        `Predictor.predict` does, and on any `params`.
        """
        if params is not None and not (isinstance(params, dict) and not params):
            got = ", ".join(map(str, params)) if isinstance(params, dict) else type(params).__name__
            raise InputError(f"this model takes no params, got {got}")
        if not isinstance(model_input, dict):
            names = ", ".join(self.predictor.modalities)
            raise InputError(f"input must be a dict of arrays with {names}, got {type(model_input).__name__}")
        given = {name: from_list(name, value) for name, value in model_input.items()}
        check_inputs(given, self.predictor.modalities)
        return as_frame(self.predictor.predict(given.get("image"), given.get(self.predictor.heard)))


def from_list(name: str, value: Any) -> Any:
    """Nested lists as an array of the type that the input `name` has; anything else as it is."""
    if not isinstance(value, list) or name not in INPUTS:
        return value
    kind = INPUTS[name][1]
    try:
        found = np.array(value)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{name} must be evenly nested lists of numbers: {error}") from error
    if issubclass(kind, np.integer):
        limits = np.iinfo(kind)
        sound = found.dtype.kind in "iu" and found.size > 0 and limits.min <= found.min() <= found.max() <= limits.max
        return found.astype(kind) if sound else found
    with np.errstate(over="ignore"):
        return found.astype(kind) if found.dtype.kind in "iuf" else found


def columns(config: ModelConfig) -> dict[str, str]:
    """The columns that a model of this architecture returns, and their MLflow types."""
    names = ["", *(f"{modality}_" for modality in alone_modalities(config))]
    return {f"{name}{what}": kind for name in names for what, kind in (("digit", "long"), ("probability", "double"))}


def as_frame(prediction: Prediction) -> pd.DataFrame:
    """A DataFrame with the columns of `columns`."""
    import pandas as pd

    frame = {"digit": prediction.digit, "probability": prediction.probability.astype(np.float64)}
    for name, said in prediction.alone.items():
        frame |= {f"{name}_digit": said.digit, f"{name}_probability": said.probability.astype(np.float64)}
    return pd.DataFrame(frame)


def _load_pyfunc(path: str) -> ServedPredictor:
    """MLflow's entry point; `path` is a predictor's folder."""
    return ServedPredictor(Predictor.load(Path(path)))
