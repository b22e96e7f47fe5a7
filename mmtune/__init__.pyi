from . import data, networks
from .api.loading import load
from .api.outcome import Outcome, Trial
from .api.running import run
from .base.errors import InputError
from .data.dataset import Dataset
from .serve.predictor import Prediction, Predictor
from .study import Study
from .study.space import Categorical, Integer, Real
from .train.recipe import Train, TrialConfig

__all__ = [
    "Categorical",
    "Dataset",
    "InputError",
    "Integer",
    "Outcome",
    "Prediction",
    "Predictor",
    "Real",
    "Study",
    "Train",
    "Trial",
    "TrialConfig",
    "data",
    "load",
    "networks",
    "run",
]

__version__: str
