"""How robust a trial is, as it is told: a row a way to go wrong, where a fusion is worse than a part of it, groups."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mmtune.report.robustness import falls, fusion_line, group_line, robustness_lines, robustness_table
from mmtune.serve.measured import Group, Measured
from mmtune.train.robustness import Curve, Robustness, Score


def score(fused: float, **alone: float) -> Score:
    return Score(accuracy=fused, macro_f1=fused - 0.01, alone=alone)


def curve(bank: str, *scores: Score, name: str = "noise", at: str = "") -> Curve:
    levels = tuple(float(n) for n in range(1, len(scores) + 1))
    return Curve(bank=bank, corruption=name, unit="px", at=at or bank, levels=levels, scores=scores)


def measured(clean: Score, *curves: Curve, groups: tuple[Group, ...] = ()) -> Measured:
    return Measured(on="validation", rows=10, robustness=Robustness(clean=clean, curves=curves), groups=groups)


def cells(own: Measured) -> list[tuple[str, ...]]:
    table = robustness_table(own)
    return list(zip(*(map(str, column.cells) for column in table.columns), strict=True))


SINGLE = measured(score(0.9), curve("image", score(0.8), score(0.71234)), curve("image", score(0.6), name="blur"))
GOOD = score(0.95, image=0.9, audio=0.8)
LOST = curve("image", score(0.3, image=0.1, audio=0.8), name="missing")


def test_a_network_of_one_bank_has_a_row_a_way_and_a_column_a_level() -> None:
    assert cells(SINGLE) == [
        ("image", "noise (px)", "90.00", "80.00 at 1", "71.23 at 2"),
        ("image", "blur (px)", "90.00", "60.00 at 1", ""),
    ]
    (line,) = robustness_lines(SINGLE)
    mean = (0.8 + 0.71234 + 0.6) / 3 - 0.01
    assert line == f"mean macro-F1 over all that goes wrong: {100 * mean:.2f} % (image at the network's input)"


def test_a_fusion_has_the_best_of_its_parts_below_it() -> None:
    own = measured(GOOD, curve("image", score(0.9, image=0.5, audio=0.8)))
    assert cells(own) == [
        ("image", "noise (px)", "fused", "95.00", "90.00 at 1"),
        ("image", "noise (px)", "best alone", "90.00 image", "80.00 audio"),
    ]
    assert robustness_lines(own)[1] == "fused is nowhere more than 0.3 points below its best part"


def test_where_a_fusion_is_worse_than_a_part_that_is_said_with_the_worst() -> None:
    hit = curve("image", score(0.79, image=0.5, audio=0.8), score(0.6, image=0.2, audio=0.8), at="waveform")
    own = measured(GOOD, hit, LOST)
    assert robustness_lines(own)[1] == (
        "fused falls below its best part 2 times in 3, by up to 20.00 points: image noise 2 px, "
        "60.00 % against 80.00 % of audio alone"
    )
    assert "(image at the bank waveform)" in robustness_lines(own)[0]
    # Of two banks the other one's own answer is then what is predicted; of three it is the fused one.
    three = Robustness(clean=score(0.95, image=0.9, audio=0.8, age=0.3), curves=(LOST,))
    assert [round(fall.points, 2) for fall in falls(own.robustness)] == [-0.05, 0.01, 0.2]
    assert "image missing 1 px, 30.00 % against 80.00 % of audio alone" in fusion_line(three)


def test_a_part_that_some_rows_lack_is_held_against_the_fusion_on_those_that_have_it() -> None:
    clean = Score(accuracy=0.9, macro_f1=0.9, alone={"image": 0.95, "audio": 0.6}, beside={"image": 0.97})
    own = Robustness(clean=clean, curves=(curve("image", replace(clean, beside={"image": 0.9})),))
    assert [(round(fall.points, 2), fall.bank, fall.some) for fall in falls(own)] == [
        (-0.02, "image", True),
        (0.05, "image", True),
    ]
    assert fusion_line(own).endswith("90.00 % against 95.00 % of image alone, both of the rows that have it")


@pytest.mark.parametrize(("trained", "said"), [(0, "none"), (3, "3"), (6, "all")])
def test_a_group_is_a_line(trained: int, said: str) -> None:
    own = Group(name="speaker", members=6, trained=trained, mean=0.9, worst=0.5, member="theo", rows=31)
    assert group_line(own) == (
        f"speaker: 6 of them, {said} known from training; mean accuracy 90.00 %, worst 50.00 % (theo, 31 rows)"
    )
    assert robustness_lines(measured(score(0.9), groups=(own,)))[-1] == group_line(own)


def test_where_nothing_can_go_wrong_there_is_no_row() -> None:
    own = measured(score(0.9))
    assert cells(own) == []
    assert robustness_lines(own) == ["nothing is known to go wrong with values of these kinds"]
