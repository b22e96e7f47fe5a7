"""Named ways to divide the training partition, and what each lets through.

as_reported       at random over pairs, as the reports did; a recording may stand on both sides
clip_disjoint     no recording on both sides
speaker_disjoint  no speaker on both sides
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.rules import require_choice, require_count
from mmtune.data.checks import clip_labels
from mmtune.data.dataset import Partition

PROTOCOLS = ("as_reported", "clip_disjoint", "speaker_disjoint")
Rows = NDArray[np.int64]
SHARE = 0.2  # of what validates
CANDIDATES = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Rows of a partition to train on and to validate on: sorted, disjoint, (n,) int64 each.

    held: for a fold of a cross-validation, the rows that neither trains nor chooses anything, scored once.
    """

    train: Rows
    validation: Rows
    held: Rows | None = None


def split(partition: Partition, protocol: str, seed: int) -> Split:
    """One split under a protocol of `PROTOCOLS`; the same seed gives the same split.

    A fifth of pairs, recordings or speakers validates, as the protocol divides them; classes are kept in proportion.
    Raises InputError where the data cannot be split so with every digit on both sides.
    """
    from sklearn.model_selection import train_test_split

    unit, labels = units(partition, protocol)
    if protocol == "speaker_disjoint":
        group = partition.speaker[unit]
        return checked(partition, best_groups(group, partition.labels, seed, SHARE), protocol)
    require_members(labels, 2, protocol)
    try:
        _, chosen = train_test_split(np.arange(len(labels)), test_size=SHARE, random_state=seed, stratify=labels)
    except ValueError as error:
        raise InputError(f"{protocol} is not possible: {error}") from error
    return checked(partition, np.isin(unit, chosen), protocol)


def folds(partition: Partition, protocol: str, k: int, seed: int) -> list[Split]:
    """k splits whose validation sides are disjoint and together all rows, under a protocol as in `split`.

    With k = number of speakers, `speaker_disjoint` leaves one speaker out at a time.
    """
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

    require_count("k", k, 2, max(2, len(partition)))
    unit, labels = units(partition, protocol)
    if protocol == "speaker_disjoint":
        speakers = len(np.unique(partition.speaker))
        require_speakers(speakers, k)
        cutter = LeaveOneGroupOut() if k == speakers else StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        parts = cutter.split(labels, labels, partition.speaker)
    else:
        require_members(labels, k, protocol)
        parts = StratifiedKFold(k, shuffle=True, random_state=seed).split(labels, labels)
    return [checked(partition, np.isin(unit, part), protocol) for _, part in parts]


def rotated(parts: list[Split]) -> list[Split]:
    """Folds in which the rows that score choose nothing: each fold is held out once, the next one's rows validate.

    That is so within a training. Among several configurations all rows choose together, since each validates once.
    Takes `folds`, three or more of them: with two nothing would be left to train on.
    """
    require_count("folds", len(parts), 3)
    shifted = [*parts[1:], parts[0]]
    return [
        Split(
            train=np.setdiff1d(part.train, following.validation),
            validation=following.validation,
            held=part.validation,
        )
        for part, following in zip(parts, shifted, strict=True)
    ]


def units(partition: Partition, protocol: str) -> tuple[Rows, Rows]:
    """What a protocol divides, pairs or recordings: of each row (N,) the unit, and of each unit the digit.

    InputError where speakers are needed and unknown.
    """
    require_choice("protocol", protocol, PROTOCOLS)
    if protocol == "speaker_disjoint" and not partition.speakers_known:
        unknown = int(np.sum(partition.speaker == ""))
        raise InputError(f"speaker_disjoint needs the speaker of every recording, unknown for {unknown}")
    if protocol == "as_reported":
        return np.arange(len(partition)), partition.labels
    return partition.clip_index, clip_labels(partition)


def require_members(labels: Rows, least: int, protocol: str) -> None:
    """Raise InputError unless every digit has at least `least` members."""
    counts = np.bincount(labels)
    if counts.min() < least:
        what = "pairs" if protocol == "as_reported" else "recordings"
        digit = int(np.argmin(counts))
        raise InputError(f"{protocol} needs at least {least} {what} of every digit, digit {digit} has {counts[digit]}")


def best_groups(group: NDArray[np.str_], labels: Rows, seed: int, share: float) -> NDArray[np.bool_]:
    """Rows of the groups to hold out, (N,) bool: of many random choices the one with classes nearest to `share`.

    group (N,): the speaker of every row. InputError with fewer than two.
    """
    from sklearn.model_selection import ShuffleSplit

    names, of_row = np.unique(group, return_inverse=True)
    require_speakers(len(names), 2)
    counts = np.zeros((len(names), labels.max() + 1))
    np.add.at(counts, (of_row, labels), 1)
    wanted = min(max(round(share * len(names)), 1), len(names) - 1)
    cutter = ShuffleSplit(CANDIDATES, test_size=wanted, random_state=seed)
    choices = [chosen for _, chosen in cutter.split(np.arange(len(names)))]
    shares = np.array([counts[chosen].sum(axis=0) for chosen in choices]) / np.maximum(counts.sum(axis=0), 1)
    one_sided = ((shares == 0) | (shares == 1)).any(axis=1)
    best = int(np.argmin(np.abs(shares - share).mean(axis=1) + one_sided))
    within: NDArray[np.bool_] = np.isin(of_row, choices[best])
    return within


def require_speakers(found: int, least: int) -> None:
    if found < least:
        raise InputError(f"speaker_disjoint needs at least {least} speakers here, got {found}")


def checked(partition: Partition, validation: NDArray[np.bool_], protocol: str) -> Split:
    """A split by a mask over rows, with every digit on both sides or InputError."""
    made = Split(train=np.flatnonzero(~validation), validation=np.flatnonzero(validation))
    for side, rows in (("training", made.train), ("validation", made.validation)):
        counts = np.bincount(partition.labels[rows], minlength=partition.labels.max() + 1)
        if not counts.all():
            raise InputError(f"{protocol} must leave every digit on both sides, {side} has no {int(np.argmin(counts))}")
    return made


def leakage(partition: Partition, made: Split) -> tuple[float, float | None]:
    """Shares of validation rows whose recording, and whose speaker, is in training too.

    The second is None where speakers are unknown.
    """
    train, validation = partition.clip_index[made.train], partition.clip_index[made.validation]
    recording = float(np.isin(validation, train).mean())
    speaker = float(np.isin(partition.speaker[validation], partition.speaker[train]).mean())
    return recording, speaker if partition.speakers_known else None
