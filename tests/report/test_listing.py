"""The list of studies: a row a file, and a line for each that is broken."""

from __future__ import annotations

from pathlib import Path

from mmtune.report.listing import study_table
from mmtune.study import study_files
from mmtune.study.beginning import begin
from mmtune.study.finding import SHIPPED


def cells(files: dict[str, list[Path]]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Its rows, and its lines."""
    table, broken = study_table(files, None)
    return list(zip(*(map(str, column.cells) for column in table.columns), strict=True)), broken


def test_every_shipped_study_is_a_row() -> None:
    rows, broken = cells({name: [SHIPPED / f"{name}.py"] for name in ("audio_rnn", "multihead_fusion")})
    assert broken == []
    assert rows[0] == ("audio_rnn", "Joshi", "RNN on the spoken name", "6 grid x 25 epochs", "accuracy 92.90%", "-")
    assert rows[1][3] == "13 tries x 20-100 epochs"


def test_a_name_that_several_files_have_stands_with_each(tmp_path: Path) -> None:
    first, second = begin("mine", tmp_path / "a"), begin("mine", tmp_path / "b")
    rows, broken = cells({"mine": [first, second], "image_cnn": study_files()["image_cnn"]})
    assert [row[0] for row in rows] == [f"mine ({first})", f"mine ({second})", "image_cnn"]
    assert rows[0][1:] == ("-", "-", "30 tpe x 10 epochs", "-", "-")
    assert broken == []


def test_what_is_broken_ends_nothing(tmp_path: Path) -> None:
    texts = {"a": "import nowhere_at_all\n", "b": "", "c": "def f(:\n", "d-e": "", "f": "exit(3)\n"}
    files = {name: [tmp_path / f"{name}.py"] for name in texts}
    for name, text in texts.items():
        files[name][0].write_text(text)
    rows, broken = cells({**files, "mine": [begin("mine", tmp_path)]})
    assert [row[0] for row in rows] == ["mine"]
    assert [line.removeprefix(f"{tmp_path}/").partition(" must ")[0] for line in broken] == [
        "a.py:1:",
        "b.py",
        "c.py:1:",
        "d-e.py",
        "f.py:1:",
    ]
