"""What a machine cannot compute is asked of it first, and said in one line."""

from __future__ import annotations

import copy
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from shapes import built
from torch import nn

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.networks.config import AudioRNNConfig, XFlowLSTMConfig, XFlowMLPConfig
from mmtune.pool.worker import Broken, Event, Failed, Job, Ready, WorkerSpec, live, run_job
from mmtune.train.batches import Resident, rows_of
from mmtune.train.device import require_bfloat16
from mmtune.train.fit import fit
from mmtune.train.recipe import Train, TrialConfig
from mmtune.tune.machine import default_workers, require_threads

CPU = torch.device("cpu")
LSTM, RNN = XFlowLSTMConfig(), AudioRNNConfig(hidden=8)
LOW = Train(epochs=1, precision="bfloat16")
ASKED = """
import torch
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, XFlowLSTMConfig
from mmtune.networks.shapes import Shapes
from mmtune.train.batches import Held, Rows
from mmtune.train.device import require_bfloat16
index = torch.arange(4)
banks = {
    "image": Held(torch.zeros(4, 28, 28, dtype=torch.uint8), index),
    "audio": Held(torch.randn(4, 39, 13), index),
}
shapes = Shapes(banks={"image": (1, 28, 28), "audio": (39, 13)}, classes=10)
for config in (ImageCNNConfig(), AudioRNNConfig(hidden=8), XFlowLSTMConfig()):
    try:
        own = Rows(banks={name: banks[name] for name in config.reads}, labels=index, shapes=shapes)
        require_bfloat16(config.build(shapes), own)
        print()
    except Exception as error:
        print(error)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs a CPU that can be told to have less than it has")
def test_a_cpu_with_avx2_alone_has_no_lstm_in_bfloat16_and_says_so() -> None:
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", ASKED], env=environment, capture_output=True, text=True, check=True)
    *others, told = done.stdout.splitlines()
    refused = "precision must be float32 on this cpu for this network, got bfloat16: could not create a primitive"
    assert told.startswith(refused)
    assert others == ["", ""]


@pytest.fixture
def without_lstm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no LSTM in bfloat16, whatever this one has."""

    def refuse(*_: object) -> None:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("it has none. Really")

    monkeypatch.setattr(nn.LSTM, "forward", refuse)


@pytest.mark.usefixtures("without_lstm")
def test_only_the_network_that_needs_it_is_refused(tiny: Dataset) -> None:
    data = Resident(tiny.train, 10, CPU)
    rows = {config: data.rows(config.reads).take(torch.arange(64)) for config in (LSTM, RNN)}
    refused = "precision must be float32 on this cpu for this network, got bfloat16: it has none$"
    with pytest.raises(InputError, match=refused):
        fit(TrialConfig(model=LSTM, train=LOW), rows[LSTM], rows[LSTM], seed=1)
    assert len(fit(TrialConfig(model=RNN, train=LOW), rows[RNN], rows[RNN], seed=1).history) == 1


class Told:
    """The line of a worker that is only listened to."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def send(self, event: Event, /) -> None:
        self.events.append(event)

    def recv(self) -> Job:
        raise EOFError


@pytest.mark.usefixtures("without_lstm")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_worker_says_so_before_it_has_any_job(tiny: Dataset, precision: str) -> None:
    base = TrialConfig(model=XFlowLSTMConfig(), train=Train(epochs=1, precision=precision))
    spec = WorkerSpec(data=Path(), splits=(), device="cpu", base=base, classes=10)
    line = Told()
    try:
        live(spec, lambda: tiny.train, line)
    except EOFError:
        assert isinstance(line.events[-1], Ready)
    (event,) = line.events
    assert isinstance(event, Broken if precision == "bfloat16" else Ready)


def test_a_worker_has_the_threads_that_are_asked_for(tiny: Dataset) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (3, 1):
            spec = WorkerSpec(data=Path(), splits=(), device="cpu", classes=10, threads=threads)
            with pytest.raises(EOFError):
                live(spec, lambda: tiny.train, Told())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_threads_are_a_cpus() -> None:
    with pytest.raises(InputError, match="--threads is of workers on a CPU, so --device must be cpu, got cuda:1"):
        require_threads(2, "cuda:1")
    require_threads(1, "cuda:1")


def test_with_threads_fewer_workers_fill_the_cores() -> None:
    cores = default_workers("cpu")
    assert default_workers("cpu", cores) == default_workers("cpu", 2 * cores) == 1


@pytest.mark.usefixtures("without_lstm")
def test_a_trial_that_drew_it_fails_once_and_is_not_made_again(tiny: Dataset, tmp_path: Path) -> None:
    spec = WorkerSpec(data=Path(), splits=(split(tiny.train, "clip_disjoint", 0),), device="cpu", classes=10)
    job = Job(number=1, config=TrialConfig(model=XFlowLSTMConfig(), train=LOW), seed=1, folder=tmp_path / "job")
    failed = run_job(job, Resident(tiny.train, 10, CPU), spec, Told())
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("InputError: precision must be float32 on this cpu")
    assert not failed.retry


def test_to_ask_draws_no_random_number_and_trains_nothing(tiny: Dataset) -> None:
    model, rows = built(XFlowMLPConfig()), rows_of(tiny.train, 10, ("image", "audio"))
    before, weights = torch.random.get_rng_state(), copy.deepcopy(model.state_dict())
    require_bfloat16(model, rows)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
