"""One valid file for each reader, and the readers: each takes a folder in which a file of its name was changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from valid_data import DATA_READERS, Reader, file_of, reading

from mmtune.data.features import FeatureStats
from mmtune.networks.build import build_model
from mmtune.networks.card import CARD, WEIGHTS
from mmtune.networks.config import AudioRNNConfig
from mmtune.serve.predictor import FEATURES, MODEL, Predictor, save_predictor, seal
from mmtune.train.adam import Adam
from mmtune.train.answers import read_answers
from mmtune.train.checkpoint import OPTIMIZER, checkpoint_of, load_checkpoint, save_checkpoint
from mmtune.train.staging import (
    EPOCHS,
    RESULT,
    RUN,
    Point,
    Result,
    StagedRun,
    append_epoch,
    read_epochs,
    read_result,
    read_runs,
    write_result,
)


def make_model(folder: Path) -> None:
    torch.manual_seed(0)
    config = AudioRNNConfig(hidden=2)
    model = build_model(config)
    save_checkpoint(folder / MODEL, checkpoint_of(model, Adam(model.parameters(), 1e-3)), config)
    stats = FeatureStats(mean=(0.1,) * 13, std=(0.5,) * 13, low=-1.7, high=2.3).to_json()
    save_predictor(folder / "predictor", folder / MODEL, {"features": stats, "data": {"name": "made"}})


def mend_weights(folder: Path) -> None:
    """The card's SHA-256 made that of the weights."""
    own = folder / "predictor" / MODEL
    card = json.loads((own / CARD).read_bytes())
    card["sha256"] = hashlib.sha256((own / WEIGHTS).read_bytes()).hexdigest()
    (own / CARD).write_text(json.dumps(card))


def mend_features(folder: Path) -> None:
    """The seal made that of what the card says, where it is JSON at all."""
    path = folder / "predictor" / FEATURES
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    if isinstance(content, dict):
        content.pop("sha256", None)
        path.write_text(json.dumps({**content, "sha256": seal(content)}))


def predict_once(folder: Path) -> None:
    """A model that loads says something of a clip, or refuses."""
    clip = np.random.default_rng(5).random((2, 39, 13), dtype=np.float32)
    require_sound(Predictor.load(folder / "predictor").predict(None, clip))


def require_sound(prediction: Any) -> None:
    """Digits, and probabilities that are some."""
    shares = prediction.probabilities
    assert shares.shape == (len(prediction.digit), 10)
    assert np.isfinite(shares).all()
    assert shares.min() >= 0
    assert shares.max() <= 1 + 1e-6
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-4)
    assert set(prediction.digit.tolist()) <= set(range(10))


def make_answers(folder: Path) -> None:
    rows = {name: np.arange(6) for name in ("row", "label", "prediction", "recording")}
    embedding = np.random.default_rng(6).random((6, 4), dtype=np.float32)
    np.savez(folder / "rows.npz", **rows, embedding=embedding, parts=np.array(["a", "b"]), widths=np.array([2, 2]))


def make_staged(folder: Path) -> None:
    """A run in staging that has ended, and that the store has not heard of."""
    now, own = 1_700_000_000_000, folder / "run"
    StagedRun(id="ab" * 16, number=3, name="03", started=now, folder=own, params={"model.kernel": 5}).write()
    for n in (1, 2, 3):
        append_epoch(own, Point(epoch=n, time=now + n, metrics={"loss": 0.5 / n}))
    write_result(own, Result(state="COMPLETE", time=now + 4, metrics={"best_val_macro_f1": 0.5}))


def read_staged(folder: Path) -> None:
    """As a study does that is resumed."""
    for run in read_runs(folder):
        read_epochs(run.folder)
        assert run.result is None or isinstance(run.result, Result)


def some_answers(path: Path) -> Any:
    return read_answers(path, ("row", "label", "prediction", "embedding", "parts"))


READERS: Mapping[str, Reader] = {
    **DATA_READERS,
    "card": Reader(make=make_model, file=f"predictor/{MODEL}/{CARD}", read=predict_once),
    "weights": Reader(make=make_model, file=f"predictor/{MODEL}/{WEIGHTS}", read=predict_once, mend=mend_weights),
    "features": Reader(make=make_model, file="predictor/features.json", read=predict_once, mend=mend_features),
    "checkpoint": Reader(make=make_model, file=f"{MODEL}/{OPTIMIZER}", read=reading(load_checkpoint, MODEL)),
    "answers": file_of(make_answers, "rows.npz", some_answers),
    "staged": Reader(make=make_staged, file=f"run/{RUN}", read=read_staged),
    "epochs": Reader(make=make_staged, file=f"run/{EPOCHS}", read=reading(read_epochs, "run")),
    "result": Reader(make=make_staged, file=f"run/{RESULT}", read=reading(read_result, "run")),
}
