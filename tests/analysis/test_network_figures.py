"""Pictures of rows hold every row and every value that they were given."""

from __future__ import annotations

import numpy as np
import pytest

from mmtune.analysis.figures import networks
from mmtune.analysis.figures.look import CLASS_COLOURS, label
from mmtune.report.embeddings import label_and_cluster


def test_every_row_of_an_embedding_is_drawn_once_in_the_colour_of_its_group() -> None:
    rng, names = np.random.default_rng(0), ["a", "b", "<c>", "d"]
    points, groups = rng.normal(size=(80, 2)), rng.integers(0, 4, 80)
    hover = np.array([f"row {i}" for i in range(80)])
    fig = networks.embedding(points, groups, ("first", "second"), hover, names, np.arange(80))
    drawn = {
        text: (x, y, t.name, t.marker.color) for t in fig.data for text, x, y in zip(t.text, t.x, t.y, strict=True)
    }
    assert len(drawn) == sum(len(t.x) for t in fig.data) == 80
    assert all(f"row {row}" == text for t in fig.data for row, text in zip(t.customdata, t.text, strict=True))
    for i in range(80):
        x, y, name, colour = drawn[f"row {i}"]
        assert (x, y) == pytest.approx(tuple(points[i]), abs=1e-4)
        assert (name, colour) == (label(names[groups[i]]), CLASS_COLOURS[groups[i]])
    assert (fig.layout.xaxis.title.text, fig.layout.yaxis.title.text) == ("first", "second")
    assert [a.text for a in fig.layout.annotations] == [f"<b>{label(name)}</b>" for name in names]


def test_more_groups_than_colours_are_still_drawn() -> None:
    groups = np.arange(26)
    named = [*map(str, groups)]
    fig = networks.embedding(np.eye(26, 2), groups, ("a", "b"), np.array(named), named, groups)
    assert [trace.name for trace in fig.data] == [str(g) for g in groups]


@pytest.mark.parametrize("steps", [1, 2, 12, 13, 58])
def test_steps_run_evenly_from_the_first_to_the_last(steps: int) -> None:
    shown = networks.shown_steps(steps)
    assert (shown[0], shown[-1], len(shown)) == (0, steps - 1, min(steps, 12))
    assert np.ptp(np.diff(shown)) <= 1 if steps > 1 else shown == [0]


def test_maps_hold_the_values_of_their_steps_under_one_scale() -> None:
    frames = np.random.default_rng(0).normal(size=(30, 5, 7)).astype(np.float32)
    fig = networks.maps(frames)
    shown = networks.shown_steps(30)
    assert [note.text for note in fig.layout.annotations] == [f"step {step + 1}" for step in shown]
    for trace, step in zip(fig.data, shown, strict=True):
        np.testing.assert_allclose(np.array(trace.z), frames[step], rtol=0.006)
        assert (trace.zmin, trace.zmax) == pytest.approx((-np.abs(frames).max(), np.abs(frames).max()))


def test_maps_of_nothing_and_without_time_are_drawn() -> None:
    fig = networks.maps(np.zeros((1, 3, 3), np.float32))
    assert len(fig.data) == 1
    assert fig.data[0].zmax > fig.data[0].zmin


def test_what_a_class_is_called_is_no_mark_up_beside_a_point_either() -> None:
    rows = np.arange(2)
    validation = {"row": rows, "label": rows, "prediction": rows}
    made = label_and_cluster(np.eye(2), rows, ("x", "y"), validation, rows, ["<b>a", "b"])
    for fig in made.values():
        assert "<b>a" not in str(fig.data)
        assert any("&lt;b&gt;a" in text for trace in fig.data for text in trace.text)
