"""What is measured: of each study how many trials, epochs and rows, and the data that both sides read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.base.errors import InputError
from mmtune.data.bundled.sample import sample_folder
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.storage.store import load, save
from mmtune.networks.shapes import shapes_of
from mmtune.study import Study, load_study, with_fixed
from mmtune.study.definition import schedule
from mmtune.train.recipe import TrialConfig
from mmtune.tune.trying import DIGITS


@dataclass(frozen=True, kw_only=True)
class Case:
    """The first `trials` of a study's own trials, or of the `tries` named, on so many `rows` for so many `epochs`."""

    study: str
    trials: int
    epochs: int
    rows: int
    tries: tuple[str, ...] = ()

    @property
    def made(self) -> Study:
        """The study, with no other tries than those named."""
        study = load_study(self.study)
        return (
            replace(study, tries={name: study.tries[name] for name in self.tries}, going_on={}) if self.tries else study
        )

    @property
    def configs(self) -> list[TrialConfig]:
        """The configuration of each trial, as mmtune itself would make it."""
        study = self.made
        base = with_fixed(study, {}, self.epochs)
        trials = schedule(study, study.sampler, base, {}, self.trials, self.epochs)
        if self.trials > trials.trials:
            raise InputError(f"trials of {self.study} must be at most {trials.trials} here, got {self.trials}")
        return [trials.configure(base, trials.draw(index, ()).given) for index in range(self.trials)]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


LADDER = ("try_10", "try_13", "try_9", "try_1")
"""Of Venkatachalam's 13 tries two of either audio network, its best one first; the longest first, as one would."""

CPU = {
    "audio_rnn": Case(study="audio_rnn", trials=6, epochs=20, rows=24_000),
    "image_cnn": Case(study="image_cnn", trials=4, epochs=10, rows=24_000),
    "dual_cnn_fusion": Case(study="dual_cnn_fusion", trials=4, epochs=8, rows=6000),
    "multihead_fusion": Case(study="multihead_fusion", trials=4, epochs=12, rows=3000, tries=LADDER),
    "xflow_cnn_mlp": Case(study="xflow_cnn_mlp", trials=4, epochs=8, rows=9000),
}
GPU = {
    "audio_rnn": Case(study="audio_rnn", trials=6, epochs=20, rows=60_000),
    "image_cnn": Case(study="image_cnn", trials=12, epochs=10, rows=60_000),
    "dual_cnn_fusion": Case(study="dual_cnn_fusion", trials=8, epochs=2, rows=60_000),
    "multihead_fusion": Case(study="multihead_fusion", trials=4, epochs=5, rows=60_000, tries=LADDER),
    "xflow_cnn_mlp": Case(study="xflow_cnn_mlp", trials=4, epochs=10, rows=60_000),
}
"""A GPU is measured on rows as many as the reports had, where its steps are what the time goes into."""


@contextmanager
def data_set(folder: Path | None, rows: int, held_out: bool = False) -> Iterator[Dataset]:
    """The data set in `folder`, or the bundled sample, its training partition repeated or cut to `rows`; temporary.

    Speed then depends on the number of rows alone, whichever set is there. held_out: whether it keeps its test
    partition, as it is.
    """
    found = load(folder or sample_folder())
    shapes = shapes_of(found.train, len(found.classes))
    if any(shapes.banks.get(bank) != DIGITS[bank] for bank in ("image", "audio")):
        raise InputError(f"--data must have image and audio as in {DIGITS}, {found.name} has {dict(shapes.banks)}")
    with tempfile.TemporaryDirectory(prefix="mmtune-bench-") as temporary:
        train = resized(found.train, rows)
        test = without_samples(found.require_test()) if held_out else None
        yield save(
            replace(found, train=train, test=test, forms={name: found.forms[name] for name in train.banks}),
            Path(temporary) / "data",
        )


def resized(partition: Partition, rows: int) -> Partition:
    """The partition's rows over and over until there are `rows`, with no samples of sounds."""
    chosen = np.resize(np.random.default_rng(0).permutation(len(partition)), rows)
    return without_samples(partition.take(chosen).compact())


def without_samples(partition: Partition) -> Partition:
    """The partition without the samples of sounds, which nothing here reads."""
    banks = {name: bank for name, bank in partition.banks.items() if name not in ("waveform", "speech")}
    return replace(partition, banks=banks)
