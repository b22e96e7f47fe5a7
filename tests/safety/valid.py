"""One valid file for each reader, and the readers: each takes a folder in which a file of its name was changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from calibrated import never_wrong
from valid_data import DATA_READERS, FORMS, Reader, file_of, reading

from mmtune.base.sealed import seal
from mmtune.data.digits import DIGITS
from mmtune.data.forms import form_to_json
from mmtune.networks.card import CARD, WEIGHTS
from mmtune.networks.config import AudioRNNConfig
from mmtune.networks.shapes import Shapes
from mmtune.serve.answer.predictor import INPUTS, MODEL, Predictor, save_predictor
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
    config, shapes = AudioRNNConfig(hidden=2), Shapes(banks={"image": (1, 28, 28), "audio": (39, 13)}, classes=10)
    model = config.build(shapes)
    save_checkpoint(folder / MODEL, checkpoint_of(model, Adam(model.parameters(), 1e-3)), config, shapes)
    forms = {name: form_to_json(form) for name, form in FORMS.items()}
    card = {"forms": forms, "classes": list(DIGITS), "data": {"name": "made"}, "missing": ["image"]}
    save_predictor(folder / "predictor", folder / MODEL, {**card, "calibration": never_wrong().told()})


def mend_weights(folder: Path) -> None:
    """The card's SHA-256 made that of the weights."""
    own = folder / "predictor" / MODEL
    card = json.loads((own / CARD).read_bytes())
    card["sha256"] = hashlib.sha256((own / WEIGHTS).read_bytes()).hexdigest()
    (own / CARD).write_text(json.dumps(card))


def mend_inputs(folder: Path) -> None:
    """The seal made that of what the card says, where it is JSON at all."""
    path = folder / "predictor" / INPUTS
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    if isinstance(content, dict):
        content.pop("sha256", None)
        path.write_text(json.dumps({**content, "sha256": seal(content)}))


def predict_once(folder: Path) -> None:
    """A model that loads says something of a clip and of a recording, or refuses."""
    predictor = Predictor.load(folder / "predictor")
    clip = np.random.default_rng(5).random((2, 39, 13), dtype=np.float32)
    soundfile.write(folder / "x.wav", 0.4 * np.sin(np.arange(700) / 5), 8000)
    require_sound(predictor.predict_values(audio=clip))
    require_sound(predictor.predict(audio=folder / "x.wav"))


def require_sound(prediction: Any) -> None:
    """Classes, and probabilities that are some."""
    shares = prediction.probabilities
    assert shares.shape == (len(prediction.label), len(prediction.classes))
    assert np.isfinite(shares).all()
    assert shares.min() >= 0
    assert shares.max() <= 1 + 1e-6
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-4)
    assert set(prediction.names) <= set(prediction.classes)


def make_answers(folder: Path) -> None:
    rows = {name: np.arange(6) for name in ("row", "label", "prediction", "unit")}
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
    "inputs": Reader(make=make_model, file=f"predictor/{INPUTS}", read=predict_once, mend=mend_inputs),
    "checkpoint": Reader(make=make_model, file=f"{MODEL}/{OPTIMIZER}", read=reading(load_checkpoint, MODEL)),
    "answers": file_of(make_answers, "rows.npz", some_answers),
    "staged": Reader(make=make_staged, file=f"run/{RUN}", read=read_staged),
    "epochs": Reader(make=make_staged, file=f"run/{EPOCHS}", read=reading(read_epochs, "run")),
    "result": Reader(make=make_staged, file=f"run/{RESULT}", read=reading(read_result, "run")),
}
