"""Trials per hour of `audio_rnn` against the loop that people write, run in turn on the same data.

The other side is Optuna's `study.optimize`, a DataLoader over the pairs, `.item()` at every step,
`mlflow.log_metric` for every epoch and `mlflow.pytorch.log_model` for every trial, with all threads on one trial
at a time. Model, data, split, batch size, epochs, optimiser and tracked scores are the same.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import torch
from rich.console import Console
from sklearn.metrics import accuracy_score, f1_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mmtune.config import AudioRNNConfig
from mmtune.data.bundled import sample_folder
from mmtune.data.dataset import Dataset
from mmtune.data.splits import split
from mmtune.data.store import load
from mmtune.models.audio import AudioRNN
from mmtune.plan import Options
from mmtune.run import run_study
from mmtune.study import load_study

BATCH = 64


def plain_study(dataset: Dataset, root: Path, trials: int, epochs: int, device: str) -> None:
    """The grid of `audio_rnn` as a competent user would write it in one file."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("plain", (root / "artifacts").as_uri()))
    train, validation = loaders(dataset)
    grid = {"hidden": [320, 350, 400], "layers": [1, 2]}

    def objective(trial: optuna.Trial) -> float:
        config = AudioRNNConfig(
            hidden=trial.suggest_categorical("hidden", grid["hidden"]),
            layers=trial.suggest_categorical("layers", grid["layers"]),
        )
        model = AudioRNN(config).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        best = 0.0
        with mlflow.start_run():
            mlflow.log_params(trial.params)
            for epoch in range(epochs):
                scores = plain_epoch(model, optimizer, train, device) | plain_evaluation(model, validation, device)
                for name, value in scores.items():
                    mlflow.log_metric(name, value, step=epoch)
                best = max(best, scores["val_macro_f1"])
            mlflow.pytorch.log_model(model, name="model", pip_requirements=["torch"], serialization_format="pickle")
        return best

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler(grid))
    study.optimize(objective, n_trials=trials)


def loaders(dataset: Dataset) -> tuple[DataLoader, DataLoader]:  # type: ignore[type-arg]
    """A shuffled training loader and a validation loader over the rows of the split."""
    made, part = split(dataset.train, "clip_disjoint", 0), dataset.train
    sets = [
        TensorDataset(torch.from_numpy(part.clips[part.clip_index[rows]]), torch.from_numpy(part.labels[rows]))
        for rows in (made.train, made.validation)
    ]
    return DataLoader(sets[0], BATCH, shuffle=True, drop_last=True), DataLoader(sets[1], 1024)


def plain_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader, device: str
) -> dict[str, float]:  # type: ignore[type-arg]
    """One pass of training."""
    model.train()
    total, labels, said = 0.0, [], []
    for audio, label in loader:
        audio, label = audio.to(device), label.to(device)
        logits = model(None, audio).logits
        loss = nn.functional.cross_entropy(logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(label)
        labels.append(label.cpu().numpy())
        said.append(logits.argmax(1).cpu().numpy())
    return scores("train", total, np.concatenate(labels), np.concatenate(said))


@torch.no_grad()
def plain_evaluation(model: nn.Module, loader: DataLoader, device: str) -> dict[str, float]:  # type: ignore[type-arg]
    """One pass of validation."""
    model.eval()
    total, labels, said = 0.0, [], []
    for audio, label in loader:
        logits = model(None, audio.to(device)).logits
        total += nn.functional.cross_entropy(logits, label.to(device)).item() * len(label)
        labels.append(label.numpy())
        said.append(logits.argmax(1).cpu().numpy())
    return scores("val", total, np.concatenate(labels), np.concatenate(said))


def scores(prefix: str, total: float, labels: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """Loss, accuracy and macro-F1."""
    return {
        f"{prefix}_loss": total / len(labels),
        f"{prefix}_accuracy": float(accuracy_score(labels, said)),
        f"{prefix}_macro_f1": float(f1_score(labels, said, average="macro")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a data set's folder; the bundled sample if not given")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dataset = load(given.data or sample_folder())
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in ("plain", "mmtune"):
            root = Path(folder) / side
            root.mkdir()
            started = time.perf_counter()
            if side == "plain":
                plain_study(dataset, root, given.trials, given.epochs, given.device)
            else:
                options = Options(trials=given.trials, epochs=given.epochs, device=given.device)
                run_study(load_study("audio_rnn"), dataset, options, root, Console(quiet=True))
            seconds[side] = time.perf_counter() - started
    for side, taken in seconds.items():
        print(f"{side:7} {given.trials / taken * 3600:10.0f} trials per hour")
    budget = f"{dataset.name}, {given.trials} trials of {given.epochs} epochs, {given.device}"
    print(f"ratio   {seconds['plain'] / seconds['mmtune']:10.2f}  ({budget})")


if __name__ == "__main__":
    main()
