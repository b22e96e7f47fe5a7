"""A trial in a folder: train, analyse, and leave behind a model and its validation embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from mmtune.analysis.clusters import cluster_scores, kmeans_labels
from mmtune.config import TrialConfig
from mmtune.data.dataset import Partition
from mmtune.data.splits import Split
from mmtune.files import write_whole
from mmtune.models.build import count_parameters
from mmtune.models.storage import load_model, save_model
from mmtune.train.batches import Rows, rows_of
from mmtune.train.evaluate import Evaluation, evaluate
from mmtune.train.fit import Encoders, FitResult, OnEpoch, fit

MODEL, VALIDATION = "model", "validation.npz"


def run_trial(
    config: TrialConfig,
    partition: Partition,
    split: Split,
    seed: int,
    folder: Path,
    device: torch.device,
    on_epoch: OnEpoch,
    encoders: Mapping[str, Path] | None = None,
) -> tuple[dict[str, float], bool]:
    """Train and write `model/` and `validation.npz` into `folder`; returns the final metrics and whether it was pruned.

    encoders: by modality, the folder of a trained model to start from.
    """
    rows = rows_of(partition, config.model.modalities, device)
    train, validation = (rows.take(torch.from_numpy(part).to(device)) for part in (split.train, split.validation))
    result = fit(config, train, validation, seed, on_epoch, load_states(encoders or {}) or None)
    found = evaluate(result.model, validation)
    save_model(folder / MODEL, result.model, config.model)
    write_whole(folder / VALIDATION, validation_file(found, split))
    return final_metrics(result, found, train, seed), result.pruned


def load_states(encoders: Mapping[str, Path]) -> Encoders:
    """The weights of saved models, by modality."""
    return {modality: load_model(folder)[0].state_dict() for modality, folder in encoders.items()}


def final_metrics(result: FitResult, found: Evaluation, train: Rows, seed: int) -> dict[str, float]:
    """Scores of the best epoch, per-class F1, agreement of K-means with the labels, sizes and times."""
    labels, embedding = found.labels.cpu().numpy(), found.embedding.cpu().numpy()
    clusters = cluster_scores(labels, kmeans_labels(embedding, seed % 2**32))
    return {
        "best_epoch": result.best_epoch,
        **{f"best_{name}": value for name, value in found.scores("val").items()},
        **found.details("val"),
        **{f"val_{name}": value for name, value in clusters.items()},
        "parameters": count_parameters(result.model),
        "epochs_trained": len(result.history),
        "fit_seconds": result.seconds,
        "rows_per_second": len(train) * len(result.history) / result.seconds,
    }


def validation_file(found: Evaluation, split: Split) -> bytes:
    """An .npz of row (N,), label (N,), prediction (N,) int64 and embedding (N, E) float32 of the validation rows."""
    buffer = BytesIO()
    np.savez(
        buffer,
        row=split.validation,
        label=found.labels.cpu().numpy(),
        prediction=found.predictions.cpu().numpy(),
        embedding=found.embedding.cpu().numpy(),
    )
    return buffer.getvalue()
