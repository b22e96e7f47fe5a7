"""Reported against measured: lines, the file they go into, and the page."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from mmtune.analysis.statistics import summary
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.study import load_study
from mmtune.tracking import COMPLETE, TrialRun
from reproduction.measured import Result
from reproduction.page import dots, write_page
from reproduction.results_file import block, markers, placed, read_results, systems, write_results
from reproduction.table import Line, caption, lines_of, notes
from reproduction.tasks import Task

BEST = {"val_accuracy_at_best": 0.9, "best_val_macro_f1": 0.89, "test_accuracy": 0.8, "test_macro_f1": 0.79}
FINAL = {"final_val_accuracy": 0.7, "final_val_macro_f1": 0.69, "final_test_accuracy": 0.6, "final_test_macro_f1": 0.59}


def trial(metrics: dict[str, float]) -> TrialRun:
    return TrialRun(run_id="", number=0, name="", state=COMPLETE, started=0, params={}, metrics=metrics, tags={})


def result(name: str, metrics: dict[str, float] | None, problem: str = "", **own: object) -> Result:
    task = Task(**{"study": name, "protocol": "as_reported", **own})  # type: ignore[arg-type]
    made = None if metrics is None else trial(metrics)
    return Result(task=task, study=load_study(name), trial=made, problem=problem)


def one_line(dataset: Dataset, *results: Result) -> Line:
    (line,) = lines_of(results, dataset, None)
    return line


def test_a_line_holds_the_measured_against_the_reported(tiny: Dataset) -> None:
    line = one_line(tiny, result("image_cnn", BEST, epochs=4))
    cells = line.cells()
    assert (cells["reported"], cells["difference"]) == ("accuracy 98.48", "accuracy −18.48")
    assert (cells["val_accuracy"], cells["test_accuracy"], cells["test_macro_f1"]) == ("90.00", "80.00", "79.00")
    assert cells["budget"] == "4 of 10 epochs"
    assert cells["remarks"] == "budget below the report's: 4 of 10 epochs"
    assert cells["command"] == " ".join(line.task.command())
    assert one_line(tiny, result("image_cnn", BEST)).remarks == ()


def test_each_metric_is_compared_with_its_own_number(tiny: Dataset) -> None:
    line = one_line(tiny, result("multihead_fusion", BEST))
    assert line.differences() == pytest.approx({"accuracy": 80 - 99.76, "macro_f1": 79 - 99.8})
    assert one_line(tiny, result("spectrogram_fusion", BEST)).cells()["difference"] == "–"


def test_without_test_rows_the_difference_says_what_it_is_of(tiny: Dataset) -> None:
    line = one_line(replace(tiny, test=None), result("image_cnn", {k: v for k, v in BEST.items() if "val" in k}))
    assert line.cells()["difference"] == "accuracy −8.48 (val)"
    assert line.cells()["interval"] == ""


def test_seeds_share_a_line_with_mean_and_deviation(tiny: Dataset) -> None:
    values = [0.8, 0.83, 0.9]
    results = [
        replace(result("image_cnn", {**BEST, "test_accuracy": v}, seed=seed), intervals={"accuracy": (v, v)})
        for seed, v in enumerate(values)
    ]
    line = one_line(tiny, *results)
    assert line.seeds == (0, 1, 2)
    assert line.scores["test_accuracy"] == summary(values)
    cells = line.cells()
    assert cells["test_accuracy"] == f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}"
    assert cells["interval"] == ""
    assert any("over seeds" in note for note in notes([line], tiny))


def test_intervals_are_of_the_weights_whose_answers_are_kept(tiny: Dataset) -> None:
    found = replace(result("multihead_fusion", BEST | FINAL), intervals={"accuracy": (0.75, 0.85)})
    best, last = (line.cells() for line in lines_of([found], tiny, None))
    assert (best["interval"], last["interval"]) == ("75.00 to 85.00", "")


def test_a_seed_that_failed_is_named_and_the_others_count(tiny: Dataset) -> None:
    results = [result("image_cnn", BEST), result("image_cnn", None, "failed: diverged", seed=7)]
    line = one_line(tiny, *results)
    assert line.remarks == ("seed 7 failed: diverged",)
    assert line.scores["test_accuracy"].n == 1
    lost = one_line(tiny, result("image_cnn", None, "not possible: why"))
    assert (lost.remarks, lost.cells()["test_accuracy"], lost.cells()["difference"]) == (
        ("not possible: why",),
        "–",
        "–",
    )


def test_the_weights_of_the_last_epoch_have_a_line_of_their_own(tiny: Dataset) -> None:
    best, last = lines_of([result("multihead_fusion", BEST | FINAL)], tiny, None)
    assert [line.cells()["test_accuracy"] for line in (best, last)] == ["80.00", "60.00"]
    assert last.cells()["study"] == "multihead_fusion, weights of the last epoch"
    assert last.differences()["accuracy"] == pytest.approx(60 - 99.76)


def test_cross_validations_have_a_line_for_each_seed(tiny: Dataset) -> None:
    held = {"held_accuracy": 0.9, "held_accuracy_sd": 0.02, "held_accuracy_low": 0.85, "held_accuracy_high": 0.95}
    own = {"protocol": "speaker_disjoint", "folds": 6, "epochs": 2}
    results = [result("xflow_lstm", BEST | held, seed=seed, **own) for seed in (0, 1)]
    lines = lines_of(results, tiny, None)
    assert [line.seeds for line in lines] == [(0,), (1,)]
    cells = lines[0].cells()
    assert (cells["held_accuracy"], cells["held_interval"]) == ("90.00 ± 2.00", "85.00 to 95.00")
    assert cells["remarks"] == "budget below the report's: 2 of 300 epochs, 1 of 5 runs of a fold"


BEGIN, END = markers("tiny")
OLD = f"{BEGIN}\nold\n{END}"
NEW = f"{BEGIN}\nnew\n{END}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# R\n\nIntro.\n\n## A\n\na\n", f"# R\n\nIntro.\n\n{NEW}\n\n## A\n\na\n"),
        (f"# R\n\n{OLD}\n\n## A\n", f"# R\n\n{NEW}\n\n## A\n"),
        (f"# R\n\n## A\n\n{OLD}\nrest\r\n", f"# R\n\n## A\n\n{NEW}\nrest\r\n"),
        ("# R\n", f"# R\n\n{NEW}\n"),
        (f"# R\n\n{OLD.replace('tiny', 'more')}\n", f"# R\n\n{NEW}\n\n{OLD.replace('tiny', 'more')}\n"),
    ],
)
def test_the_block_has_its_place_and_the_rest_stays(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_bytes(before.encode())
    write_results(path, "tiny", NEW)
    assert path.read_bytes().decode() == after
    assert placed(after, "tiny", NEW) == after


@pytest.mark.parametrize("content", [BEGIN, END, f"{END}\n{BEGIN}", f"{OLD}\n{OLD}"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text(content)
    with pytest.raises(InputError, match="once, in this order, or neither"):
        read_results(path, "tiny")
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="UTF-8"):
        read_results(path, "tiny")


def test_nothing_in_a_block_ends_it_or_breaks_its_table(tiny: Dataset) -> None:
    lost = result("image_cnn", None, f"failed: a | b\n{END} <b>")
    lines = lines_of([lost, result("audio_rnn", BEST)], tiny, None)
    text = block("tiny", caption([lost], tiny), [f"said {END}"], lines, notes(lines, tiny))
    assert text.count(END) == 1
    assert "<b>" not in text
    tables = [text.split("### Each line")[0], text.split("### Each line")[1]]
    for part, columns in zip(tables, (7, 16), strict=True):
        rows = [line for line in part.splitlines() if line.startswith("|")]
        assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {columns}


def test_first_comes_a_line_a_system_with_a_column_for_each_protocol(tiny: Dataset) -> None:
    """By what its report has, accuracy or macro-F1, with its interval; where there is no number, why not."""
    known = {"accuracy": (0.75, 0.85), "macro_f1": (0.7, 0.86)}
    held = {"held_accuracy": 0.9, "held_accuracy_sd": 0.02, "held_accuracy_low": 0.85, "held_accuracy_high": 0.95}
    results = [
        replace(result("image_cnn", BEST), intervals=known),
        result("image_cnn", BEST | {"test_accuracy": 0.7}, protocol="clip_disjoint", epochs=4),
        replace(result("dual_cnn_fusion", BEST), intervals=known),
        result("audio_rnn", None, "not possible: why"),
        result("xflow_lstm", BEST | held, protocol="speaker_disjoint", folds=6, epochs=2),
    ]
    lines = lines_of(results, tiny, None)
    first = systems(lines[:4]).splitlines()
    assert first[0] == "| study | paper | reported | as_reported | clip_disjoint | budget |"
    told = "80.00 (75.00 to 85.00) | 70.00 | 10 of 10 epochs; 4 of 10 epochs |"
    assert first[2] == f"| `image_cnn` | Joshi | accuracy 98.48 | {told}"
    assert first[3].startswith("| `dual_cnn_fusion` | Bajaj | macro-F1 99.90 | macro-F1 79.00 (70.00 to 86.00) | – |")
    assert first[4].startswith("| `audio_rnn` | Joshi | accuracy 92.90 | – (not possible: why) | – |")
    crossed = systems(lines[4:]).splitlines()
    assert crossed[2].startswith("| `xflow_lstm` | XFlow | – | 90.00 ± 2.00 (85.00 to 95.00) |")


def test_the_page_says_what_the_table_says_and_loads_nothing(tiny: Dataset, tmp_path: Path) -> None:
    results = [result("multihead_fusion", BEST | FINAL), result("image_cnn", None, "failed: <script>alert(1)</script>")]
    lines = lines_of(results, tiny, Path("data/<mine>"))
    write_page(tmp_path / "p.html", "tiny", caption(results, tiny), ["<i>claim</i>"], lines, notes(lines, tiny))
    page = (tmp_path / "p.html").read_text()
    for text in ("<script>alert", "<i>claim", "data/<mine>"):
        assert text not in page
        assert text in unescape(page)
    shown = re.sub(r"<[^>]+>", " ", page)
    for line in lines:
        for cell in ("budget", "test_accuracy", "remarks", "command"):
            assert line.cells()[cell] in unescape(shown)
    assert not re.search(r'(?:src|href)="(?!#)', page.partition("<script")[0])


def test_the_dots_are_where_the_numbers_are(tiny: Dataset) -> None:
    results = [result("multihead_fusion", BEST | FINAL), result("image_cnn", BEST, protocol="clip_disjoint")]
    drawn = dots(lines_of(results, tiny, None))
    assert drawn is not None
    found = {trace.name: dict(zip(trace.y, trace.x, strict=True)) for trace in drawn.data}
    assert found["as_reported"] == pytest.approx({"multihead_fusion (accuracy)": 80})
    assert found["clip_disjoint"] == pytest.approx({"image_cnn (accuracy)": 80})
    assert found["reported"] == pytest.approx({"multihead_fusion (accuracy)": 99.76, "image_cnn (accuracy)": 98.48})
    assert dots(lines_of([result("image_cnn", None, "failed: x")], tiny, None)) is None
