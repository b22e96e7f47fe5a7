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
from mmtune.data.forms import dtype_of
from mmtune.networks.card import read_card
from mmtune.networks.kinds import KNOWN, kinds_in
from mmtune.serve.answer.predictor import MODEL, Predictor, save_predictor
from mmtune.serve.answer.usual import NOTHING, Usual
from mmtune.study import load_study, study_files

if TYPE_CHECKING:
    import pandas as pd

REGISTERED, PREDICTOR = "registered", "predictor"
WHAT = {"class": "string", "probability": "double"}
TRUST = {"abstained": "boolean", "agree": "boolean", "familiar": "boolean", "set": "string"}
"""What is said of a whole row; the names in a set are joined by ", ", the most probable first."""


class ServedPredictor:
    """A Predictor that takes MLflow's dict of inputs and returns a pandas DataFrame."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: Any = None) -> pd.DataFrame:
        """Arrays by bank, as `Predictor.predict_values` takes them, to a row of `columns` per input row.

        That is class, probability, what is in TRUST, and of a fusion model what each bank says alone, as image_class,
        image_probability and so on, None where it was not given. Lists that come to a model server MLflow has made
        arrays by the signature. Raises InputError as `Predictor.predict_values` does, and
        on any `params`.
        """
        import pandas as pd

        if params is not None and not (isinstance(params, dict) and not params):
            got = ", ".join(map(str, params)) if isinstance(params, dict) else type(params).__name__
            raise InputError(f"this model takes no params, got {got}")
        if not isinstance(model_input, dict):
            names = ", ".join(self.predictor.forms)
            raise InputError(f"input must be a dict of arrays with {names}, got {type(model_input).__name__}")
        found = self.predictor.predict_rows(model_input)
        said = {"": found, **{f"{name}_": own for name, own in found.alone.items()}}
        made: dict[str, Any] = {f"{name}class": own.names for name, own in said.items()}
        made |= {f"{name}probability": own.probability.astype(np.float64) for name, own in said.items()}
        made |= {"abstained": found.abstained, "agree": found.agree, "familiar": found.familiar}
        made["set"] = [", ".join(own) for own in found.set]
        return pd.DataFrame(made).reindex(columns=list(columns(self.predictor)))


def _load_pyfunc(path: str) -> ServedPredictor:
    """MLflow's entry point; `path` is a predictor's folder.

    A network of a study's file is known where that study is found: in `studies/` here, or by MMTUNE_STUDIES.
    """
    know_network(Path(path) / MODEL)
    return ServedPredictor(Predictor.load(Path(path)))


def know_network(folder: Path) -> None:
    """Load the studies' files that a saved model's network and its parts come from, where the user has them."""
    unknown = [kind for kind in kinds_in(read_card(folder)["model"]) if "." in kind and kind not in KNOWN]
    for study in dict.fromkeys(kind.partition(".")[0] for kind in unknown):
        if study in study_files():
            load_study(study)


def write_pyfunc(target: Path, model: Path, card: Mapping[str, Any], run_id: str, usual: Usual = NOTHING) -> None:
    """Write a predictor as a pyfunc model into the new folder `target`; MLflow reads it and nothing is pickled."""
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    packages = {"mmtune": mmtune.__version__, **{name: installed(name) for name in ("torch", "numpy", "safetensors")}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        made = Path(folder) / PREDICTOR
        save_predictor(made, model, card, usual)
        save_model(
            str(target),
            loader_module=__name__,
            data_path=str(made),
            mlflow_model=Model(artifact_path=REGISTERED, run_id=run_id),
            signature=signature(Predictor.load(made)),
            pip_requirements=[f"{name}=={version.split('+')[0]}" for name, version in packages.items()],
        )


def signature(predictor: Predictor) -> Any:
    """MLflow's signature: a named tensor for each bank, `columns` for the output.

    MLflow enforces it, dropping inputs that it does not name; NaN, empty and unequal batches pass MLflow, and the model
    refuses them.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    tensors = [TensorSpec(dtype_of(form), (-1, *form.shape), name) for name, form in predictor.forms.items()]
    return ModelSignature(Schema(tensors), Schema([ColSpec(kind, name) for name, kind in columns(predictor).items()]))


def columns(predictor: Predictor) -> dict[str, str]:
    """The columns that a model returns, and their MLflow types."""
    alone = {f"{bank}_{what}": kind for bank in predictor.calibration.alone for what, kind in WHAT.items()}
    return {**WHAT, **TRUST, **alone}
