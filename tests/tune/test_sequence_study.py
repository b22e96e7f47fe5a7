"""A sequence file of the user's own, from the file to a cross-validated study and its comparison."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.figure import draw_rows
from mmtune.data.info import lines
from mmtune.data.storage.store import load
from mmtune.networks.card import MODEL
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import load_model
from mmtune.report.comparing import answers_of, compared, matching
from mmtune.report.page import write_report
from mmtune.serve.promotion import promote
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.tracking import COMPLETE, MlflowTracker
from mmtune.tune.run import run_study

QUIET = Console(quiet=True)
CLASSES, PERSONS, STEPS = 4, 6, 9


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """96 sequences of up to nine steps, of four letters and six persons."""
    rng = np.random.default_rng(0)
    labels = np.arange(96) % CLASSES
    lengths = rng.integers(5, STEPS + 1, len(labels))
    means, faces = rng.normal(0, 1, (CLASSES, 5)), rng.uniform(0, 0.6, (CLASSES, 20, 24))
    frames = np.clip(faces[labels][:, None] + rng.normal(0, 0.1, (96, STEPS, 20, 24)), 0, 1)
    path = tmp_path_factory.mktemp("sequences") / "spoken.npz"
    np.savez_compressed(
        path,
        frames=(255 * frames).astype(np.uint8),
        mfcc=(means[labels][:, None] + rng.normal(0, 0.5, (96, STEPS, 5))).astype(np.float32),
        lengths=lengths,
        labels=labels,
        person=np.array([f"p{n // CLASSES % PERSONS}" for n in range(96)]),
    )
    return load(path)


def test_a_sequence_file_is_described_and_drawn(spoken: Dataset, tmp_path: Path) -> None:
    text = "\n".join(lines(spoken))
    assert "96 rows" in text
    assert re.search(r"speaker +6 in training", text)
    assert "speaker_disjoint" in text
    draw_rows(spoken, tmp_path / "pairs.png", CLASSES)
    assert (tmp_path / "pairs.png").read_bytes().startswith(b"\x89PNG")


def options(**changes: object) -> Options:
    usual: dict[str, object] = {
        "protocol": "speaker_disjoint",
        "sampler": "reported",
        "epochs": 1,
        "folds": 3,
        "workers": 2,
        "device": "cpu",
        "fixed": {"model.kernel1": 4, "model.kernel2": 2},
    }
    return Options(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["xflow_cnn_mlp", "xflow_lstm"])
def test_persons_are_held_out_in_turn_and_partners_are_compared(
    spoken: Dataset, store: Path, tmp_path: Path, name: str
) -> None:
    for study in (name, f"{name}_baseline"):
        run_study(load_study(study), spoken, options(), store, QUIET)
    tracker = MlflowTracker(store)
    (run,) = tracker.studies(name)
    (trial,) = tracker.trials(run.run_id)
    assert trial.state == COMPLETE
    shapes = load_model(tracker.artifact(trial.run_id, MODEL)).shapes
    assert shapes == Shapes(banks={"image": (STEPS, 20, 24), "audio": (STEPS, 5)}, classes=CLASSES)
    partner = matching(tracker.studies(f"{name}_baseline"), run)
    (found,) = compared([(answers_of(tracker, run, spoken), answers_of(tracker, partner, spoken))])
    assert len(found.own.row) == 96
    assert found.folds is not None
    assert len(found.own.folds) == 3
    page = write_report(tracker, run, load_study(name), (), tmp_path / "page.html").read_text()
    assert "1D-to-2D" in page
    with pytest.raises(InputError, match="spoken must have a test partition for this, it has none"):
        promote(tracker, run, spoken)


def test_models_of_pairs_and_shapes_that_do_not_fit_are_refused(spoken: Dataset, store: Path) -> None:
    with pytest.raises(InputError, match="image must be pictures of 4 channels at most"):
        run_study(load_study("image_cnn"), spoken, options(fixed={}), store, QUIET)
    with pytest.raises(InputError, match="kernel1"):
        run_study(load_study("xflow_cnn_mlp"), spoken, options(fixed={"model.kernel1": 11}), store, QUIET)
