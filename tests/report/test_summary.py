"""What the command line's tables show is whole: nothing is cut to a width."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from rich.table import Column, Table

from mmtune.report.comparing import Answers, compared, comparison_table
from mmtune.report.summary import history_table, show
from mmtune.serve.versions import VersionRecord
from mmtune.study import StudyKey, study_files

NAMES = list(study_files())
KEY = StudyKey(
    study="xflow_lstm", data="tiny", digest="0" * 64, protocol="speaker_disjoint", seed=0, epochs=9, sampler="tpe"
)


def listed() -> Table:
    """Like that of `mmtune studies`."""
    table = Table(Column("study", no_wrap=True), "what", "measured")
    for name in NAMES:
        table.add_row(name, "short words and short words, again and again", "of [bold] measured_in_one_long_word")
    return table


def answers(name: str) -> Answers:
    rows = np.arange(9)
    return Answers(key=replace(KEY, study=name), row=rows, unit=rows, kind="sample", right=rows > 0)


def comparisons() -> Table:
    return comparison_table(compared([(answers(name), answers("xflow_cnn_mlp_baseline")) for name in NAMES]))


def versions() -> Table:
    record = VersionRecord(
        version="1",
        trial="03 kernel=5",
        study_key=KEY.slug,
        objective="val macro-F1 0.9000",
        test_macro_f1=0.9,
        test_accuracy=0.9,
        forced=True,
        reigns=[("2026-11-21T10:00:00", "2026-11-22T10:00:00"), ("2026-11-24T10:00:00", None)],
    )
    return history_table([record, record])


TABLES = {
    "studies": (listed, NAMES),
    "compare": (comparisons, [*NAMES, "xflow_cnn_mlp_baseline"]),
    "history": (versions, [KEY.slug]),
}


def printed(table: Table, width: int, terminal: bool) -> str:
    out = io.StringIO()
    show(Console(file=out, width=width, force_terminal=terminal, color_system=None), table)
    return out.getvalue()


@pytest.mark.parametrize("width", [20, 40, 80, 100, 130, 300])
@pytest.mark.parametrize("name", TABLES)
def test_no_name_is_cut_or_broken_on_a_terminal_of_any_width(name: str, width: int) -> None:
    make, names = TABLES[name]
    text = printed(make(), width, terminal=True)
    assert "…" not in text
    for own in names:
        assert re.search(rf"(?<!\w){re.escape(own)}(?!\w)", text), own


@pytest.mark.parametrize("name", TABLES)
def test_in_a_pipe_every_row_is_a_line(name: str) -> None:
    make, _ = TABLES[name]
    table = make()
    rows = [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]
    lines = printed(table, 80, terminal=False).splitlines()
    assert [[cell.strip() for cell in line.strip("│").split("│")] for line in lines[3:-1]] == rows
