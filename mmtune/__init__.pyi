from . import data, networks
from .api.best import find_best
from .api.loading import load
from .api.outcome import Outcome, Trial
from .api.running import run
from .base.errors import InputError
from .data.dataset import Dataset
from .serve.answer.prediction import Prediction
from .serve.answer.predictor import Predictor
from .study import Metric, Study, catalogue, one_of, under
from .study.space import Categorical, Integer, Real
from .train.augmentations import PictureAugmentation, SoundAugmentation, SpeechAugmentation, VectorAugmentation
from .train.recipe import Train, TrialConfig

__all__ = [
    "Categorical",
    "Dataset",
    "InputError",
    "Integer",
    "Metric",
    "Outcome",
    "PictureAugmentation",
    "Prediction",
    "Predictor",
    "Real",
    "SoundAugmentation",
    "SpeechAugmentation",
    "Study",
    "Train",
    "Trial",
    "TrialConfig",
    "VectorAugmentation",
    "catalogue",
    "data",
    "find_best",
    "load",
    "networks",
    "one_of",
    "run",
    "under",
]

__version__: str
