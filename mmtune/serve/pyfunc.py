"""A predictor as MLflow stores it: a pyfunc model without a pickle, which `mmtune.serve.loader` loads."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mmtune
from mmtune.networks.config import ModelConfig
from mmtune.serve.predictor import INPUTS, save_predictor

REGISTERED, PREDICTOR = "registered", "predictor"


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
            loader_module="mmtune.serve.loader",
            data_path=str(Path(folder) / PREDICTOR),
            mlflow_model=Model(artifact_path=REGISTERED, run_id=run_id),
            signature=signature(config),
            pip_requirements=[f"{name}=={version.split('+')[0]}" for name, version in packages.items()],
        )


def signature(config: ModelConfig) -> Any:
    """MLflow's signature: a named tensor for each input, the columns of `mmtune.serve.loader.columns` for the output.

    MLflow enforces it, dropping inputs that it does not name; NaN, empty and unequal batches pass MLflow, and the model
    refuses them.
    """
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    from mmtune.serve.loader import columns

    tensors = [TensorSpec(np.dtype(INPUTS[name][1]), (-1, *INPUTS[name][0]), name) for name in config.modalities]
    return ModelSignature(Schema(tensors), Schema([ColSpec(kind, name) for name, kind in columns(config).items()]))
