"""What is the same: laws of banks, of compacting, and of what must stay together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from filesets import random_partition
from hypothesis import given
from hypothesis import strategies as st

from mmtune.data.dataset import Bank, Partition
from mmtune.data.identity import distinct, equal_rows, joined, shared

small = st.lists(st.integers(0, 4), min_size=1, max_size=30)


def bank(numbers: list[int], missing: list[bool] | None = None) -> Bank:
    values = np.repeat(np.array(numbers, np.uint8)[:, None], 20, axis=1)
    return distinct(values, None if missing is None else ~np.array(missing))


def partition(*columns: list[int]) -> Partition:
    rows = len(columns[0])
    banks = {f"b{turn}": bank(column) for turn, column in enumerate(columns)}
    return Partition(banks=banks, labels=np.zeros(rows, np.int64), groups={})


@given(small, st.data())
def test_a_bank_holds_every_value_once(numbers: list[int], data: st.DataObject) -> None:
    missing = data.draw(st.lists(st.booleans(), min_size=len(numbers), max_size=len(numbers)))
    made = bank(numbers, missing)
    rows = np.arange(len(numbers))
    assert np.array_equal(made.of_rows(rows)[:, 0], np.where(missing, 0, numbers))
    assert np.array_equal(made.index < 0, missing)
    assert len(np.unique(made.values, axis=0)) == len(made.values)
    first = [
        n
        for turn, n in enumerate(numbers)
        if not missing[turn] and n not in [m for m, gone in zip(numbers[:turn], missing, strict=False) if not gone]
    ]
    assert made.values[:, 0].tolist() == first


@given(small, st.data())
def test_compacting_changes_no_row_and_leaves_no_spare_value(numbers: list[int], data: st.DataObject) -> None:
    missing = data.draw(st.lists(st.booleans(), min_size=len(numbers), max_size=len(numbers)))
    chosen = np.array(data.draw(st.lists(st.integers(0, len(numbers) - 1), max_size=20)), np.int64)
    made = bank(numbers, missing)
    taken = replace(made, index=made.index[chosen])
    small_one = taken.compact()
    rows = np.arange(len(chosen))
    assert np.array_equal(small_one.of_rows(rows), taken.of_rows(rows))
    assert np.array_equal(small_one.index < 0, taken.index < 0)
    assert len(small_one.values) == len(set(taken.index.tolist()) - {-1})


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=25))
def test_what_is_joined_is_what_links_reach(rows: list[tuple[int, int, int]]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)]
    found = joined(partition(*columns[:2]), columns[2])
    together = {(a, b) for a in range(len(rows)) for b in range(len(rows)) if any(map(int.__eq__, rows[a], rows[b]))}
    while True:  # the closure, by brute force
        more = together | {(a, d) for a, b in together for c, d in together if b == c}
        if more == together:
            break
        together = more
    for a in range(len(rows)):
        for b in range(len(rows)):
            assert (found[a] == found[b]) == ((a, b) in together)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=25))
def test_equal_rows_share_a_number(rows: list[tuple[int, int]]) -> None:
    found = equal_rows(partition(*map(list, zip(*rows, strict=True))))
    assert found.tolist() == [list(dict.fromkeys(rows)).index(row) for row in rows] or len(set(rows)) == len(rows)


@given(small, small)
def test_shared_is_what_a_loop_finds(ours: list[int], theirs: list[int]) -> None:
    expected = [number in theirs for number in ours]
    assert shared(partition(ours), partition(theirs)).tolist() == expected
    both = partition(ours + theirs)
    parts = [both.take(np.arange(len(ours))), both.take(np.arange(len(ours), len(ours + theirs)))]
    assert shared(*parts).tolist() == expected


def test_short_vectors_and_missing_values_are_nobodys_identity() -> None:
    made = random_partition(20, 20)
    short = Bank(values=np.zeros((1, 3), np.float32), index=np.zeros(20, np.int64))
    absent = Bank(values=np.zeros((0, 30), np.float32), index=np.full(20, -1))
    with_both = replace(made, banks={"short": short, "absent": absent})
    assert len(set(joined(with_both, np.arange(20)))) == 20
    assert not shared(with_both, with_both).any()
    assert absent.of_rows(np.arange(3)).shape == (3, 30)
