"""AutoGluon on a table, as its users run it, in an environment that has it: see benchmarks/best_sides.py.

    python autogluon_tables.py ROWS.npz SECONDS PRESETS FOLDER

ROWS.npz: train (N, F) float32, labels (N,), test (M, F). Writes FOLDER/said.npz: prediction (M,), seconds, model, and
how many models there were.
"""

import sys
import time

import numpy as np
import pandas as pd
from autogluon.tabular import TabularPredictor


def main() -> None:
    rows, seconds, presets, folder = sys.argv[1:]
    told = np.load(rows)
    train, test = (pd.DataFrame(told[side]).add_prefix("x") for side in ("train", "test"))
    train["label"] = told["labels"]
    began = time.monotonic()
    predictor = TabularPredictor(
        label="label", problem_type="multiclass", eval_metric="f1_macro", path=f"{folder}/kept"
    )
    predictor.fit(train, time_limit=float(seconds), presets=presets)
    took = time.monotonic() - began
    prediction = predictor.predict(test).to_numpy(np.int64)
    models = len(predictor.model_names())
    np.savez(f"{folder}/said.npz", prediction=prediction, seconds=took, model=predictor.model_best, models=models)


if __name__ == "__main__":
    main()
