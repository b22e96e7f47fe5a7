"""A predictor as MLflow stores it, a pyfunc model without a pickle, and what `mlflow.pyfunc.load_model` makes of it.

Whoever only loads and predicts, as MLflow's scoring server does, needs no MLflow.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mmtune
from mmtune.base.errors import InputError
from mmtune.base.provenance import installed
from mmtune.networks.config import ModelConfig, alone_modalities
from mmtune.serve.predictor import INPUTS, Predictor, check_inputs, save_predictor

if TYPE_CHECKING:
    import pandas as pd

REGISTERED, PREDICTOR = "registered", "predictor"


class ServedPredictor:
    """A Predictor that takes MLflow's dict of inputs and returns a pandas DataFrame."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: Any = None) -> pd.DataFrame:
        """Arrays by the names and shapes in `INPUTS` to digit and probability, one row per input row.

        A fusion model adds what each modality says alone, as image_digit, image_probability and so on. Lists that come
        to a model server MLflow has made arrays by the signature. Raises InputError as `Predictor.predict` does, and on
        any `params`.
        """
        import pandas as pd

        if params is not None and not (isinstance(params, dict) and not params):
            got = ", ".join(map(str, params)) if isinstance(params, dict) else type(params).__name__
            raise InputError(f"this model takes no params, got {got}")
        if not isinstance(model_input, dict):
            names = ", ".join(self.predictor.modalities)
            raise InputError(f"input must be a dict of arrays with {names}, got {type(model_input).__name__}")
        check_inputs(model_input, self.predictor.modalities)
        found = self.predictor.predict(model_input.get("image"), model_input.get(self.predictor.heard))
        frame = {"digit": found.digit, "probability": found.probability.astype(np.float64)}
        for name, said in found.alone.items():
            frame |= {f"{name}_digit": said.digit, f"{name}_probability": said.probability.astype(np.float64)}
        return pd.DataFrame(frame)


def _load_pyfunc(path: str) -> ServedPredictor:
    """MLflow's entry point; `path` is a predictor's folder."""
    return ServedPredictor(Predictor.load(Path(path)))


def write_pyfunc(target: Path, model: Path, config: ModelConfig, card: Mapping[str, Any], run_id: str) -> None:
    """Write a predictor as a pyfunc model into the new folder `target`; MLflow reads it and nothing is pickled."""
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    packages = {"mmtune": mmtune.__version__, **{name: installed(name) for name in ("torch", "numpy", "safetensors")}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        save_predictor(Path(folder) / PREDICTOR, model, card)
        save_model(
            str(target),
            loader_module=__name__,
            data_path=str(Path(folder) / PREDICTOR),
            mlflow_model=Model(artifact_path=REGISTERED, run_id=run_id),
            signature=signature(config),
            pip_requirements=[f"{name}=={version.split('+')[0]}" for name, version in packages.items()],
        )


def signature(config: ModelConfig) -> Any:
    """MLflow's signature: a named tensor for each input, `columns` for the output.

    MLflow enforces it, dropping inputs that it does not name; NaN, empty and unequal batches pass MLflow, and the model
    refuses them.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    tensors = [TensorSpec(np.dtype(INPUTS[name][1]), (-1, *INPUTS[name][0]), name) for name in config.modalities]
    return ModelSignature(Schema(tensors), Schema([ColSpec(kind, name) for name, kind in columns(config).items()]))


def columns(config: ModelConfig) -> dict[str, str]:
    """The columns that a model of this architecture returns, and their MLflow types."""
    names = ["", *(f"{modality}_" for modality in alone_modalities(config))]
    return {f"{name}{what}": kind for name in names for what, kind in (("digit", "long"), ("probability", "double"))}
