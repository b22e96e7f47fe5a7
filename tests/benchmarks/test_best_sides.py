"""What is held side by side: a table of banks, scores with intervals, and a page of them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from benchmarks.best_sides import in_percent, report, scores, table
from mmtune.data.dataset import Dataset


def test_a_table_has_the_values_of_banks_side_by_side(tiny: Dataset) -> None:
    part = tiny.require_test()
    found = table(part, ["image", "audio"])
    assert found.shape == (len(part), 28 * 28 + 39 * 13)
    assert found.dtype == np.float32
    last = np.array([len(part) - 1])
    np.testing.assert_array_equal(found[-1, : 28 * 28], part.banks["image"].of_rows(last).ravel())
    np.testing.assert_array_equal(found[-1, 28 * 28 :], part.banks["audio"].of_rows(last).ravel())


def test_scores_are_scikit_learns_within_their_intervals(tiny: Dataset) -> None:
    label = tiny.require_test().labels
    said = np.where(np.random.default_rng(0).random(len(label)) < 0.2, (label + 1) % 10, label)
    found = scores(tiny, said)
    expected = {"accuracy": accuracy_score(label, said), "macro_f1": f1_score(label, said, average="macro")}
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value)
        assert found[name][1] < value < found[name][2]


def test_the_page_has_a_line_for_each_side(tiny: Dataset) -> None:
    machine = {"processor": "x", "cores": 2, "versions": {"torch": "2"}, "commit": "abc"}
    side = {"side": "mmtune", "seconds": 700.0, "what": "Ensemble", **scores(tiny, tiny.require_test().labels)}
    entry = {"date": "2026-01-01", "machine": machine, "hours": 0.2, "rows": 300, "test": 120, "sides": [side]}
    page = report({"best": {"tiny": entry}})
    assert f"| mmtune | 700 | {in_percent(side['macro_f1'])} | {in_percent(side['accuracy'])} | Ensemble |" in page
    assert "100.00 (" in page
