"""Named ways to divide the training partition, and what each lets through.

random           at random over rows, as the papers did; a recording may stand on both sides
disjoint:GROUP   no two rows of one group on both sides, such as a speaker or a patient
disjoint:content no two rows with an equal picture, sound or array on both sides; so it is under every other group
as_reported, clip_disjoint and speaker_disjoint are random, disjoint:recording and disjoint:speaker.

Rows that are equal in everything count as one, but between the members of a group where all that they have is a few
numbers: two patients may be of one age.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.data.dataset import RECORDING, SPEAKER, Dataset, Partition, Rows
from mmtune.data.identity import equal_rows, joined

RANDOM, DISJOINT, CONTENT = "random", "disjoint:", "content"
SAMPLE = "sample"
PROTOCOLS = ("as_reported", "clip_disjoint", "speaker_disjoint")
NAMED = dict(zip(PROTOCOLS, (RANDOM, f"{DISJOINT}{RECORDING}", f"{DISJOINT}{SPEAKER}"), strict=True))
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


def require_protocol(protocol: str) -> None:
    """Raise InputError unless this is the name of a protocol."""
    named, disjoint, group = meaning(protocol).rpartition(DISJOINT)
    if named or not (group.isidentifier() if disjoint else group == RANDOM):
        known = f"{RANDOM}, {DISJOINT}GROUP, {', '.join(PROTOCOLS)}"
        raise InputError(f"protocol must be one of {known}, got {protocol!r}")


def meaning(protocol: str) -> str:
    """A protocol by its general name."""
    return NAMED.get(protocol, protocol)


def usual_protocol(dataset: Dataset) -> str:
    """What a study uses unless told otherwise: what the test keeps apart, or recordings, where there are any."""
    if dataset.keep_apart:
        return f"{DISJOINT}{dataset.keep_apart}"
    return "clip_disjoint" if RECORDING in dataset.train.groups else f"{DISJOINT}{CONTENT}"


def split(partition: Partition, protocol: str, seed: int) -> Split:
    """One split under a protocol; the same seed gives the same split.

    A fifth of rows or groups validates, as the protocol divides them; classes are kept in proportion.
    Raises InputError where the data cannot be split so with every class on both sides.
    """
    from sklearn.model_selection import train_test_split

    unit = units(partition, protocol)
    if are_together(unit, partition.labels, protocol, 2):
        require_units(partition, protocol, unit, 2)
        return checked(partition, best_groups(unit, partition.labels, seed, SHARE), protocol)
    labels = label_of(unit, partition.labels)
    require_members(labels, 2, protocol)
    if SHARE * len(labels) < len(np.unique(labels)):  # too few for one of each class, as scikit-learn counts them
        return checked(partition, drawn(labels, seed, SHARE)[unit], protocol)
    train, chosen = train_test_split(np.arange(len(labels)), test_size=SHARE, random_state=seed, stratify=labels)
    if not all(np.isin(labels, labels[side]).all() for side in (train, chosen)):
        # In proportion a rare class has less than one.
        return checked(partition, drawn(labels, seed, SHARE)[unit], protocol)
    return checked(partition, np.isin(unit, chosen), protocol)


def drawn(labels: Rows, seed: int, share: float) -> NDArray[np.bool_]:
    """A share of every class at random, at least one, (N,) bool."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    order = np.argsort(labels, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        chosen[rng.permutation(rows)[: max(1, round(len(rows) * share))]] = True
    return chosen


def folds(partition: Partition, protocol: str, k: int, seed: int) -> list[Split]:
    """k splits whose validation sides are disjoint and together all rows, under a protocol as in `split`.

    With k = number of speakers, `speaker_disjoint` leaves one speaker out at a time; so with other groups.
    """
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

    require_count("k", k, 2, max(2, len(partition)))
    unit, labels = units(partition, protocol), partition.labels
    if are_together(unit, labels, protocol, k):
        require_units(partition, protocol, unit, k)
        count = int(unit.max()) + 1
        require_members(labels_of(unit, labels), k, protocol)
        cutter = LeaveOneGroupOut() if k == count else StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        parts = [np.isin(np.arange(len(unit)), part) for _, part in cutter.split(labels, labels, unit)]
    else:
        own = label_of(unit, labels)
        require_members(own, k, protocol)
        cut = StratifiedKFold(k, shuffle=True, random_state=seed).split(own, own)
        parts = [np.isin(unit, part) for _, part in cut]
    return [checked(partition, part, protocol) for part in parts]


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


def units(partition: Partition, protocol: str) -> Rows:
    """The unit of each row, (N,) from 0, of what a protocol divides; rows of equal content are in one.

    InputError where the protocol keeps a group apart that is not known of every row.
    """
    require_protocol(protocol)
    kept = meaning(protocol)
    if kept == RANDOM:
        _, compact = np.unique(equal_rows(partition), return_inverse=True)
        return compact.astype(np.int64)
    group = kept.removeprefix(DISJOINT)
    if group == CONTENT:
        # Of a few numbers each too: a copy of a training row is not to validate.
        return joined(partition, equal_rows(partition))
    if group not in partition.groups:
        there = ", ".join(partition.groups) or "none"
        raise InputError(f"{protocol} needs the group {group}, the data set has {there}")
    if not partition.known(group):
        unknown = int(np.sum(partition.groups[group] == ""))
        raise InputError(f"{protocol} needs the {group} of every row, unknown for {unknown}")
    return joined(partition, partition.groups[group])


def kept_apart(protocol: str) -> str:
    """The group of which a protocol keeps members apart, SAMPLE where it is none."""
    kept = meaning(protocol).removeprefix(DISJOINT)
    return SAMPLE if kept in (RANDOM, CONTENT) else kept


def independent(partition: Partition, protocol: str, training: Partition | None = None) -> tuple[str, Rows]:
    """What is one piece of evidence among rows, in a word, and its number in each row, (N,) from 0.

    A member of the group that the protocol keeps apart: whoever parts patients asks about new ones, of whom each is one
    however many rows it has. Where none is kept apart, a recording, where they are known, or equal content: a SAMPLE.

    training: of rows of a test partition, what was trained on. A group of which that has no member counts as kept apart
    too, as whoever drew the test did so; of several the one with the fewest members.
    """
    known = [name for name in partition.groups if partition.known(name)]
    new = [] if training is None else [name for name in known if not share_members(partition, training, name)]
    kept = {kept_apart(protocol), *new} & set(known) or {RECORDING} & set(known)
    if not kept:
        return SAMPLE, joined(partition, np.arange(len(partition)))
    group = min(sorted(kept), key=lambda name: len(np.unique(partition.groups[name])))
    return group, joined(partition, partition.groups[group])


def evidence(kind: str, unit: Rows) -> str:
    """How many pieces of evidence rows are, in words: what `independent` gives."""
    count = len(np.unique(unit))
    return f"{count:,} {kind}{'s' if count != 1 else ''}"


def share_members(ours: Partition, theirs: Partition, group: str) -> bool:
    """Whether rows of two partitions are of one member of a group."""
    return bool(set(ours.groups[group].tolist()) & set(theirs.groups[group].tolist()) - {""})


def are_together(unit: Rows, labels: Rows, protocol: str, least: int) -> bool:
    """Whether units (N,) are chosen together rather than class by class, as they have rows (N,) of several classes.

    Those of a group, such as speakers; others where by the label of most of its rows some class has not `least` units,
    though it has rows in so many.
    """
    if meaning(protocol) not in (RANDOM, f"{DISJOINT}{RECORDING}", f"{DISJOINT}{CONTENT}"):
        return True
    width = int(labels.max()) + 1
    most, there = (np.bincount(own, minlength=width) for own in (label_of(unit, labels), labels_of(unit, labels)))
    return bool(((most < least) & (there >= least)).any())


def labels_of(unit: Rows, labels: Rows) -> Rows:
    """The label of each unit and class that there is, once: in how many units each class has rows."""
    width = int(labels.max()) + 1
    return np.unique(unit * width + labels) % width


def label_of(unit: Rows, labels: Rows) -> Rows:
    """The label of each unit: that of most of its rows, the lowest of equals."""
    # By pairs, as a table of all units and classes may be large; of equal counts the lowest label comes last.
    width = int(labels.max()) + 1
    pairs, counts = np.unique(unit * width + labels, return_counts=True)
    order = np.lexsort((-pairs, counts, pairs // width))
    most = np.empty(int(unit.max()) + 1, np.int64)
    most[pairs[order] // width] = pairs[order] % width
    return most


class TooFewError(InputError):
    """A class has too few units to be divided; the number of the class, whose name its caller may know, is `label`."""

    def __init__(self, rule: str, label: int, count: int) -> None:
        super().__init__(f"{rule}, class {label} has {count}")
        self.rule, self.label, self.count = rule, label, count

    def of(self, classes: Sequence[str]) -> InputError:
        """The same with the name of the class."""
        return InputError(f"{self.rule}, {classes[self.label]!r} has {self.count}")


def require_members(labels: Rows, least: int, protocol: str) -> None:
    """Raise InputError unless every class has at least `least` units, by the label (M,) of each."""
    counts = np.bincount(labels)
    if counts.min() < least:
        group = kept_apart(protocol)
        what = "rows" if group == SAMPLE else f"{group}s"
        label = int(np.argmin(counts))
        raise TooFewError(f"{protocol} needs at least {least} {what} of every class", label, int(counts[label]))


def best_groups(group: NDArray[np.generic], labels: Rows, seed: int, share: float) -> NDArray[np.bool_]:
    """Rows of the groups to hold out, (N,) bool: of many random choices the one with classes nearest to `share`.

    group (N,): the group of every row, of two or more.
    """
    from sklearn.model_selection import ShuffleSplit

    names, of_row = np.unique(group, return_inverse=True)
    wanted = min(max(round(share * len(names)), 1), len(names) - 1)
    cutter = ShuffleSplit(CANDIDATES, test_size=wanted, random_state=seed)
    choices = [np.isin(np.arange(len(names)), chosen) for _, chosen in cutter.split(np.arange(len(names)))]
    width = int(labels.max()) + 1
    counts = np.array([np.bincount(labels[chosen[of_row]], minlength=width) for chosen in choices])
    shares = counts / np.maximum(np.bincount(labels, minlength=width), 1)
    one_sided = ((shares == 0) | (shares == 1)).any(axis=1)
    best = int(np.argmin(np.abs(shares - share).mean(axis=1) + one_sided))
    within: NDArray[np.bool_] = choices[best][of_row]
    return within


def require_units(partition: Partition, protocol: str, unit: Rows, least: int) -> None:
    """Raise InputError unless there are so many units (N,) to keep apart."""
    found, group = int(unit.max()) + 1, kept_apart(protocol)
    if found < least:
        members = len(np.unique(partition.groups[group])) if group in partition.groups else found
        tied = f": equal content ties the {members} of {group} together" if members > found else ""
        raise InputError(f"{protocol} needs at least {least} groups here, got {found}{tied}")


def checked(partition: Partition, validation: NDArray[np.bool_], protocol: str) -> Split:
    """A split by a mask over rows, with every class on both sides or InputError."""
    made = Split(train=np.flatnonzero(~validation), validation=np.flatnonzero(validation))
    for side, rows in (("training", made.train), ("validation", made.validation)):
        counts = np.bincount(partition.labels[rows], minlength=partition.labels.max() + 1)
        if not counts.all():
            raise InputError(f"{protocol} must leave every class on both sides, {side} has no {int(np.argmin(counts))}")
    return made


def leakage(partition: Partition, made: Split) -> dict[str, float]:
    """Shares of validation rows whose group, or whose value in a bank, is in training too; by name.

    Groups that are not known of every row are left out. Rows that have nothing in a bank share nothing in it.
    """
    shared = {name: own for name, own in partition.groups.items() if partition.known(name)}
    return {name: float(np.isin(own[made.validation], own[made.train]).mean()) for name, own in shared.items()} | {
        f"equal {name}": float(((own >= 0) & np.isin(own, bank.index[made.train])).mean())
        for name, bank in partition.banks.items()
        if name not in shared
        for own in [bank.index[made.validation]]
    }
