"""A trial in a folder: train, analyse, and leave behind a model and its embeddings."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmtune.analysis.clusters import MOST_CLUSTERS, count_classes, embedding_scores
from mmtune.analysis.embeddings import split_parts
from mmtune.base.files import write_whole
from mmtune.data.dataset import Rows as RowNumbers
from mmtune.data.protocols import RANDOM, Split
from mmtune.networks.card import CALIBRATION, FINAL, HELD, MAPS, MODEL, SOUND, VALIDATION
from mmtune.networks.output import count_parameters
from mmtune.networks.randomness import Randomness
from mmtune.networks.storage import load_model, save_model
from mmtune.train.batches import Resident, Rows
from mmtune.train.calibration import calibrate
from mmtune.train.calibration_file import write_calibration
from mmtune.train.checkpoint import (
    DamagedError,
    Moment,
    going_on,
    load_checkpoint,
    load_moment,
    save_checkpoint,
    save_moment,
)
from mmtune.train.costs import costs
from mmtune.train.evaluate import Evaluation, evaluate
from mmtune.train.fit import FitResult, OnEpoch, fit
from mmtune.train.metrics import every_metric
from mmtune.train.objective import MACRO_F1, Objective
from mmtune.train.recipe import TrialConfig
from mmtune.train.robustness import robustness
from mmtune.train.staging import CHECKPOINT, FILES, WEIGHTS, Result, now_ms, read_epochs, write_result
from mmtune.train.step import DivergenceError


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a trial starts from: by bank, the folder of a trained encoder; and a checkpoint's folder to go on from.

    With neither, the weights are fresh.
    """

    encoders: Mapping[str, Path] = field(default_factory=dict)
    checkpoint: Path | None = None


def run_trial(
    config: TrialConfig,
    data: Resident,
    split: Split,
    seed: int,
    folder: Path,
    on_epoch: OnEpoch,
    origin: Origin = Origin(),
    every: float = math.inf,
    on_saved: Callable[[], None] = lambda: None,
    objective: Objective = MACRO_F1,
    protocol: str = RANDOM,
) -> Result:
    """Train where the data are, leave everything in `folder`, and last how it ended, which is returned too.

    protocol: what divided the rows, and so what is one piece of evidence among them.

    Every so many seconds the folder gets a checkpoint, and `on_saved` is called; where it has one of this training,
    that goes on from there. Written in its `files/`: `model/`, `validation.npz`, `calibration.json`; for a fold
    `held.npz`, what it says of the rows held out; `final/`, the last epoch, where the configuration keeps it;
    `maps.npz`, where the model has maps.
    """
    rows = data.rows(config.model.reads)
    train, validation = take(rows, split.train), take(rows, split.validation)
    checkpoint = None if origin.checkpoint is None else load_checkpoint(origin.checkpoint)
    encoders = {bank: load_model(saved).model.state_dict() for bank, saved in origin.encoders.items()}

    def keep(reached: Moment) -> None:
        save_moment(folder / CHECKPOINT, reached)
        on_saved()

    try:
        moment = load_moment(folder / CHECKPOINT)
        tell_again(moment, folder, on_epoch)
        result = fit(
            config, train, validation, seed, on_epoch, encoders, checkpoint, moment, keep, every, objective.first
        )
    except DamagedError:
        # Another attempt begins again.
        (folder / CHECKPOINT).unlink(missing_ok=True)
        raise
    # What an earlier attempt at this very ending has left would be taken for ours.
    shutil.rmtree(folder / FILES, ignore_errors=True)
    files = folder / FILES
    files.mkdir(parents=True)
    # A network may draw in whatever it is asked, as the user's own do.
    random = Randomness(seed, data.device)
    with random:
        found = evaluate(result.model, validation)
        measured = {**costs(objective, result.model, validation), **robustness(objective, result.model, validation)}
    if bool(found.logits.isfinite().all()) and not bool(found.embedding.isfinite().all()):
        raise DivergenceError("the embedding of validation rows must be finite for a trial to tell how they lie")
    metrics = final_metrics(result, found, train, seed, objective) | measured
    lacking = ", ".join(name for name in objective.names if math.isnan(metrics.get(name, math.nan)))
    if lacking:
        raise DivergenceError(f"{lacking} must be a number for a trial to be told from others, this one has none")
    if not all(bool(own.isfinite().all()) for own in (found.logits, *found.alone.values())):
        raise DivergenceError("logits of validation rows must be finite for a trial to say how sure it is")
    save_model(files / MODEL, result.model, config.model, data.shapes)
    with random:
        held = None if split.held is None else evaluate(result.model, take(rows, split.held))
        maps = maps_of(result.model, validation, split.validation)
    metrics |= write_rows(files, found, held, rows, data.units(protocol), split, objective)
    if result.final is not None:
        save_checkpoint(files / FINAL, result.final, config.model, data.shapes)
        final = load_model(files / FINAL).model
        with random:
            last = evaluate(final.to(data.device), validation)
        metrics |= last.scores("final_val")
    if maps:
        write_whole(files / MAPS, npz(maps))
    state, told = "PRUNED" if result.pruned else "COMPLETE", {WEIGHTS: str(count_parameters(result.model))}
    ended = Result(state=state, time=now_ms(), metrics=metrics, tags=told)
    write_result(folder, ended)
    return ended


def tell_again(moment: Moment | None, folder: Path, on_epoch: OnEpoch) -> None:
    """Tell of the epochs that a checkpoint knows and the folder does not: a power cut may cost the end of a file."""
    recorded = max((point.epoch for point in read_epochs(folder)), default=0)
    with going_on():
        missing = [] if moment is None else moment.story["history"][recorded:]
    for epoch, metrics in enumerate(missing, start=recorded + 1):
        on_epoch(epoch, metrics)


def take(rows: Rows, numbers: RowNumbers) -> Rows:
    """The rows of the given numbers."""
    return rows.take(torch.from_numpy(numbers).to(rows.labels.device))


def write_rows(
    files: Path,
    found: Evaluation,
    held: Evaluation | None,
    rows: Rows,
    units: RowNumbers,
    split: Split,
    objective: Objective,
) -> dict[str, float]:
    """Write what a model says of the rows that validate and of those held out, and how sure it may be; its metrics."""
    write_whole(files / VALIDATION, rows_file(found, split.validation, units[split.validation]))
    calibration = calibrate(found, units[split.validation], present(take(rows, split.validation)))
    write_calibration(files / CALIBRATION, calibration)
    if split.held is None or held is None:
        return calibration.metrics()
    write_whole(files / HELD, rows_file(held, split.held, units[split.held]))
    scores = finite(held.scores("held", *every_metric(objective, rows.shapes.classes)))
    return {**calibration.metrics(), **scores, **held.scaled("held", calibration.fused.temperature)}


def present(rows: Rows) -> dict[str, NDArray[np.bool_]]:
    """By bank, which rows have a value in it, (N,)."""
    return {name: (held.index >= 0).cpu().numpy() for name, held in rows.banks.items()}


def final_metrics(
    result: FitResult, found: Evaluation, train: Rows, seed: int, objective: Objective
) -> dict[str, float]:
    """Scores of the best epoch, F1 of each class, how each part of the embedding clusters, sizes and times."""
    measured = finite(found.scores("val", *every_metric(objective, found.logits.shape[1])))
    return {
        "epoch_at_best": result.best_epoch,
        **{objective.at_best(name): value for name, value in measured.items()},
        **found.details("val"),
        **finite(cluster_metrics(found, seed)),
        "epochs_trained": len(result.history),
        "fit_seconds": result.seconds,
        "rows_per_second": len(train) * len(result.history) / result.seconds,
    }


def finite(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores that say something: of rows of one class there is no AUROC."""
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def cluster_metrics(found: Evaluation, seed: int) -> dict[str, float]:
    """`embedding_scores` of the whole embedding as val_ari and so on, and of its parts as val_ari_image and so on."""
    labels, embedding = found.labels.cpu().numpy(), found.embedding.float().cpu().numpy()
    if count_classes(labels) > MOST_CLUSTERS:
        return {}
    parts = split_parts(embedding, list(found.parts), list(found.parts.values()))
    by_part = embedding_scores(labels, parts, seed % 2**32)
    whole = by_part.pop(list(by_part)[-1])
    named = {f"val_{score}_{part}": value for part, own in by_part.items() for score, value in own.items()}
    return {**{f"val_{score}": value for score, value in whole.items()}, **named}


def rows_file(found: Evaluation, numbers: RowNumbers, unit: RowNumbers) -> bytes:
    """An .npz of row, label, prediction, unit (N,) int64 and embedding (N, E) float32 of evaluated rows.

    unit: what rows share that are one piece of evidence, such as a recording or a patient.
    parts (P,) str and widths (P,) int64 name what the embedding is the concatenation of.
    """
    return npz(
        {
            "row": numbers,
            "label": found.labels.cpu().numpy(),
            "unit": unit,
            "prediction": found.predictions.cpu().numpy(),
            "embedding": found.embedding.cpu().numpy(),
            "parts": np.array(list(found.parts)),
            "widths": np.array(list(found.parts.values()), dtype=np.int64),
        }
    )


@torch.no_grad()
def maps_of(model: nn.Module, rows: Rows, numbers: RowNumbers) -> dict[str, NDArray[Any]]:
    """A model's maps, (R, ...) float32 by name, of the first row of each class, and row, label (R,); {} without any.

    Beside maps over time (R, T, H, W) stands what they were made from: sound (R, T, K).
    """
    maps = getattr(model, "maps", None)
    if maps is None:
        return {}
    labels = rows.labels.cpu().numpy()
    _, first = np.unique(labels, return_index=True)
    inputs, _ = rows.batch(torch.from_numpy(first).to(rows.labels.device))
    shown = {name: value.float().cpu().numpy() for name, value in maps(**inputs).items()}
    if "audio" in inputs and any(value.ndim == 4 for value in shown.values()):
        shown[SOUND] = inputs["audio"].float().cpu().numpy()
    return {"row": numbers[first], "label": labels[first], **shown} if shown else {}


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays by name as the bytes of an .npz."""
    buffer = BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
