"""A test partition drawn from data that have none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmtune.base.errors import InputError
from mmtune.data.building.drawing import TEST_SHARE, draw, with_test
from mmtune.data.dataset import Dataset
from mmtune.data.identity import shared
from mmtune.data.storage.store import kept


def groups(dataset: Dataset) -> dict[str, tuple[set[str], set[str]]]:
    """Of each group its members in training and in the test."""
    sides = dataset.train.groups, dataset.require_test().groups
    return {name: (set(sides[0][name]), set(sides[1][name])) for name in sides[0]}


@pytest.mark.parametrize("keep_apart", ["", "recording"])
def test_nothing_of_the_test_is_left_in_training(tiny: Dataset, tmp_path: Path, keep_apart: str) -> None:
    whole = replace(tiny, test=None, keep_apart=keep_apart)
    found = with_test(whole, 0)
    test = found.require_test()
    assert not shared(found.train, test).any()
    assert set(test.labels) == set(found.train.labels) == set(tiny.train.labels)
    assert len(test) == pytest.approx(TEST_SHARE * len(tiny.train), rel=0.4)
    assert len(test) + len(found.train) + found.provenance["left_out"] == len(tiny.train)
    apart = keep_apart or "speaker"
    if apart in groups(found):
        train, held = groups(found)[apart]
        assert not train & held

    again = kept(with_test(whole, 0), tmp_path)
    assert again.digest == found.digest != with_test(whole, 1).digest
    assert again.folder.parent == tmp_path
    assert np.array_equal(again.require_test().labels, test.labels)


def test_a_class_that_cannot_be_on_both_sides_is_said(tiny: Dataset) -> None:
    rows = np.flatnonzero(tiny.train.labels != 3)
    train = tiny.train.take(np.append(rows, np.flatnonzero(tiny.train.labels == 3)[:1])).compact()
    with pytest.raises(InputError, match="3"):
        with_test(replace(tiny, train=train, test=None), 0)


def test_where_all_speakers_share_content_the_test_is_drawn_by_content(tiny: Dataset) -> None:
    """Everybody saw the same pictures: nobody can be held out, and copies still stand on one side."""
    rows = np.arange(len(tiny.train))
    image = tiny.train.banks["image"]
    same = replace(image, index=image.index[rows // 2 * 2])
    who = np.array(["ann", "bob"])[rows % 2]
    train = replace(tiny.train, banks={"image": same}, groups={"speaker": who}).compact()
    labels = train.labels[rows // 2 * 2]
    mask, rule = draw(replace(train, labels=labels), "", 0)
    assert rule == "drawn, no equal content on both sides, seed 0"
    assert mask.any()
    assert not mask.all()
