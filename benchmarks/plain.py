"""The other side of every ratio: the file that a competent user writes, with nothing in it to slow it down.

Optuna's `study.optimize` over the trials, a DataLoader over the pairs, `.item()` at every step, `mlflow.log_metric`
for each score of each epoch, `mlflow.pytorch.log_model` for each trial, all threads on one trial at a time. What is
kind to it: the arrays are made float tensors once, Optuna keeps its trials in memory, and the model's requirements
are given, which spares MLflow seconds of finding them out. The loader has no worker processes, which is the fastest
for data in memory: with one or two of them every epoch begins by starting them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import mlflow
import numpy as np
import optuna
import torch
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.printed import printed
from mmtune.base.fields import flatten
from mmtune.data.dataset import Partition, Rows
from mmtune.data.protocols import Split
from mmtune.networks.config import DualCNNConfig
from mmtune.train.recipe import TrialConfig
from mmtune.tune.search import derive_seed

Loader = DataLoader[tuple[Tensor, ...]]
EVALUATION_BATCH = 512


def plain_study(
    configs: Sequence[TrialConfig], partition: Partition, split: Split, root: Path, device: str, seed: int = 0
) -> float:
    """Train every configuration and track it in `root`; returns the best validation macro-F1."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("plain", (root / "artifacts").as_uri()))
    train, validation = tensors(configs[0], partition, split)

    def objective(trial: optuna.Trial) -> float:
        index = trial.suggest_categorical("trial", range(len(configs)))
        with mlflow.start_run():
            mlflow.log_params(flatten(configs[index]))
            model, best = plain_trial(configs[index], train, validation, device, derive_seed(seed, index))
            requirements = [f"torch=={torch.__version__}"]
            mlflow.pytorch.log_model(model, name="model", pip_requirements=requirements, serialization_format="pickle")
        return best

    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.GridSampler({"trial": list(range(len(configs)))})
    )
    study.optimize(objective, n_trials=len(configs))
    return study.best_value


def tensors(config: TrialConfig, partition: Partition, split: Split) -> tuple[TensorDataset, TensorDataset]:
    """Training and validation rows: what the model reads as float32, and the label last."""
    read = reading(config, partition, split)
    return read(partition, split.train), read(partition, split.validation)


def reading(config: TrialConfig, partition: Partition, split: Split) -> Callable[[Partition, Rows], TensorDataset]:
    """What makes tensors of rows of any partition, sounds scaled by the training rows where the model wants that."""
    scaler = None
    if isinstance(config.model, DualCNNConfig):
        audio = partition.banks["audio"]
        scaler = StandardScaler().fit(audio.values[audio.index[split.train]].reshape(len(split.train), -1))

    def of(partition: Partition, rows: Rows) -> TensorDataset:
        image, audio = partition.banks["image"], partition.banks["audio"]
        clips = np.array(audio.values)
        if scaler is not None:
            clips = scaler.transform(clips.reshape(len(clips), -1)).reshape(clips.shape)
        seen = torch.from_numpy(image.values[image.index[rows]]).unsqueeze(1).float() / 255
        heard = torch.from_numpy(clips[audio.index[rows]])
        read = [tensor for name, tensor in (("image", seen), ("audio", heard)) if name in config.model.reads]
        return TensorDataset(*read, torch.from_numpy(partition.labels[rows]))

    return of


def plain_trial(
    config: TrialConfig,
    train: TensorDataset,
    validation: TensorDataset,
    device: str,
    seed: int,
    on_epoch: Callable[[nn.Module, int, float], None] = lambda model, epoch, score: None,
) -> tuple[nn.Module, float]:
    """Train one configuration, logging each score of each epoch; its model and best validation macro-F1.

    on_epoch: is told of the validation macro-F1 of every epoch.
    """
    torch.manual_seed(seed)
    size, pinned = config.train.batch_size, device.startswith("cuda")
    # Batch norm cannot train on a last batch of one row.
    train_loader = DataLoader(train, size, shuffle=True, drop_last=len(train) % size == 1, pin_memory=pinned)
    validation_loader = DataLoader(validation, EVALUATION_BATCH, pin_memory=pinned)
    model = printed(config.model).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.train.learning_rate)
    loss_function = loss_of(config, train.tensors[-1]).to(device)
    best = 0.0
    for epoch in range(1, config.train.epochs + 1):
        scores = {
            **train_epoch(model, optimizer, loss_function, train_loader, device),
            **evaluate(model, validation_loader, device),
        }
        for name, value in scores.items():
            mlflow.log_metric(name, value, step=epoch)
        on_epoch(model, epoch, scores["val_macro_f1"])
        best = max(best, scores["val_macro_f1"])
    return model, best


def loss_of(config: TrialConfig, labels: Tensor) -> nn.CrossEntropyLoss:
    """Cross-entropy, its classes weighted where the configuration says so."""
    if not config.train.class_weights:
        return nn.CrossEntropyLoss()
    weights = compute_class_weight("balanced", classes=np.unique(labels.numpy()), y=labels.numpy())
    return nn.CrossEntropyLoss(torch.from_numpy(weights).float())


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss_function: nn.Module, loader: Loader, device: str
) -> dict[str, float]:
    """One pass of training; its scores."""
    model.train()
    total, labels, predictions = 0.0, [], []
    for *inputs, label in loader:
        inputs, label = [tensor.to(device, non_blocking=True) for tensor in inputs], label.to(device, non_blocking=True)
        optimizer.zero_grad()
        logits = model(*inputs)
        loss = loss_function(logits, label)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(label)
        labels.append(label.cpu())
        predictions.append(logits.argmax(1).cpu())
    return scores("train", total, torch.cat(labels), torch.cat(predictions))


@torch.no_grad()
def evaluate(model: nn.Module, loader: Loader, device: str) -> dict[str, float]:
    """One pass of validation; its scores."""
    model.eval()
    total, labels, predictions = 0.0, [], []
    for *inputs, label in loader:
        logits = model(*(tensor.to(device) for tensor in inputs))
        total += nn.functional.cross_entropy(logits, label.to(device)).item() * len(label)
        labels.append(label)
        predictions.append(logits.argmax(1).cpu())
    return scores("val", total, torch.cat(labels), torch.cat(predictions))


def scores(prefix: str, total: float, labels: Tensor, predictions: Tensor) -> dict[str, float]:
    """Mean loss, accuracy and macro-F1."""
    return {
        f"{prefix}_loss": total / len(labels),
        f"{prefix}_accuracy": float(accuracy_score(labels, predictions)),
        f"{prefix}_macro_f1": float(f1_score(labels, predictions, average="macro")),
    }
