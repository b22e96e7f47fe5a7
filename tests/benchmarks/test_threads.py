"""One training's epochs are timed on each number of threads."""

from __future__ import annotations

from benchmarks.cases import CPU
from benchmarks.threads import fastest
from mmtune.data.dataset import Dataset


def test_epochs_are_timed_on_each_number_of_threads(tiny: Dataset) -> None:
    found = fastest(CPU["audio_rnn"].configs[0], tiny, [1, 2], rounds=2)
    assert list(found) == [1, 2]
    assert all(seconds > 0 for seconds in found.values())
