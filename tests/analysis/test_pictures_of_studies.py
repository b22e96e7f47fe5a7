"""Pictures of a study are PNGs, whatever its classes are called and however many there are."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from mmtune.analysis import pictures
from mmtune.analysis.pictures import confusion_picture, curves_picture


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize("names", [["0", "1"], ["$x^$", "<b>"], ["c" * 100] * 7, [str(n) for n in range(21)]], ids=len)
def test_a_confusion_matrix_is_drawn_for_any_classes(names: list[str]) -> None:
    rows = np.arange(len(names))
    assert min(size(confusion_picture(rows, rows[::-1].copy(), names, "$title"))) > 300


def test_numbers_stand_in_the_cells_of_a_small_matrix_only(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([0, 1, 1])
    small = confusion_picture(rows, rows, ["a", "b"], "t")
    monkeypatch.setattr(pictures, "MOST_NUMBERS", 1)
    assert confusion_picture(rows, rows, ["a", "b"], "t") != small


def test_curves_are_drawn_with_and_without_values() -> None:
    assert min(size(curves_picture({"#0": [(1, 0.5), (2, 0.7)], "#1": [], "#2": [(1, 0.1)]}, "#0", "F1", "t"))) > 300
    assert min(size(curves_picture({}, "#0", "F1", "t"))) > 300


def test_no_name_of_a_trial_is_read_as_mathematics() -> None:
    assert min(size(curves_picture({"kernel $^$ x": [(1, 0.5), (2, 0.7)]}, "kernel $^$ x", "F1", "t $^$"))) > 300
