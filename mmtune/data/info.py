"""What a data set holds: counts, who speaks, and what each split protocol lets through; and a picture of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmtune.base.errors import InputError, one_line
from mmtune.data.dataset import SAMPLE_RATE, Dataset, Partition
from mmtune.data.protocols import PROTOCOLS, leakage, split


def lines(dataset: Dataset, seed: int = 0) -> list[str]:
    """A data set as lines of plain text.

    They have its counts, its pairs of each digit, and for each protocol the shares of validation rows whose recording,
    and whose speaker, is also in training; or why the protocol is not possible.
    """
    parts = {"train": dataset.train} if dataset.test is None else {"train": dataset.train, "test": dataset.test}
    digits = {part: np.bincount(partition.labels, minlength=10) for part, partition in parts.items()}
    return [
        f"name        {dataset.name}",
        f"folder      {dataset.folder}",
        f"digest      {dataset.digest}",
        f"raw audio   {'cannot be turned' if dataset.features is None else 'can be turned'} into clips",
        *(f"{plain(key):<12}{plain(value)}" for key, value in dataset.provenance.items()),
        "",
        *(f"{part:<12}{partition_line(partition)}" for part, partition in parts.items()),
        "",
        f"{'class':<12}{' '.join(f'{label:>6}' for label in range(len(digits['train'])))}",
        *(f"{part:<12}{' '.join(f'{count:>6}' for count in counts)}" for part, counts in digits.items()),
        "",
        *(f"{protocol:<18}{protocol_line(dataset.train, protocol, seed)}" for protocol in PROTOCOLS),
    ]


def plain(value: Any) -> str:
    """A value of the provenance in one printable line; whoever made the data set wrote it."""
    return one_line(", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value))


def partition_line(partition: Partition) -> str:
    speakers = f"{len(np.unique(partition.speaker))} speakers" if partition.speakers_known else "speakers unknown"
    waveforms = "features only" if partition.waveforms is None else "waveforms kept"
    return f"{len(partition):,} pairs, {len(partition.clips):,} clips, {speakers}, {waveforms}"


def protocol_line(train: Partition, protocol: str, seed: int) -> str:
    try:
        made = split(train, protocol, seed)
    except InputError as error:
        return f"not possible: {error}"
    recording, speaker = leakage(train, made)
    known = "speaker unknown" if speaker is None else f"speaker {speaker:.1%}"
    rows = f"{len(made.train):,} + {len(made.validation):,} rows"
    return f"{rows}; also in training: recording {recording:.1%}, {known}"


def draw_pairs(dataset: Dataset, path: Path, count: int = 8) -> None:
    """Write a PNG of `count` training pairs, class by class: image, clip, and waveform where there is one."""
    from matplotlib.figure import Figure

    train, path = dataset.train, Path(path)
    by_class = [np.flatnonzero(train.labels == label) for label in range(int(train.labels.max()) + 1)]
    turns = [int(rows[turn]) for turn in range(count) for rows in by_class if turn < len(rows)]
    rows = turns[:count]
    kinds = 3 if train.waveforms is not None else 2
    figure = Figure(figsize=(1.6 * count, 1.9 * kinds), layout="constrained")
    axes = figure.subplots(kinds, len(rows), squeeze=False)
    for column, row in zip(axes.T, rows, strict=True):
        draw_pair(column, train, row)
    axes[1, 0].set_ylabel("coefficient")
    figure.suptitle(f"{dataset.name}: pairs of the training partition", parse_math=False)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=110)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: the picture could not be written: {error.strerror}") from error


def draw_pair(column: Any, train: Partition, row: int) -> None:
    """One pair, top to bottom into the axes of `column`."""
    clip = int(train.clip_index[row])
    # Of a sequence, the frame in the middle.
    image = train.images[row] if train.images.ndim == 3 else train.images[row][train.images.shape[1] // 2]
    column[0].imshow(image, cmap="gray", vmin=0, vmax=255)
    # A name may hold signs that would be read as a formula.
    said = f"{train.labels[row]}\n{train.speaker[clip] or train.clip_id[clip]}"
    column[0].set_title(said, fontsize=7, parse_math=False)
    column[0].set_axis_off()
    scale = {"vmin": 0, "vmax": 1} if train.images.ndim == 3 else {}
    column[1].imshow(train.clips[clip].T, aspect="auto", origin="lower", **scale)
    column[1].set_xlabel("frame", fontsize=7)
    column[1].tick_params(labelsize=6)
    if train.waveforms is not None:
        column[2].plot(np.arange(SAMPLE_RATE) / SAMPLE_RATE, train.waveforms[clip] / 32768, linewidth=0.4)
        column[2].set_ylim(-1, 1)
        column[2].set_xlabel("s", fontsize=7)
        column[2].tick_params(labelsize=6)
