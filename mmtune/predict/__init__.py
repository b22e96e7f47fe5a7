"""Raw or prepared inputs to digits with probabilities; everything that comes in is checked."""

from mmtune.predict.predictor import (
    Prediction,
    Predictor,
    describe,
    predict_files,
    predict_partition,
    write_submission,
)

__all__ = ["Prediction", "Predictor", "describe", "predict_files", "predict_partition", "write_submission"]
