"""Both sides of the benchmark do all of their work, are watched alike, and what was measured is kept and shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import bench, pruning, workers
from benchmarks.cases import CPU, GPU, Case, data_set, resized
from benchmarks.command import IncompleteError
from benchmarks.machine import ceiling, fastest, trial_flops
from benchmarks.measure import busy_seconds, measure_side, read_store, watch
from benchmarks.plain import plain_study
from benchmarks.results import keep, result_path
from benchmarks.table import shares_of_ceiling, table
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.protocols import split
from mmtune.networks.config import AudioRNNConfig
from mmtune.train.recipe import Train, TrialConfig

REPOSITORY = Path(__file__).parents[2]
SMALL = Case(study="audio_rnn", trials=2, epochs=3, rows=300)
LINUX = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from /proc")


@pytest.mark.parametrize("case", [*CPU.values(), *GPU.values()], ids=lambda case: case.study)
def test_every_case_is_a_study_that_keeps_two_workers_busy(case: Case) -> None:
    assert len(case.configs) == case.trials >= 2
    assert all(config.train.epochs == case.epochs for config in case.configs)
    with pytest.raises(InputError, match="at most"):
        _ = replace(case, trials=1000).configs


def test_rows_are_repeated_or_cut_with_the_clips_they_use(tiny: Dataset) -> None:
    for rows in (100, 300, 750):
        made = resized(tiny.train, rows)
        assert len(made) == rows
        assert list(made.banks) == ["image", "audio"]
        for bank in made.banks.values():
            assert np.array_equal(np.unique(bank.index), np.arange(len(bank.values)))
    assert rows_of(made) == rows_of(tiny.train)


def rows_of(partition: Partition) -> set[tuple[bytes, bytes, int, str]]:
    """What each row of a partition holds."""
    every = np.arange(len(partition))
    image, audio = (partition.banks[name].of_rows(every) for name in ("image", "audio"))
    told = zip(image, audio, partition.labels, partition.groups["recording"], strict=True)
    return {(seen.tobytes(), heard.tobytes(), int(label), str(name)) for seen, heard, label, name in told}


def test_a_temporary_set_has_the_rows_asked_for_and_goes(tiny: Dataset) -> None:
    with data_set(tiny.folder, 200) as dataset:
        assert len(dataset.train) == 200
        assert dataset.name == tiny.name
    assert not dataset.folder.exists()


@pytest.mark.slow
def test_the_plain_side_learns_and_tracks_everything(tiny: Dataset, store: Path) -> None:
    base = CPU["audio_rnn"].configs[0]
    config = replace(base, train=replace(base.train, epochs=10, learning_rate=0.003))
    started = time.time()
    best = plain_study([config, config], tiny.train, split(tiny.train, "clip_disjoint", 0), store, "cpu")
    assert best > 0.9
    case = replace(SMALL, epochs=10)
    found = read_store(store, case, started)
    assert 0 < found["first_epoch_seconds"] <= found["first_trial_seconds"] <= time.time() - started
    assert found["epochs_per_second"] > 0
    with pytest.raises(IncompleteError, match="3 trials"):
        read_store(store, replace(case, trials=3), started)
    with pytest.raises(IncompleteError, match="points of its curves"):
        read_store(store, replace(case, epochs=11), started)


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("side", ["plain", "mmtune"])
def test_each_side_does_all_of_it_in_a_process_of_its_own(side: str, tiny: Dataset) -> None:
    found = measure_side(side, SMALL, tiny.folder, "cpu")
    assert 0 < found["first_epoch_seconds"] < found["first_trial_seconds"] < found["seconds"]
    assert found["trials_per_hour"] == pytest.approx(3600 * 2 / found["seconds"])
    assert found["peak_bytes"] > 1e8
    assert 0 < found["best"] <= 1


@pytest.mark.slow
def test_a_side_that_fails_says_why(tiny: Dataset) -> None:
    with pytest.raises(IncompleteError, match=r"(?s)ended with code 1.*InputError"):
        measure_side("mmtune", SMALL, tiny.folder / "nothing", "cpu")


@LINUX
def test_memory_and_time_are_those_of_all_processes_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    inner = "x = bytearray(150_000_000); import time; time.sleep(1)"
    outer = (
        "import os, subprocess, sys, time; print(os.environ.get('OMP_NUM_THREADS')); y = bytearray(150_000_000);"
        f"end = time.process_time() + .5\nwhile time.process_time() < end: pass\n"
        f"sys.exit(subprocess.run([sys.executable, '-c', {inner!r}]).returncode + 3)"
    )
    before = busy_seconds()
    found = watch([sys.executable, "-c", outer], tmp_path / "said")
    assert 300e6 < found.peak_bytes < 500e6
    assert found.code == 3
    assert 0.5 < found.cpu_seconds < found.seconds + 1
    assert busy_seconds() - before > 0.4
    assert 0 <= found.others <= 1
    assert (tmp_path / "said").read_text().strip() == "None"


def test_operations_are_counted_as_by_hand() -> None:
    config = TrialConfig(model=AudioRNNConfig(hidden=320), train=Train(epochs=3))
    products = 507 * 320 + 320 * 320 + 320 * 100 + 100 * 64 + 64 * 10
    backward = 2 * products - 507 * 320 - 320 * 320  # the input and the zero state have no gradient
    expected = 3 * 2 * (10 * (products + backward) + 5 * products)
    assert trial_flops(config, 10, 5) == pytest.approx(expected, rel=0.02)


def test_the_ceiling_is_what_the_fastest_of_several_runs_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 4.0, 10.0, 12.0, 20.0, 28.0])
    monkeypatch.setattr("benchmarks.machine.time", SimpleNamespace(perf_counter=lambda: next(moments)))
    assert fastest(lambda: None, "cpu", times=3) == 2.0
    done: list[torch.Tensor] = []

    def once(work: Callable[[], torch.Tensor], device: str) -> float:
        done.append(work())
        return 0.5

    monkeypatch.setattr("benchmarks.machine.fastest", once)
    found = ceiling("cpu")
    product, copy = done
    assert found["product_flops"] == 2 * 2 * len(product) ** 3
    assert found["copy_bytes"] == 2 * 2 * copy.nbytes


def entry(ratio: float, others: float = 0.0, tracking: float | None = 0.5) -> dict[str, Any]:
    """A result of a plain side of 100 seconds and one of ours that is `ratio` times as fast."""

    def side(seconds: float) -> dict[str, Any]:
        own = {"seconds": seconds, "trials_per_hour": 7200 / seconds, "peak_bytes": 5e8, "others": others}
        times = {"first_epoch_seconds": 1.0, "first_trial_seconds": 2.0, "epochs_per_second": 3.0}
        return {**own, **times, "tracking": tracking, "tuning": tracking}

    machine = {"device": "cpu", "processor": "a chip", "cores": 2, "system": "Linux", "python": "3", "commit": "c" * 40}
    return {
        **{"date": "2000-01-01", "machine": {**machine, "versions": {"torch": "2"}}, "data": "sample", "seed": 0},
        **{"ceiling": {"product_flops": 1e9, "copy_bytes": 1e9}, "flops": 2e10, "case": SMALL.to_json()},
        **{"rows": {"train": 240, "validation": 60}, "batch_sizes": [64], "ratio": ratio},
        "runs": {"plain": [side(100)], "mmtune": [side(100 / ratio)]},
    }


def test_results_are_added_to_a_file_and_shown(tmp_path: Path) -> None:
    path = result_path(tmp_path / "new" / "r.json", "cpu")
    for name, ratio in (("audio_rnn", 2.0), ("image_cnn", 8.0), ("audio_rnn", 4.5)):
        keep(path, "studies", name, entry(ratio), table)
    page = path.with_suffix(".md").read_text()
    assert set(json.loads(path.read_text())["studies"]) == {"audio_rnn", "image_cnn"}
    assert "Geometric mean of the ratios: **6.00**" in page  # the root of 4.5 x 8
    assert "72 / 324" in page
    assert "**4.50**" in page
    assert "4.5%" in page  # of 100 / 4.5 s one is tracking and tuning
    assert "20.0% / 90.0%" in page
    assert shares_of_ceiling(entry(4.5)) == pytest.approx([0.2, 0.9])
    keep(path, "studies", "image_cnn", entry(8.0, tracking=None), table)
    assert "not measured" in path.with_suffix(".md").read_text()


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_a_results_file_that_is_none_is_left_alone(content: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"r\.json"):
        result_path(path, "cpu")
    assert path.read_text() == content
    with pytest.raises(InputError, match=r"must name a \.json"):
        result_path(tmp_path / "r.txt", "cpu")


def test_pruning_is_judged_by_deviations_and_epochs() -> None:
    full = [{"best": best, "winner": 1, "epochs": 90.0, "pruned": 0} for best in (0.90, 0.92, 0.94)]
    pruned = [{"best": best, "winner": n, "epochs": 30.0, "pruned": 5} for n, best in enumerate((0.89, 0.91, 0.93))]
    said = pruning.verdict({"full": full, "pruned": pruned})
    assert said["behind"] == pytest.approx(0.5)
    assert said["share"] == pytest.approx(1 / 3)
    asked = {"study": "audio_rnn", "sampler": "random", "trials": 9, "epochs": 10, "seeds": 3, "fix": []}
    made = {**entry(1), "rows": 300, "asked": asked, "runs": {"full": full, "pruned": pruned}, "verdict": said}
    assert "0.9200 ± 0.0200 | 0.9100 ± 0.0200 | 0.50 |  | 90 | 30 | 33.3%" in pruning.table({"searches": {"a": made}})
    made = {**made, "asked": {**asked, "sampler": "grid"}}
    assert "| 0.50 | 1 of 3 | 90 |" in pruning.table({"searches": {"a": made}})


def test_workers_are_shown_beside_one() -> None:
    plain, ours = entry(1.9)["runs"].values()
    made = {**entry(1), "runs": {"1": plain, "2": ours}, "ratio": 1.9, "start_seconds": [2.0, 2.5, 9.0]}
    assert "| 1 / 2 | 72 / 137 | 3.00 / 3.00 | 1.90 |" in workers.table({"workers": {"audio_rnn": made}})
    beside = {**made, "plain": {"epochs_per_second": 1.5}}
    assert "| 2.50 | 1.50 | **2.0** |" in workers.table({"workers": {"audio_rnn": beside}})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "nothing"], "must be one of audio_rnn"),
        (["bench", "--rows", "0"], "whole number from 1"),
        (["bench", "--device", "tpu"], "device"),
        (["bench", "--out", "x.txt"], "must name a .json"),
        (["bench", "audio_rnn", "--data", "nowhere"], "is missing"),
        (["workers", "--study", "nothing"], "must be one of"),
        (["pruning", "--seeds", "1"], "2 or more"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path / word) if word in ("x.txt", "nowhere") else word for word in words]
    out = [] if "--out" in words else ["--out", str(tmp_path / "r.json")]
    monkeypatch.setattr(sys, "argv", [*words, *out])
    with pytest.raises(SystemExit) as ended:
        {"bench": bench, "pruning": pruning, "workers": workers}[words[0]].main()
    assert said in capsys.readouterr().err
    assert ended.value.code == 2
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.slow
def test_workers_are_measured_beside_the_plain_loop(tmp_path: Path) -> None:
    few = ["--trials", "2", "--epochs", "2", "--rows", "400", "--workers", "1", "2", "--starts", "1", "--plain", "2"]
    command = [sys.executable, "-m", "benchmarks.workers", *few, "--out", str(tmp_path / "r.json")]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    made = json.loads((tmp_path / "r.json").read_text())["workers"]["audio_rnn"]
    assert list(made["runs"]) == ["1", "2"]
    assert made["plain"]["epochs_per_second"] > 0
    assert "| `audio_rnn` | 2 x 2 | 400 | 1 / 2 |" in (tmp_path / "r.md").read_text()


@pytest.mark.slow
@LINUX
def test_a_stopped_benchmark_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.bench", "audio_rnn", "--out", str(tmp_path / "r.json")]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "plain" not in process.stdout.readline():
        pass
    time.sleep(1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert not (tmp_path / "r.json").exists()
