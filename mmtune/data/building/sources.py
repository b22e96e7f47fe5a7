"""What is read of files before it becomes a data set, and how the user wants it read."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.data.dataset import Partition
from mmtune.data.forms import Form

Mask = NDArray[np.bool_]
TRAIN, BETWEEN, TEST = ("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing")


class Asked(NamedTuple):
    """A bank of the data set: its name, the column of a source that it is made from, and what its values are."""

    bank: str
    column: str
    form: Form


class Source(NamedTuple):
    """The samples of a folder or a table. rows: their banks by column, nothing of them scaled; labels number `classes`.

    test (N,): which rows the source itself gives to the test; None where it does not say. facts: what was found.
    bad: why files or lines, by their names, are not among the rows.
    """

    classes: tuple[str, ...]
    rows: Partition
    test: Mask | None
    facts: dict[str, Any]
    bad: dict[str, str]

    def take(self, rows: NDArray[np.int64]) -> Source:
        """Some rows."""
        return self._replace(rows=self.rows.take(rows), test=None if self.test is None else self.test[rows])


@dataclass(frozen=True, kw_only=True)
class How:
    """What a user may say of any source.

    label, groups: for a table columns (groups as NAME=COLUMN or COLUMN), for a folder regexes over paths below it, with
    one pair of parentheses around what counts (groups as NAME=REGEX); "" for what is usual. split: a column.
    keep_apart: a group that a drawn test partition shares nobody of with training. seed: of all that is drawn.
    skip_bad: whether to go on without files that cannot be read.
    """

    seed: int = 0
    label: str = ""
    split: str = ""
    groups: tuple[str, ...] = ()
    keep_apart: str = ""
    skip_bad: bool = False

    def __post_init__(self) -> None:
        require_count("--seed", self.seed, 0)

    def named_groups(self, alone: bool) -> Mapping[str, str]:
        """Columns or regexes by the name of their group; alone: whether a column may stand for its own name."""
        found: dict[str, str] = {}
        for text in self.groups:
            name, equals, given = text.partition("=")
            own = given if equals or not alone else name
            if not name.isidentifier() or not name.isascii() or not own:
                rule = "COLUMN or NAME=COLUMN" if alone else "NAME=REGEX"
                raise InputError(f"--group must be {rule}, with a name such as speaker, got {text!r}")
            if name in found:
                raise InputError(f"--group must be given once for {name}, got another by {text!r}")
            found[name] = own
        return found


def test_parts(names: Collection[str]) -> dict[str, bool]:
    """Whether each name of a partition, in any case, is the test; {} unless there are training and test.

    What is called validation counts as training, as a study validates by itself, but where there is no other test.
    """
    train, between, test = ({name for name in names if name.casefold() in kind} for kind in (TRAIN, BETWEEN, TEST))
    if not train or not (test or between):
        return {}
    return {name: name in (test or between) for name in train | between | test}


def regex(pattern: str, option: str) -> re.Pattern[str]:
    """A user's regex; InputError unless it is one, with one pair of parentheses that counts."""
    try:
        made = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"{option} must be a regex over paths, got {pattern!r}: {error}") from error
    if made.groups != 1:
        raise InputError(
            f"{option} must have one pair of parentheses around what counts, {pattern!r} has {made.groups}"
        )
    return made
