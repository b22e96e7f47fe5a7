"""Rows to look at and to hear, on a real page of a real study, in a real browser."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browser import driven
from PIL import Image
from rich.console import Console

import mmtune
from mmtune.analysis.figures.look import CLASS_COLOURS, PALETTE
from mmtune.data.building.arrays import from_arrays
from mmtune.data.dataset import Dataset
from mmtune.data.media.recordings import SAMPLE_RATE
from mmtune.data.protocols import independent
from mmtune.networks import MLP, LateFusion
from mmtune.report import gallery
from mmtune.report.gallery import SAMPLE, UNSURE, WRONG, Gallery, gallery_section, spread_over_pairs
from mmtune.report.page import FIELDS, write_report
from mmtune.serve.scoring import score_test
from mmtune.study import Study
from mmtune.study.options import Options
from mmtune.tracking import MlflowTracker, StudyRun, TrialRun
from mmtune.train.answers import read_answers
from mmtune.train.recipe import Train, TrialConfig
from mmtune.tune.run import run_study

FIRST = """
  const cards = () => [...document.querySelectorAll("#cards-wrong .card")].filter((card) => !card.hidden);
  const all = cards().length;
  const select = document.getElementById("wrong-pair");
  select.value = select.options[1].value;
  select.dispatchEvent(new Event("change"));
  const one = cards().map((card) => card.dataset.pair);
  const [y, x] = select.options[2].value.split(",").map(Number);
  document.getElementById("confusion").emit("plotly_click", { points: [{ x, y }] });
  const clicked = cards().map((card) => card.dataset.pair);
  const sound = document.querySelector("#cards-wrong audio");
  return { all, one, clicked, first: select.options[1].value, second: select.options[2].value, sound: sound.src };
"""
SECOND = """
  const figure = document.getElementById("clusters-0-PCA");
  const [first] = figure.data;
  figure.emit("plotly_hover", { points: [{ customdata: first.customdata[0], text: first.text[0] }] });
  const look = document.getElementById("look");
  const seen = { row: first.customdata[0], words: look.textContent, picture: look.querySelector("img").src,
                 sound: look.querySelector("audio").src };
  const select = document.getElementById("explored");
  select.value = [...select.options].find(({ text }) => text === "right or wrong").value;
  select.dispatchEvent(new Event("change"));
  const pairs = figure.data.flatMap(({ customdata, marker }) => customdata.map((row, n) => [row, marker.color[n]]));
  const pairsOf = () => figure.data.map(({ marker }) => marker.color);
  const legend = document.getElementById("meaning").textContent;
  select.value = "";
  select.dispatchEvent(new Event("change"));
  const names = figure.layout.annotations.length;
  const places = () => ({ x: figure.data.map(({ x }) => [...x]), names: figure.layout.annotations.map(({ x }) => x),
                          title: figure.layout.xaxis.title.text, range: [...figure.layout.xaxis.range] });
  const slider = document.getElementById("turned");
  const turned = [0, 90, 30].map((degrees) => {
    slider.value = degrees;
    slider.dispatchEvent(new Event("input"));
    return places();
  });
  const depth = figure.data.map(({ meta }) => meta);
  const flat = document.getElementById("clusters-0-t-SNE").layout.xaxis.title.text;
  return { ...seen, colours: Object.fromEntries(pairs), legend, restored: pairsOf(), names, turned, depth, flat };
"""


def study(**banks: object) -> Study:
    return Study(
        name="looked_at",
        base=TrialConfig(model=LateFusion(encoders=dict.fromkeys(banks, MLP(width=4))), train=Train(epochs=1)),
        space=(),
    )


@pytest.fixture(scope="module")
def ran(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[MlflowTracker, StudyRun, TrialRun]:
    """A study of one short training of pictures and sounds, which gets many rows wrong."""
    store = tmp_path_factory.mktemp("gallery") / "mlruns"
    told = study(image=1, waveform=1)
    done = run_study(told, tiny, Options(workers=1, device="cpu"), store, Console(quiet=True))
    assert done is not None
    tracker = MlflowTracker(store)
    run = tracker.study(done.key)
    assert run is not None
    trial = tracker.best(run.run_id, run.key.objective)
    assert trial is not None
    return tracker, run, trial


def made(ran: tuple[MlflowTracker, StudyRun, TrialRun], tiny: Dataset | None) -> Gallery | str:
    tracker, run, trial = ran
    stored = read_answers(tracker.artifact(trial.run_id, "validation.npz"), FIELDS)
    return gallery_section(tracker, run, trial, stored, list("0123456789"), tiny)


def content(uri: str) -> bytes:
    return base64.b64decode(uri.partition("base64,")[2])


def test_what_is_shown_is_what_the_data_hold(ran: tuple[MlflowTracker, StudyRun, TrialRun], tiny: Dataset) -> None:
    found = made(ran, tiny)
    assert isinstance(found, Gallery)
    tracker, _, trial = ran
    stored = read_answers(tracker.artifact(trial.run_id, "validation.npz"), ("row", "label", "prediction"))
    said = dict(zip(stored["row"].tolist(), stored["prediction"].tolist(), strict=True))
    assert found.wrong == int((stored["label"] != stored["prediction"]).sum())
    assert len(found.of(WRONG)) == min(found.wrong, gallery.MOST_WRONG)
    for own in found.shown:
        assert own.true == str(tiny.train.labels[own.row])
        assert own.pair == (tiny.train.labels[own.row], said[own.row])
        assert (own.kind == WRONG) == (own.pair[0] != own.pair[1])
        assert own.groups == {"speaker": tiny.train.groups["speaker"][own.row]}
        assert set(own.said) == {"", "image", "waveform"}
        picture = tiny.train.banks["image"].of_rows(np.array([own.row]))[0]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content(own.pictures["image"])))), picture)
        assert list(own.maps) == ["waveform"]
        samples, rate = soundfile.read(io.BytesIO(content(own.sounds["waveform"])), dtype="int16")
        held = tiny.train.banks["waveform"].of_rows(np.array([own.row]))[0]
        # Of mu-law's eight bits the steps are a 16th of what is heard, at least.
        assert rate == SAMPLE_RATE
        np.testing.assert_allclose(samples, held, rtol=1 / 16, atol=16)
    sure = [own.said[""][1] for own in found.of(UNSURE)]
    assert sure == sorted(sure)
    assert {own.true for own in found.of(SAMPLE)} <= set("0123456789")


def test_a_bank_says_nothing_of_a_row_without_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels, two = np.arange(120) % 2, rng.normal(size=(120, 3))
    two[::3] = np.nan
    data = from_arrays(labels=labels, one=rng.normal(size=(120, 3)), two=two, test=np.zeros(120, bool))
    told = replace(study(one=1, two=1), missing=("two",))
    done = mmtune.run(told, data, store=tmp_path / "mlruns", workers=1, device="cpu", quiet=True)
    tracker = MlflowTracker(tmp_path / "mlruns")
    run = tracker.study(done.key)
    assert run is not None
    trial = tracker.best(run.run_id, run.key.objective)
    assert trial is not None
    stored = read_answers(tracker.artifact(trial.run_id, "validation.npz"), FIELDS)
    found = gallery_section(tracker, run, trial, stored, ["0", "1"], done.data)
    assert isinstance(found, Gallery)
    lacking = [own.row % 3 == 0 for own in found.shown]
    assert any(lacking)
    assert ["two" not in own.said for own in found.shown] == lacking


def test_a_reader_looks_into_a_pair_of_classes(
    ran: tuple[MlflowTracker, StudyRun, TrialRun], tiny: Dataset, tmp_path: Path
) -> None:
    tracker, run, _ = ran
    path = write_report(tracker, run, study(image=1, waveform=1), (), tmp_path / "report.html", tiny)
    page = path.read_text()
    assert re.search(r"media-src data:", page)
    result = driven(page, tmp_path, FIRST)
    assert result["all"] == page.count('data-pair="', page.index("cards-wrong"), page.index("cards-unsure"))
    assert set(result["one"]) == {result["first"]}
    assert set(result["clicked"]) == {result["second"]}
    assert result["sound"].startswith("data:audio/wav;base64,")


def test_a_reader_points_at_an_embedding_and_colours_it(
    ran: tuple[MlflowTracker, StudyRun, TrialRun], tiny: Dataset, tmp_path: Path
) -> None:
    tracker, run, trial = ran
    path = write_report(tracker, run, study(image=1, waveform=1), (), tmp_path / "report.html", tiny)
    found = driven(path.read_text(), tmp_path, SECOND)
    row = found["row"]
    stored = read_answers(tracker.artifact(trial.run_id, "validation.npz"), ("row", "label", "prediction"))
    (place,) = np.flatnonzero(stored["row"] == row)
    assert found["words"].startswith(f"row {row}: {stored['label'][place]}, predicted {stored['prediction'][place]}")
    assert f"speaker {tiny.train.groups['speaker'][row]}" in found["words"]
    picture = np.asarray(Image.open(io.BytesIO(content(found["picture"]))))
    assert np.array_equal(picture, tiny.train.banks["image"].of_rows(np.array([row]))[0])
    assert found["sound"].startswith("data:audio/wav;base64,")
    right = dict(zip(stored["row"].tolist(), (stored["label"] == stored["prediction"]).tolist(), strict=True))
    assert len(set(found["colours"].values())) == 2
    assert found["legend"] == "rightwrong"
    assert all(own in CLASS_COLOURS for own in found["restored"])
    assert found["names"] == len(found["restored"])
    assert {right[int(row)] for row, own in found["colours"].items() if own == PALETTE[0]} == {True}
    turned_into_the_third(found)


def turned_into_the_third(found: dict[str, Any]) -> None:
    """A turn of 90° shows the third component for the first, one of 30° both, and names stay with their dots."""
    flat, quarter, between = found["turned"]
    assert [own["title"].partition(" (")[0] for own in (flat, quarter)] == ["component 1", "component 3"]
    assert between["title"] == "components 1 and 3, seen from 30°"
    assert found["flat"] == "t-SNE 1"
    for first, third, both, depth in zip(flat["x"], quarter["x"], between["x"], found["depth"], strict=True):
        np.testing.assert_allclose(third, depth, atol=1e-9)
        np.testing.assert_allclose(both, 0.75**0.5 * np.array(first) + 0.5 * np.array(depth), atol=1e-9)
    for own in found["turned"]:
        assert own["range"] == flat["range"]
        np.testing.assert_allclose(own["names"], [np.median(x) for x in own["x"]], atol=1e-9)
        assert np.abs(np.concatenate(own["x"])).max() < own["range"][1]


def test_scores_have_intervals_over_recordings_of_validation_and_test(
    ran: tuple[MlflowTracker, StudyRun, TrialRun], tiny: Dataset, tmp_path: Path
) -> None:
    tracker, run, trial = ran
    score_test(tracker, run.key, trial, tiny)
    page = write_report(tracker, run, study(image=1, waveform=1), (), tmp_path / "report.html", tiny).read_text()
    told = re.search(r"kept apart: ([\d,]+) units of validation, ([\d,]+) of the test", page)
    assert told is not None
    for count, name in zip(told.groups(), ("validation.npz", "test.npz"), strict=True):
        stored = read_answers(tracker.artifact(trial.run_id, name), ("unit",))
        assert int(count.replace(",", "")) == len(np.unique(stored["unit"]))
    _, unit = independent(tiny.require_test(), run.key.protocol, tiny.train)
    np.testing.assert_array_equal(stored["unit"], unit)


def test_without_its_data_it_says_so(ran: tuple[MlflowTracker, StudyRun, TrialRun], tiny: Dataset) -> None:
    assert (
        made(ran, None)
        == made(ran, replace(tiny, digest="0" * 64))
        == ("the data of this study are not where they were")
    )


def test_the_surest_of_each_pair_come_first() -> None:
    sure = np.array([0.9, 0.8, 0.7, 0.6, 0.99])
    true, said = np.array([0, 0, 1, 0, 2]), np.array([1, 1, 0, 2, 2])
    assert spread_over_pairs(sure, true == said, true, said) == [0, 2, 3, 1]


def test_a_page_has_no_more_than_so_many_bytes(
    ran: tuple[MlflowTracker, StudyRun, TrialRun], tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "MOST_BYTES", 100_000)
    found = made(ran, tiny)
    assert isinstance(found, Gallery)
    assert found.full
    assert (
        sum(len(uri) for own in found.shown for kind in (own.pictures, own.maps, own.sounds) for uri in kind.values())
        <= 100_000
    )
