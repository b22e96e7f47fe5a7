"""A training that is cut short and goes on makes the steps that it would have made: to the bit, on this device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.networks.config import (
    AudioRNNConfig,
    DualCNNConfig,
    ImageCNNConfig,
    LatentFusionConfig,
    MultiheadFusionConfig,
    SpectrogramFusionConfig,
    XFlowLSTMConfig,
    XFlowMLPConfig,
)
from mmtune.networks.config.base import ModelConfig
from mmtune.train.batches import Resident, Rows
from mmtune.train.checkpoint import (
    DamagedError,
    Moment,
    load_checkpoint,
    load_moment,
    save_checkpoint,
    save_moment,
)
from mmtune.train.fit import FitResult, fit
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.staging import CHECKPOINT, Point, append_epoch, now_ms, read_epochs
from mmtune.train.trial import run_trial

CPU, EPOCHS = torch.device("cpu"), 5
LATENT = LatentFusionConfig(audio=AudioRNNConfig(hidden=8))
NETWORKS: dict[str, ModelConfig] = {
    "image_cnn": ImageCNNConfig(dropout=0.3),
    "audio_rnn": AudioRNNConfig(hidden=8),
    "audio_rnn, two layers": AudioRNNConfig(hidden=8, view="sequence", layers=2),
    "frozen encoders": LATENT,
    "joint encoders": replace(LATENT, encoders="joint"),
    "multihead_fusion": MultiheadFusionConfig(),
    "dual_cnn_fusion": DualCNNConfig(),
    "spectrogram_fusion": SpectrogramFusionConfig(filters=8, hidden=16),
    "xflow_cnn_mlp": XFlowMLPConfig(),
    "xflow_lstm": XFlowLSTMConfig(),
}
FAST = ("image_cnn", "audio_rnn", "frozen encoders", "dual_cnn_fusion")
CASES = [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in NETWORKS]


def config_of(model: ModelConfig, **how: Any) -> TrialConfig:
    return TrialConfig(model=model, train=Train(**{"epochs": EPOCHS, "batch_size": 24, "keep_final": True, **how}))


def rows_for(dataset: Dataset, model: ModelConfig, device: torch.device = CPU) -> tuple[Rows, Rows]:
    rows = Resident(dataset.train, len(dataset.classes), device).rows(model.reads)
    return rows.take(torch.arange(0, 72, device=device)), rows.take(torch.arange(72, 120, device=device))


def trained(
    config: TrialConfig, rows: tuple[Rows, Rows], moment: Moment | None = None, encoders: Any = None
) -> tuple[FitResult, list[Moment]]:
    """A training, and where it stood after each epoch but the last."""
    found: list[Moment] = []
    result = fit(config, *rows, 5, encoders=encoders, moment=moment, on_moment=found.append, every=0.0)
    return result, found


def told(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """A history without how long it took."""
    return [{name: value for name, value in own.items() if name != "epoch_seconds"} for own in history]


def assert_same(first: FitResult, second: FitResult) -> None:
    """Weights of the best epoch and of the last, the optimiser's state, the history: to the bit."""
    assert told(first.history) == told(second.history)
    assert (first.best_epoch, first.pruned) == (second.best_epoch, second.pruned)
    assert first.final is not None
    assert second.final is not None
    for mine, theirs in (
        (first.model.state_dict(), second.model.state_dict()),
        (first.final.weights, second.final.weights),
        (first.final.moments, second.final.moments),
    ):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def check(tiny: Dataset, model: ModelConfig, path: Path, device: torch.device = CPU, **how: Any) -> None:
    """Cut short after each of its epochs, and gone on with from a file, it ends as it would have ended."""
    config, rows = config_of(model, **how), rows_for(tiny, model, device)
    encoders = None
    if model == LATENT:
        single = {"image": ImageCNNConfig(), "audio": LATENT.audio}
        encoders = {
            name: dict(fit(config_of(own, epochs=1), *rows_for(tiny, own, device), 1).model.state_dict())
            for name, own in single.items()
        }
    whole, moments = trained(config, rows, encoders=encoders)
    assert [len(moment.story["history"]) for moment in moments] == list(range(1, EPOCHS))
    for reached in moments:
        save_moment(path, reached)
        # Nothing that is left of another training may matter.
        torch.manual_seed(99)
        torch.rand(7)
        moment = load_moment(path)
        again, later = trained(config, rows, moment, encoders)
        assert_same(again, whole)
        assert len(later) == len(moments) - moments.index(reached) - 1
        if later:
            # A second time, from where the one that went on had come to.
            assert_same(trained(config, rows, later[0], encoders)[0], whole)


@pytest.mark.parametrize("name", CASES)
def test_cut_short_after_any_epoch_it_ends_as_if_it_had_not_been(tiny: Dataset, tmp_path: Path, name: str) -> None:
    check(tiny, NETWORKS[name], tmp_path / CHECKPOINT)


@pytest.mark.parametrize(
    "how",
    [{"class_weights": True}, pytest.param({"precision": "bfloat16"}, marks=pytest.mark.slow), {"batch_size": 72}],
)
def test_so_it_does_however_it_is_trained(tiny: Dataset, tmp_path: Path, how: dict[str, Any]) -> None:
    check(tiny, NETWORKS["dual_cnn_fusion"], tmp_path / CHECKPOINT, **how)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["audio_rnn", "dual_cnn_fusion"])
def test_on_a_gpu_it_ends_nearly_as_if_it_had_not_been(tiny: Dataset, tmp_path: Path, name: str) -> None:
    """A graph begins anew with steps on their own, which may sum in another order."""
    config, rows = config_of(NETWORKS[name]), rows_for(tiny, NETWORKS[name], torch.device("cuda"))
    whole, moments = trained(config, rows)
    save_moment(tmp_path / CHECKPOINT, moments[2])
    again, _ = trained(config, rows, load_moment(tmp_path / CHECKPOINT))
    for mine, theirs in zip(told(again.history), told(whole.history), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-2, abs=1e-2)


# ---- a trial in a folder


@pytest.fixture
def trial(tiny: Dataset) -> Callable[..., Any]:
    """Trains in a folder, and says which epochs it told of."""
    config = config_of(NETWORKS["audio_rnn"])

    def run(folder: Path, until: int = EPOCHS) -> list[int]:
        seen: list[int] = []

        def on_epoch(epoch: int, metrics: Any) -> bool:
            seen.append(epoch)
            recorded = max((point.epoch for point in read_epochs(folder)), default=0)
            if epoch > recorded:
                append_epoch(folder, Point(epoch=epoch, time=now_ms(), metrics=metrics))
            if epoch > until:
                raise KeyboardInterrupt
            return True

        folder.mkdir(exist_ok=True)
        data = Resident(tiny.train, 10, CPU)
        run_trial(config, data, split(tiny.train, "clip_disjoint", 0), 3, folder, on_epoch, every=0.0)
        return seen

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in (folder / "files").rglob("*.safetensors")}


def test_a_trial_in_a_folder_leaves_the_same_files(trial: Callable[..., Any], tmp_path: Path) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    with pytest.raises(KeyboardInterrupt):
        trial(cut, until=2)
    assert trial(cut) == [3, 4, 5]
    assert trial(whole) == [1, 2, 3, 4, 5]
    assert files(cut) == files(whole) != {}
    assert [p.epoch for p in read_epochs(cut)] == [1, 2, 3, 4, 5]


def test_epochs_that_a_power_cut_has_cost_are_told_again(trial: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trial(tmp_path / "cut", until=3)
    path = tmp_path / "cut" / "epochs.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert trial(tmp_path / "cut") == [2, 3, 4, 5]
    assert [p.epoch for p in read_epochs(tmp_path / "cut")] == [1, 2, 3, 4, 5]


def spoil(path: Path, place: int) -> bytes:
    """A file with one bit that is another one."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    "damage", ["cut", "a bit of the weights", "a bit of the header", "empty", "of another network"]
)
def test_a_checkpoint_that_was_changed_ends_the_attempt_and_the_next_one_begins_again(
    trial: Callable[..., Any], tiny: Dataset, tmp_path: Path, damage: str
) -> None:
    folder, whole = tmp_path / "cut", tmp_path / "whole"
    with pytest.raises(KeyboardInterrupt):
        trial(folder, until=2)
    path = folder / CHECKPOINT
    if damage == "of another network":
        save_moment(path, trained(config_of(AudioRNNConfig(hidden=4)), rows_for(tiny, AudioRNNConfig(hidden=4)))[1][1])
    else:
        size = path.stat().st_size
        changed = {"cut": path.read_bytes()[: size // 2], "empty": b""}
        path.write_bytes(
            changed.get(damage) or (b"" if damage == "empty" else spoil(path, 40 if "head" in damage else -9))
        )
    with pytest.raises(DamagedError, match="its checkpoint was changed or cut, so it begins again"):
        trial(folder)
    assert not path.exists()
    assert trial(folder) == [1, 2, 3, 4, 5]
    trial(whole)
    assert files(folder) == files(whole)


def test_a_checkpoint_that_is_torn_at_any_byte_is_refused(tiny: Dataset, tmp_path: Path) -> None:
    model = AudioRNNConfig(hidden=1)
    _, moments = trained(config_of(model, epochs=2), rows_for(tiny, model))
    path = tmp_path / CHECKPOINT
    save_moment(path, moments[0])
    content = path.read_bytes()
    for cut in [*range(0, len(content), 97), *range(len(content) - 40, len(content))]:
        path.write_bytes(content[:cut])
        with pytest.raises(DamagedError):
            load_moment(path)
    for place in range(8, len(content), 101):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DamagedError):
            load_moment(path)


def test_a_checkpoint_is_there_whole_or_not_at_all(tiny: Dataset, tmp_path: Path) -> None:
    import resource

    model = AudioRNNConfig(hidden=8)
    _, moments = trained(config_of(model, epochs=3), rows_for(tiny, model))
    path = tmp_path / CHECKPOINT
    save_moment(path, moments[0])
    before = path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            save_moment(path, moments[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", FAST)
def test_another_training_goes_on_from_what_a_file_has_of_the_last_epoch(
    name: str, tiny: Dataset, tmp_path: Path
) -> None:
    config = config_of(NETWORKS[name], epochs=2)
    rows = rows_for(tiny, config.model)
    first = fit(config, *rows, 5)
    assert first.final is not None
    save_checkpoint(tmp_path / "final", first.final, config.model, rows[0].shapes)
    second = fit(config, *rows, 5, start=load_checkpoint(tmp_path / "final"))
    assert second.final is not None
    assert second.final.moments.keys() == first.final.moments.keys()
    steps = {own: float(value) for own, value in first.final.moments.items() if own.endswith(".step")}
    assert max(steps.values()) > 0
    assert {own: float(second.final.moments[own]) for own in steps} == {own: 2 * value for own, value in steps.items()}
