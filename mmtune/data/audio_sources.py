"""Folders of recordings to training and test recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.data.dataset import SAMPLE_RATE, Progress
from mmtune.data.holdout import TEST_SHARE, drawn, require_digits
from mmtune.data.naming import Named, recognise
from mmtune.data.pairing import Recordings
from mmtune.data.protocols import best_groups
from mmtune.data.recordings import one_second, read_wav, to_int16


def read_recordings(folder: Path, seed: int, report: Progress) -> tuple[Recordings, Recordings, dict[str, Any]]:
    """Training and test recordings of a folder, and how they were recognised.

    Raises InputError on an unknown naming, on a digit without recordings, and on the first file that is no recording.
    """
    catalogue = recognise(folder)
    named = catalogue.recordings
    require_digits(folder, [n.digit for n in named], "recordings")
    test, rule = hold_out(named, seed)
    for side, mask in (("training", ~test), ("test", test)):
        require_digits(folder, [n.digit for n, m in zip(named, mask, strict=True) if m], f"{side} recordings ({rule})")
    recordings = read_all(named, report)
    facts = {
        "naming": catalogue.naming,
        "partition": rule,
        "train": int((~test).sum()),
        "test": int(test.sum()),
        "speakers": len({n.speaker for n in named} - {""}),
        "ignored": catalogue.ignored,
    }
    return recordings.take(np.flatnonzero(~test)), recordings.take(np.flatnonzero(test)), facts


def hold_out(named: Sequence[Named], seed: int) -> tuple[NDArray[np.bool_], str]:
    """Which recordings are for the test, (M,) bool, and by what rule: their own, or drawn by speaker or recording."""
    if all(n.test is not None for n in named):
        return np.array([bool(n.test) for n in named]), "its own"
    labels, speaker = np.array([n.digit for n in named]), np.array([n.speaker for n in named])
    if np.all(speaker != ""):
        return best_groups(speaker, labels, seed, TEST_SHARE), f"speaker-disjoint, seed {seed}"
    return drawn(labels, seed), f"drawn by recording, seed {seed}"


def read_all(named: Sequence[Named], report: Progress) -> Recordings:
    """Every file as one second of 16-bit samples."""
    waveforms = np.empty((len(named), SAMPLE_RATE), np.int16)
    for position, recording in enumerate(named):
        waveforms[position] = to_int16(one_second(*read_wav(recording.path)))
        report("recordings", position + 1, len(named))
    return Recordings(
        waveforms=waveforms,
        labels=np.array([n.digit for n in named], np.int64),
        speaker=np.array([n.speaker for n in named]),
        clip_id=np.array([n.clip_id for n in named]),
    )
