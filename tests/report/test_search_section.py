"""What the page says of a search is what its trials say, and can be brushed in a real browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import CHROMIUM, both_schemes, driven
from calibrated import never_wrong
from rich.console import Console
from scipy import stats

from mmtune.analysis.figures.search import Tried
from mmtune.data.dataset import Dataset
from mmtune.networks.config import ImageCNNConfig
from mmtune.report.page import write_report
from mmtune.report.publish import keep_figures
from mmtune.report.search import SURELY, cost, duels, findings, search_section
from mmtune.study import Study, StudyKey
from mmtune.study.options import Options
from mmtune.study.space import Categorical
from mmtune.tracking import COMPLETE, MlflowTracker, StudyRun, TrialRun
from mmtune.train.objective import MACRO_F1
from mmtune.train.recipe import Train, TrialConfig
from mmtune.tune.run import run_study

SVG = "{http://www.w3.org/2000/svg}"
BRUSH = """
  const holder = document.getElementById("parallel");
  const grips = [...holder.querySelectorAll(".grip")];
  const last = grips.at(-1);
  last.setPointerCapture = () => {};
  const { top, height } = holder.querySelector("svg").getBoundingClientRect();
  const at = (y) => top + (y * height) / 366;
  const fire = (kind, y) => last.dispatchEvent(new PointerEvent(kind, { clientY: at(y), pointerId: 1 }));
  const out = () => holder.querySelectorAll("path.out").length;
  const before = out();
  fire("pointerdown", 45); fire("pointermove", 75); fire("pointerup", 75);
  const brushed = { out: out(), told: document.getElementById("passing").textContent };
  fire("pointerdown", 200); fire("pointerup", 200);
  const [choice] = grips;
  choice.setPointerCapture = () => {};
  const over = (kind, y) => choice.dispatchEvent(new PointerEvent(kind, { clientY: at(y), pointerId: 1 }));
  over("pointerdown", 365); over("pointermove", 20); over("pointerup", 20);
  const whole = out();
  over("pointerdown", 200); over("pointerup", 200);
  return { whole, lines: holder.querySelectorAll("path").length, axes: grips.length, before, brushed, after: out() };
"""


def trial(number: int, score: float, params: dict[str, Any]) -> TrialRun:
    metrics = {MACRO_F1.name: score}
    return TrialRun(
        run_id=str(number), number=number, name="", state=COMPLETE, started=0, params=params, metrics=metrics, tags={}
    )


def grid(worth: Any) -> list[TrialRun]:
    options = product(("relu", "tanh"), (3, 5, 7), (0.1, 0.2))
    made = [{"a.activation": one, "a.kernel": two, "b.rate": three} for one, two, three in options]
    return [trial(number, worth(own), own) for number, own in enumerate(made)]


def test_a_duel_is_between_trials_that_differ_in_nothing_else() -> None:
    noise = iter(np.random.default_rng(0).normal(0, 0.01, 12).tolist())
    trials = grid(lambda own: 0.5 + 0.1 * (own["a.activation"] == "relu") + 0.3 * (own["b.rate"] == 0.1) + next(noise))
    choices = ["a.activation", "a.kernel", "b.rate"]
    (found,) = duels(trials, "a.activation", choices, "activation", MACRO_F1)
    assert found.size == pytest.approx(0.1, abs=0.02)
    assert found.told == "activation relu beat tanh in 6 of 6 pairs of trials"
    scores = {(own.params["a.activation"], own.number % 6): own.metrics[MACRO_F1.name] for own in trials}
    pairs = [[scores[name, place] for place in range(6)] for name in ("relu", "tanh")]
    assert found.p == pytest.approx(stats.ttest_rel(*pairs).pvalue)
    assert len(duels(trials, "a.kernel", choices, "kernel", MACRO_F1)) == 3
    said = findings(trials, choices, {}, {}, MACRO_F1, never_wrong())
    assert [own.split()[0] for own in said] == ["rate", "activation"]


def test_of_noise_nothing_is_learnt_oftener_than_once_in_twenty() -> None:
    rng, choices, draws = np.random.default_rng(0), ["a.activation", "a.kernel", "b.rate"], 200
    found = sum(
        bool(findings(grid(lambda own: rng.normal()), choices, {}, {}, MACRO_F1, never_wrong())) for _ in range(draws)
    )
    assert found <= stats.binom.ppf(0.999, draws, SURELY)


def test_what_is_not_agreed_on_or_too_little_is_no_finding() -> None:
    choices = ["a.activation", "a.kernel", "b.rate"]
    mixed = grid(lambda own: 0.5 + 0.1 * ((own["a.activation"] == "relu") == (own["a.kernel"] == 3)))
    assert findings(mixed, choices, {}, {}, MACRO_F1, never_wrong()) == []
    few = [trial(0, 0.1, {"x": 1}), trial(1, 0.9, {"x": 2})]
    assert findings(few, ["x"], {}, {}, MACRO_F1, never_wrong()) == []
    assert findings(few, ["x"], {"x": 0.9}, {"x": (0.8, 1.0)}, MACRO_F1, never_wrong()) == []


def test_a_weight_is_named_where_every_half_of_the_trials_puts_it_first() -> None:
    few, weights = [trial(0, 0.1, {"x": 1, "y": 1}), trial(1, 0.9, {"x": 2, "y": 2})], {"x": 0.7, "y": 0.1}
    sure, unsure = {"x": (0.6, 0.8), "y": (0.0, 0.2)}, {"x": (0.1, 0.8), "y": (0.0, 0.3)}
    said = findings(few, ["x", "y"], weights, sure, MACRO_F1, never_wrong())
    assert said == ["x makes 70 % of the difference between trials"]
    assert findings(few, ["x", "y"], weights, unsure, MACRO_F1, never_wrong()) == []


def test_a_value_that_was_drawn_oftener_is_not_held_against_the_worst_draw() -> None:
    """Of configurations that were tried several times the mean counts."""
    scores = {"a": (0.88, 0.90, 0.95), "b": (0.89,)}
    tried = [(value, rate, score) for rate in (1, 2, 3, 4) for value, own in scores.items() for score in own]
    trials = [trial(n, score, {"kind": value, "rate": rate}) for n, (value, rate, score) in enumerate(tried)]
    ranked = sorted(trials, key=lambda own: -own.metrics[MACRO_F1.name])
    (found,) = duels(ranked, "kind", ["kind", "rate"], "kind", MACRO_F1)
    assert (found.size, found.told) == (pytest.approx(0.02), "kind a beat b in 4 of 4 pairs of trials")
    assert found.p == 2 * 0.5**4


def test_what_costs_more_for_less_is_not_on_the_front() -> None:
    points = [(1.0, 0.5), (2.0, 0.4), (3.0, 0.6)]
    tried = [
        Tried(name=f"#{n} x", number=n, score=score, start=0, seconds=seconds, whole=True)
        for n, (seconds, score) in enumerate(points)
    ]
    rest, front = cost(tried, "score", MACRO_F1.first).data
    assert (list(rest.x), list(front.x)) == ([2.0], [1.0, 3.0])
    assert cost(tried[:2], "score", MACRO_F1.first) is None


@pytest.fixture(scope="module")
def searched(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[MlflowTracker, StudyRun, str]:
    """A store, a study of four trials that differ in two choices, and its page."""
    root = tmp_path_factory.mktemp("searched")
    study = Study(
        name="brushed",
        base=TrialConfig(model=ImageCNNConfig(), train=Train(epochs=1)),
        space=(Categorical(path="model.kernel", values=(3, 5)), Categorical(path="model.dropout", values=(0.0, 0.3))),
        grid={"model.kernel": (3, 5), "model.dropout": (0.0, 0.3)},
    )
    done = run_study(study, tiny, Options(workers=2, device="cpu"), root / "mlruns", Console(quiet=True))
    assert done is not None
    tracker = MlflowTracker(root / "mlruns")
    run = tracker.study(done.key)
    assert run is not None
    return tracker, run, write_report(tracker, run, study, (), root / "report.html", tiny).read_text()


def test_a_reader_brushes_an_axis(searched: tuple[MlflowTracker, StudyRun, str], tmp_path: Path) -> None:
    found = driven(searched[2], tmp_path, BRUSH)
    assert (found["lines"], found["axes"], found["before"], found["after"]) == (4, 3, 0, 0)
    assert found["whole"] == 0
    kept = 4 - found["brushed"]["out"]
    assert 1 <= kept < 4
    assert found["brushed"]["told"].startswith(f"{kept} of 4 trials pass")


LOOK = """
  const cards = () => [...document.querySelectorAll("#cards-wrong .card")].filter((card) => !card.hidden);
  const select = document.getElementById("wrong-pair"), pairs = [...select.options].map(({ value }) => value);
  select.value = pairs[1];
  select.dispatchEvent(new Event("change"));
  const one = cards().map((card) => card.dataset.pair);
  const [y, x] = pairs.at(-1).split(",").map(Number);
  document.getElementById("confusion").emit("plotly_click", { points: [{ x, y }] });
  const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
  const button = document.querySelector("#leaderboard th:nth-child(2) button");
  button.focus();
  button.click();
  return { pairs, one, clicked: cards().map((card) => card.dataset.pair), ids: ids.length, different: new Set(ids).size,
           sorted: button.parentElement.getAttribute("aria-sort"), focused: document.activeElement === button };
"""


def test_a_reader_looks_into_wrong_rows_beside_the_search(
    searched: tuple[MlflowTracker, StudyRun, str], tmp_path: Path
) -> None:
    found = driven(searched[2], tmp_path, LOOK)
    assert set(found["one"]) == {found["pairs"][1]}
    assert set(found["clicked"]) == {found["pairs"][-1]}
    assert found["ids"] == found["different"]
    assert found["sorted"] == "descending"
    assert found["focused"]


def test_of_many_trials_what_leads_is_always_drawn() -> None:
    rng = np.random.default_rng(0)
    trials = [
        replace(trial(n, float(score), {"width": n % 7, "depth": n % 3}), started=n, metrics={
            MACRO_F1.name: float(score), "fit_seconds": float(seconds)})
        for n, (score, seconds) in enumerate(zip(rng.random(2_000), rng.uniform(1, 99, 2_000), strict=True))
    ]  # fmt: skip
    ranked = sorted(trials, key=lambda own: -own.metrics[MACRO_F1.name])
    key = StudyKey(study="s", data="d", digest="0", protocol="random", seed=0, epochs=1, sampler="random")
    found = search_section(ranked, ["width", "depth"], {}, key)
    line = found["history"].data[0]
    every = np.maximum.accumulate([100 * own.metrics[MACRO_F1.name] for own in trials])
    assert line.y[-1] == pytest.approx(every[-1])
    assert [every[number] for number in line.x] == pytest.approx(line.y)
    assert found["timeline"] is None
    assert found["parallel"]["titles"][0].startswith(f"#{ranked[0].number} ")
    drawn = found["cost"].data[1]
    for seconds, score in zip(drawn.x, drawn.y, strict=True):
        assert not any(own.metrics["fit_seconds"] <= seconds and 100 * own.metrics[MACRO_F1.name] > score + 1e-9
                       for own in trials)  # fmt: skip
    assert len(found["history"].data[1].x) < 600


def test_the_page_can_be_read_by_everybody(searched: tuple[MlflowTracker, StudyRun, str], tmp_path: Path) -> None:
    both_schemes(searched[2], tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_every_figure_is_a_picture_of_its_own_and_kept_with_the_run(
    searched: tuple[MlflowTracker, StudyRun, str], tmp_path: Path
) -> None:
    tracker, run, page = searched
    keep_figures(tracker, run, page, tmp_path / "figures")
    written = {path.stem: ElementTree.parse(path).getroot() for path in (tmp_path / "figures").iterdir()}
    drawn = json.loads(re.findall(r'id="figures">(.*?)</script>', page)[0])
    assert written.keys() == {*drawn, "parallel"}
    assert {own.tag for own in written.values()} == {f"{SVG}svg"}
    lines = written["parallel"].findall(f"{SVG}path")
    assert len(lines) == 4
    assert all("fill:none" in line.attrib["style"].replace(" ", "") for line in lines)
    assert any("kernel" in (own.text or "") for own in written["strip-0"].iter(f"{SVG}text"))
    for name in written:
        assert tracker.artifact(run.run_id, f"figures/{name}.svg").read_bytes().startswith(b"<svg")
