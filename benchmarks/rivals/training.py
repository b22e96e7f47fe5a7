"""The training that the rivals share: tensors that stay where they are, and a line in a journal for every epoch.

It imports nothing that a process which trains one trial can do without, since some tools start one for each.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.printed import printed
from benchmarks.rivals.asked import SCORE, Asked
from mmtune.study.space import Value
from mmtune.train.metrics import accuracy, confusion, macro_f1
from mmtune.train.recipe import TrialConfig

EPOCHS, WEIGHTS = "epochs.jsonl", "weights"
EVALUATION_BATCH = 1024
Tensors = tuple[Tensor, ...]
OnEpoch = Callable[[int, Mapping[str, float]], bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """Rows to train on and to validate on: what the network reads, and the labels last."""

    train: Tensors
    validation: Tensors


class Journal:
    """What a trial leaves in the side's folder: a line for each epoch, and its best weights with what was drawn."""

    def __init__(self, asked: Asked, trial: str, values: Mapping[str, Value]) -> None:
        self.path, self.trial, self.values = asked.folder / EPOCHS, trial, dict(values)
        self.weights = asked.folder / WEIGHTS / f"{trial}.pt"
        self.weights.parent.mkdir(exist_ok=True)
        self.best = -1.0

    def epoch(self, model: nn.Module, epoch: int, score: float) -> None:
        """A trial has an epoch more."""
        line = json.dumps({"trial": self.trial, "epoch": epoch, "time": time.time(), "score": score})
        with self.path.open("a") as file:
            file.write(line + "\n")
        if score > self.best:
            self.best = score
            torch.save({"values": self.values, "weights": model.state_dict()}, self.weights)


def train(config: TrialConfig, data: Data, seed: int, journal: Journal, on_epoch: OnEpoch) -> float:
    """Train one configuration; its best validation macro-F1. on_epoch: hears each epoch's scores; False ends it."""
    torch.manual_seed(seed)
    model = printed(config.model)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.train.learning_rate, fused=True)
    loss_function = nn.CrossEntropyLoss(class_weights(data.train[-1]) if config.train.class_weights else None)
    for epoch in range(1, config.train.epochs + 1):
        loss = train_epoch(model, optimizer, loss_function, data.train, config.train.batch_size)
        scores = {"train_loss": loss, **evaluate(model, data.validation)}
        journal.epoch(model, epoch, scores[SCORE])
        if not on_epoch(epoch, scores):
            break
    return journal.best


def class_weights(labels: Tensor) -> Tensor:
    """The inverse of each class's frequency, (C,)."""
    counts = torch.bincount(labels)
    return len(labels) / (len(counts) * counts.float())


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss_function: nn.Module, rows: Tensors, size: int
) -> float:
    """One pass of training; its mean loss."""
    model.train()
    total, count = torch.zeros(()), len(rows[-1])
    for chosen in torch.randperm(count).split(size):
        # Batch norm cannot train on one row.
        if len(chosen) == 1:
            continue
        *inputs, labels = (tensor[chosen] for tensor in rows)
        optimizer.zero_grad()
        loss = loss_function(model(*inputs), labels)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(chosen)
    return total.item() / count


@torch.no_grad()
def evaluate(model: nn.Module, rows: Tensors) -> dict[str, float]:
    """Mean loss, accuracy and macro-F1 over rows."""
    model.eval()
    *inputs, labels = rows
    parts = zip(*(tensor.split(EVALUATION_BATCH) for tensor in inputs), strict=True)
    logits = torch.cat([model(*part) for part in parts])
    counts = confusion(labels, logits.argmax(1), logits.shape[1])
    loss = float(nn.functional.cross_entropy(logits, labels))
    return {"val_loss": loss, "val_accuracy": accuracy(counts), SCORE: macro_f1(counts)}


def saved(asked: Asked, trial: str) -> tuple[nn.Module, TrialConfig]:
    """The network of a trial with its best weights, and its configuration."""
    kept: dict[str, Any] = torch.load(asked.folder / WEIGHTS / f"{trial}.pt")
    config = asked.config(kept["values"])
    model = printed(config.model)
    model.load_state_dict(kept["weights"])
    return model.eval(), config


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The epochs of all trials in order of time; half a line, which a kill leaves, does not count."""
    path = folder / EPOCHS
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return sorted(found, key=lambda line: line["time"])


def best_trial(folder: Path) -> str:
    """The trial with the best epoch of all."""
    return str(max(read_journal(folder), key=lambda line: line["score"])["trial"])
