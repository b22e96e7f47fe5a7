"""Names of classes."""

from __future__ import annotations

import numpy as np
from filesets import ARABIC, WORDS
from hypothesis import given
from hypothesis import strategies as st

from mmtune.data.classes import classes_among, classes_of, digit_of, ordered

SPELLINGS = (str, "0{}".format, "digit_{}".format, "Digit {}".format, "class-{}".format, lambda d: WORDS[d].title())
DEVANAGARI = "०१२३४५६७८९"


def test_a_digit_is_known_however_it_is_written() -> None:
    for spell in (*SPELLINGS, ARABIC.__getitem__, DEVANAGARI.__getitem__, lambda d: WORDS[d].upper()):
        assert [digit_of(spell(digit)) for digit in range(10)] == list("0123456789")
    for other in ("", "cat", "10", "1.0", "-1", "1_0", "²", "nought", "digit", "99999999999999999999"):
        assert digit_of(other) is None


def test_digits_are_digits_only_together() -> None:
    assert classes_of(["07", "seven", "٣"]) == {"07": "7", "seven": "7", "٣": "3"}
    assert classes_of(["07", "cat"]) == {"07": "07", "cat": "cat"}
    assert classes_of([" Cafe\u0301 "]) == {" Cafe\u0301 ": "Café"}


def test_classes_are_found_in_any_case_and_as_digits() -> None:
    assert classes_among(["CAT", "dog", "cow"], ["cat", "Dog"]) == {"CAT": "cat", "dog": "Dog"}
    assert classes_among(["zero", "cat", "٧"], list("0123456789")) == {"zero": "0", "٧": "7"}
    assert classes_among(["0", "cat"], ["zero", "cat"]) == {"0": "zero", "cat": "cat"}
    # Letters of both cases are classes of their own, and only the exact name tells them apart.
    assert classes_among(["a", "A", "b"], ["a", "A", "B"]) == {"a": "a", "A": "A", "b": "B"}


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=30))
def test_every_label_has_one_class_of_its_own_or_shares_a_digit(labels: list[str]) -> None:
    found = classes_of(labels)
    assert set(found) == set(labels)
    assert set(classes_among(labels, ordered(found.values())).values()) == set(found.values())


@given(st.sets(st.integers(0, 10**6), min_size=1))
def test_numbers_are_ordered_by_value(numbers: set[int]) -> None:
    assert list(map(int, ordered(map(str, numbers)))) == np.unique(list(numbers)).tolist()
    assert ordered(["b", "10", "a", "9", "a"]) == ("10", "9", "a", "b")
