"""The report page, written from real stores and read back as a reader, a parser and a browser would."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browse, driven
from calibrated import never_wrong
from sklearn.datasets import load_digits
from tracked import FIRST, track_study, track_trial

from mmtune.analysis.clusters import embedding_scores
from mmtune.analysis.statistics import summary
from mmtune.base.errors import InputError
from mmtune.base.fields import flatten, short_names
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.report import page as report
from mmtune.report.folds import fold_table
from mmtune.report.intervals import Scored
from mmtune.report.page import write_report
from mmtune.report.publish import picture_of_best
from mmtune.report.tables import (
    differing,
    duration,
    interval,
    last_line,
    measured,
    published_table,
    ranked,
    tally,
)
from mmtune.serve.measured import FILES, Measured, told
from mmtune.study import StudyKey, load_study
from mmtune.tracking import COMPLETE, FAIL, PRUNED, RUNNING, MlflowTracker, StudyRun, TrialRun
from mmtune.train.calibration_file import write_calibration
from mmtune.train.objective import MACRO_F1
from mmtune.train.recipe import TrialConfig
from mmtune.train.robustness import Curve, Robustness, Score
from mmtune.train.staging import Point

DIGITS = load_digits()
EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
VOID = {"meta", "link", "img", "br", "input", "hr"}


@dataclass
class Page(HTMLParser):
    """An HTML page taken apart: its elements with attributes, its scripts by id, and its visible text."""

    source: str = field(repr=False)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    def rows(self, section: str) -> list[str]:
        """The rows of a section's first table, or of the table with this id, tags stripped, one string each."""
        part = self.source.split(f' id="{section}">')[1].split("</section>")[0]
        rows = re.findall(r"<tr.*?</tr>", part.split("<tbody>")[1].split("</tbody>")[0], flags=re.S)
        return [html.unescape(" ".join(re.sub(r"<[^>]+>", " ", row).split())) for row in rows]

    @property
    def figures(self) -> dict[str, Any]:
        return dict(json.loads(self.scripts[1]))


def key(study: str = "image_cnn", **other: Any) -> StudyKey:
    made: dict[str, Any] = {
        "data": "digits",
        "digest": "0123456789abcdef",
        "protocol": "clip_disjoint",
        "seed": 3,
        "epochs": 4,
    }
    return StudyKey(study=study, sampler="grid", **(made | other))


def validation(folder: Path, joined: bool = False) -> Path:
    """A validation file of real digits as their own embedding, twice if joined, with a few wrong predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = DIGITS.target[:300].astype(np.int64)
    predictions = np.where(np.arange(300) % 17 == 0, (labels + 1) % 10, labels)
    embedding = DIGITS.data[:300].astype(np.float32)
    parts = {"image": embedding, **({"audio": embedding[:, ::-1] ** 2} if joined else {})}
    np.savez(
        folder / "validation.npz",
        row=np.arange(300),
        label=labels,
        prediction=predictions,
        embedding=np.hstack(list(parts.values())),
        parts=np.array(list(parts)),
        widths=np.full(len(parts), 64),
    )
    write_calibration(folder / "calibration.json", never_wrong(*(parts if joined else ())))
    return folder


def write(tracker: MlflowTracker, run: StudyRun, out: Path, others: Sequence[StudyRun] = (), **study: Any) -> Page:
    """The page of a study of which the report says nothing but what is told here."""
    told = {"reported": {}, "paper": "", "published": {}} | study
    made = write_report(tracker, run, replace(load_study(run.key.study), **told), others, out)
    assert made == out
    return Page(out.read_text(encoding="utf-8"))


def scores(f1: float, **more: float) -> dict[str, float]:
    per_class = {f"val_f1_{digit}": f1 - digit / 1000 for digit in range(10)}
    own = {"epoch_at_best": 2, "best_val_macro_f1": f1, "val_accuracy_at_best": f1 + 0.001, "val_loss_at_best": 1 - f1}
    return {**own, **per_class, "val_ari": 0.5, "val_nmi": 0.6, "val_purity": 0.7, **more}


def track(
    tracker: MlflowTracker,
    study: StudyRun,
    number: int,
    model: Any,
    metrics: Mapping[str, float],
    state: str = COMPLETE,
    folder: Path | None = None,
    reason: str = "",
    epochs: int = 2,
) -> str:
    """One trial with its curves, ended as told."""

    def curve(epoch: int) -> dict[str, float]:
        level = 0.5 + 0.05 * epoch + 0.001 * number
        return {"val_macro_f1": level, "val_accuracy": level, "val_loss": 1 / epoch, "train_loss": 2 / epoch}

    return track_trial(
        tracker,
        study,
        number,
        flatten(TrialConfig(model=model)),
        metrics,
        state=state,
        epochs=[curve(epoch) for epoch in range(1, epochs + 1)],
        files=folder,
        reason=reason,
        tags={"seed": str(1000 + number), "weights": "114606"},
    )


@pytest.fixture(scope="module")
def filled(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[MlflowTracker, StudyRun]:
    """A study with complete (two of them equal), pruned, failed and running trials; the best one was promoted."""
    root = tmp_path_factory.mktemp("report")
    tracker = MlflowTracker(Path(shutil.copytree(store_template, root / "mlruns")))
    tags = {"command": "mmtune study image_cnn", "versions": '{"torch": "2.13.0"}'}
    study = track_study(tracker, key(), **tags)
    files = validation(root / "trial")
    for number, (f1, kernel) in enumerate([(0.91, 3), (0.95, 5), (0.95, 3), (0.88, 5)]):
        told = ImageCNNConfig(kernel=kernel), scores(f1)
        best = track(tracker, study, number, *told, folder=files, epochs=7 if number == 1 else 2)
        if number == 1:
            chosen = best
    track(tracker, study, 4, ImageCNNConfig(), scores(0.99), PRUNED)
    track(tracker, study, 5, ImageCNNConfig(), {}, FAIL, reason="Traceback:\n  line 1\nDiverged: got nan")
    track(tracker, study, 6, ImageCNNConfig(), {}, RUNNING)
    np.savez(root / "test.npz", label=np.arange(500) % 10, prediction=np.arange(500) % 10)
    (root / "test").mkdir()
    (root / "test.npz").rename(root / "test" / "test.npz")
    tracker.add_files(chosen, root / "test")
    tracker.log(chosen, [Point(epoch=0, time=1, metrics={"test_accuracy": 0.94, "test_macro_f1": 0.93})])
    return tracker, study


@pytest.fixture(scope="module")
def page(filled: tuple[MlflowTracker, StudyRun], tmp_path_factory: pytest.TempPathFactory) -> Page:
    out = tmp_path_factory.mktemp("page") / "deep" / "page.html"
    return write(*filled, out, reported={"accuracy": 0.9848}, paper="Joshi, section 2.2")


def trial(
    number: int, state: str = COMPLETE, f1: float | None = None, params: Mapping[str, Any] | None = None
) -> TrialRun:
    metrics = {} if f1 is None else {"best_val_macro_f1": f1}
    return TrialRun(
        run_id=f"r{number}",
        number=number,
        name=str(number),
        state=state,
        started=FIRST + 1_000 * number,
        params=params or {},
        metrics=metrics,
        tags={},
    )


# ---- tables


def test_order_is_complete_by_objective_then_the_other_states_and_a_tie_goes_to_the_lower_number() -> None:
    trials = [trial(0, FAIL), trial(1, f1=0.5), trial(2, PRUNED, f1=0.9), trial(3, f1=0.7), trial(4, f1=0.7)]
    trials += [trial(5, RUNNING), trial(6, COMPLETE)]
    assert [t.number for t in ranked(trials[::-1], MACRO_F1)] == [3, 4, 1, 6, 2, 0, 5]
    assert tally(trials) == {"complete": 4, "pruned": 1, "failed": 1, "running": 1}


def test_only_what_differs_is_a_choice() -> None:
    trials = [trial(0, params={"a.x": 1, "a.y": 2}), trial(1, params={"a.x": 1, "a.y": 3, "a.z": 0})]
    assert differing(trials) == ["a.y", "a.z"]
    assert differing(trials[:1]) == []


def test_names_are_the_shortest_endings_that_tell_apart() -> None:
    paths = ["model.image.dropout", "model.audio.dropout", "train.epochs"]
    assert list(short_names(paths).values()) == ["image.dropout", "audio.dropout", "epochs"]


@pytest.mark.parametrize(("value", "rows"), [(0.9848, 12000), (1.0, 50), (0.0, 7)])
def test_interval_is_wilsons(value: float, rows: int) -> None:
    z, share = 1.959963984540054, round(value * rows) / rows
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    low, high = map(float, interval(value, rows).split(" to "))
    assert (low, high) == pytest.approx((100 * (middle - half), 100 * (middle + half)), abs=0.0051)


def test_differences_are_measured_minus_reported_in_points() -> None:
    best = TrialRun(**{**trial(0).__dict__, "metrics": {"val_accuracy_at_best": 0.97, "test_accuracy": 0.99}})
    validates, test = Scored(split="validation", rows=100), Scored(split="test")
    line = measured(best, MACRO_F1, {"accuracy": 0.98}, validates, test)[0]
    assert (line["reported"], line["validation"], line["test"]) == ("98.00", "97.00", "99.00")
    assert (line["validation_gap"], line["test_gap"]) == ("\N{MINUS SIGN}1.00", "+1.00")
    assert line["test_interval"] == ""


def test_words() -> None:
    assert [duration(s) for s in (1.26, 180, 9000)] == ["1.3 s", "3.0 min", "2.5 h"]
    assert last_line("Traceback:\n  x\nError: y\n") == "Error: y"


# ---- the page


def test_leaderboard_ranks_trials_and_says_why_others_have_no_rank(page: Page) -> None:
    rows = page.rows("leaderboard")
    assert [row.split()[:2] for row in rows] == [
        ["1", "#1"],
        ["2", "#2"],
        ["3", "#0"],
        ["4", "#3"],
        ["pruned", "#4"],
        ["failed", "#5"],
        ["running", "#6"],
    ]
    assert "Diverged: got nan" in rows[5]
    assert rows[0].split()[2:8] == ["95.00", "5", "2", "95.10", "0.0500", "93.00"]


def test_numbers_say_what_they_are_measured_on(page: Page) -> None:
    for words in ("clip_disjoint", "300 validation rows", "500 test rows", "seed 3", "digits, digest 0123456789ab"):
        assert words in page.text
    for words in ("On validation macro-F1", "scored once, at promotion", "Joshi, section 2.2", "torch 2.13.0"):
        assert words in page.text
    assert page.rows("result")[0].startswith("accuracy 98.48 95.10")


def test_a_study_of_ones_own_has_nothing_reported(filled: tuple[MlflowTracker, StudyRun], tmp_path: Path) -> None:
    page = write(*filled, tmp_path / "own.html")
    assert page.rows("result")[0].startswith("accuracy 95.10")
    assert "eported" not in page.text.partition("Leaderboard")[0]


def test_curves_on_the_page_are_those_that_were_tracked(page: Page, filled: tuple[MlflowTracker, StudyRun]) -> None:
    tracker, study = filled
    drawn = {t["name"].split()[0]: t for t in page.figures["curve-val_accuracy"]["data"]}
    for run in tracker.trials(study.run_id):
        points = tracker.curves(run.run_id, ("val_accuracy",))["val_accuracy"]
        line = drawn[f"#{run.number}"]
        assert line["x"] == [epoch for epoch, _ in points] == list(range(1, 8 if run.number == 1 else 3))
        assert line["y"] == pytest.approx([100 * value for _, value in points])


def test_clusters_on_the_page_have_the_scores_of_the_trials_own_seed(page: Page) -> None:
    labels, embedding = DIGITS.target[:300], DIGITS.data[:300].astype(np.float32)
    found = embedding_scores(labels, {"image": embedding}, seed=1001)["image"]
    assert page.rows("embeddings") == [" ".join(["image", "64", *(f"{score:.3f}" for score in found.values())])]


def test_every_figure_has_one_place_and_every_place_a_figure(page: Page) -> None:
    places = [str(a["id"]) for _, a in page.elements if a.get("class") == "plot"]
    assert sorted(places) == sorted(page.figures)
    assert len(set(places)) == len(places) >= 4 + 1 + 1 + 2 + 4
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)


def test_the_page_is_well_formed_and_asks_for_nothing(page: Page) -> None:
    assert page.open == []
    links = [(tag, a[name]) for tag, a in page.elements for name in ("src", "href", "action", "data") if name in a]
    assert all(tag == "a" and target is not None and target.startswith("#") for tag, target in links)
    assert {tag for tag, _ in page.elements}.isdisjoint({"link", "iframe", "object", "embed", "img", "base", "form"})
    style = page.source.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_lets_only_the_pages_own_scripts_run(page: Page) -> None:
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    allowed = set(re.findall(r"sha256-([^']+)", policy or ""))
    own = {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in page.scripts[2:]}
    assert allowed == own
    assert len(page.scripts) == 4
    assert (policy or "").startswith("default-src 'none'; script-src 'sha256-")


def test_nothing_that_was_tracked_becomes_mark_up(store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    names = ("command", "device", "git_commit", "versions", "data_dir")
    study = track_study(tracker, key(data=EVIL, fixed=(("model.x", EVIL),)), **dict.fromkeys(names, EVIL))
    files = validation(tmp_path / "trial")
    for number, state in enumerate((COMPLETE, FAIL)):
        params = {"model.kernel": f"{EVIL}{number}", "model.same": EVIL}
        well = state == COMPLETE
        track_trial(
            tracker,
            study,
            number,
            params,
            scores(0.5) if well else {},
            state=state,
            name=EVIL,
            epochs=[{"val_accuracy": 0.5}],
            files=files if well else None,
            reason=f"Traceback\n{EVIL}",
        )
    page = write(tracker, study, tmp_path / "page.html", [study], reported={EVIL: 0.5}, paper=EVIL)
    assert len(page.scripts) == 4
    assert "img" not in {tag for tag, _ in page.elements}
    assert not any(name.startswith("on") for _, a in page.elements for name in a)
    assert page.text.count(EVIL) >= 10
    assert "<img" not in json.dumps(page.figures)


def test_a_fusion_model_has_its_parts_and_the_whole_drawn(store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, key("latent_fusion", protocol="as_reported"))
    files = validation(tmp_path / "trial", joined=True)
    track(tracker, study, 0, LatentFusionConfig(), scores(0.9), folder=files)
    page = write(tracker, study, tmp_path / "page.html", paper="Joshi")
    for words in ("Image embedding, 64 values", "Audio embedding, 64 values", "Combined embedding, 128 values"):
        assert words in page.text
    assert len([name for name in page.figures if name.startswith("clusters-")]) == 2 * 3
    for words in ("has not been promoted", "gives no number", "may share their recording", "No parameter importances"):
        assert words in page.text


def with_parts(folder: Path, image: Any, audio: Any, **more: Any) -> Path:
    """A validation file of a fusion model with an image part, an audio part, and one of a connection."""
    file = validation(folder) / "validation.npz"
    parts, rows = [image, audio, audio[:, :3]], dict(np.load(file))
    widths = np.array([part.shape[1] for part in parts])
    rows["embedding"] = np.hstack(parts).astype(np.float32)
    np.savez(file, **{**rows, "parts": np.array(["image", "audio", EVIL]), "widths": widths, **more})
    return folder


def test_named_parts_are_drawn_and_scored(store: Path, tmp_path: Path) -> None:
    tracker, rng = MlflowTracker(store), np.random.default_rng(0)
    study = track_study(tracker, key("latent_fusion"))
    centres = 10 * np.eye(10)[DIGITS.target[:300]]
    image, audio = (centres + rng.normal(0, noise, (300, 10)) for noise in (1, 6))
    files = with_parts(tmp_path / "trial", image, audio)
    track(tracker, study, 0, LatentFusionConfig(), scores(0.9), folder=files)
    page = write(tracker, study, tmp_path / "page.html")
    assert [row.rsplit(" ", 5)[0] for row in page.rows("embeddings")] == [
        "image",
        "audio",
        EVIL,
        "combined",
    ]
    assert len(page.scripts) == 4
    assert len([name for name in page.figures if name.startswith("labels-")]) == 2 * 4


def test_a_part_that_is_always_the_same_is_said_not_to_be_drawn(store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, key("latent_fusion"))
    wide = np.random.default_rng(0).normal(size=(300, 10))
    files = with_parts(tmp_path / "trial", wide, np.ones_like(wide))
    track(tracker, study, 0, LatentFusionConfig(), scores(0.9), folder=files)
    page = write(tracker, study, tmp_path / "page.html")
    assert "Not drawn: " in page.text
    assert any(name.startswith("labels-") for name in page.figures)


def test_parts_that_do_not_fit_are_refused(store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, key("latent_fusion"))
    wide = np.random.default_rng(0).normal(size=(300, 10))
    files = with_parts(tmp_path / "trial", wide, wide, widths=np.array([10, 10, 4]))
    track(tracker, study, 0, LatentFusionConfig(), scores(0.9), folder=files)
    with pytest.raises(InputError, match="widths of parts must add up to the embedding's"):
        write(tracker, study, tmp_path / "page.html")


def test_more_classes_than_digits_are_reported(store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, key())
    labels, rng = np.arange(260) % 26, np.random.default_rng(0)
    embedding = (20 * np.eye(26)[labels] + rng.normal(size=(260, 26))).astype(np.float32)
    (tmp_path / "trial").mkdir()
    file = tmp_path / "trial" / "validation.npz"
    named = {"parts": np.array(["image"]), "widths": np.array([26])}
    np.savez(file, row=np.arange(260), label=labels, prediction=labels, embedding=embedding, **named)
    write_calibration(file.with_name("calibration.json"), never_wrong())
    per_class = {f"val_f1_{label}": 0.5 + label / 100 for label in range(26)}
    track(tracker, study, 0, ImageCNNConfig(), scores(0.9, **per_class), folder=file.parent)
    page = write(tracker, study, tmp_path / "page.html")
    assert page.figures["per-class"]["data"][0]["x"][25] == pytest.approx(100)
    assert "26 clusters" in page.text
    assert page.rows("embeddings")[0].startswith("image 26 1.000 1.000 1.000 0.")


def named_study(tracker: MlflowTracker, folder: Path, names: Sequence[str], **tags: str) -> StudyRun:
    """A study of so many classes, some rows of which are mistaken."""
    study = track_study(tracker, key(), **({"classes": json.dumps(list(names))} | tags))
    labels, rng = np.arange(3 * len(names)) % len(names), np.random.default_rng(0)
    predictions = np.where(rng.random(len(labels)) < 0.2, (labels + 1) % len(names), labels)
    embedding = (labels[:, None] % 7 + rng.normal(size=(len(labels), 8))).astype(np.float32)
    folder.mkdir()
    maps(folder, row=np.arange(3), label=np.arange(3))
    parts = {"parts": np.array(["image"]), "widths": np.array([8])}
    rows = {"row": np.arange(len(labels)), "label": labels, "prediction": predictions}
    np.savez(folder / "validation.npz", **rows, embedding=embedding, **parts)
    write_calibration(folder / "calibration.json", never_wrong())
    track(tracker, study, 0, ImageCNNConfig(), scores(0.9), folder=folder)
    return study


def texts(part: Any, name: str = "") -> list[str]:
    """What a reader is shown of a figure."""
    if isinstance(part, dict):
        return [text for own, value in part.items() for text in texts(value, own)]
    if isinstance(part, list):
        return [text for value in part for text in texts(value, name)]
    return [part] if isinstance(part, str) and name in ("text", "name", "ticktext", "hovertext") else []


HARD = (EVIL, '<b>"bold"</b>', "\u0633\u0628\u0639\u0629 " * 9, "%{x} $x_1$", "x" * 100, "a, b", "&amp;")


def test_names_of_classes_are_shown_as_they_are(store: Path, tmp_path: Path) -> None:
    """What plotly would take for mark-up is escaped, and what is too long for an axis is cut there."""
    tracker = MlflowTracker(store)
    study = named_study(tracker, tmp_path / "trial", HARD)
    page = write(tracker, study, tmp_path / "page.html")
    assert len(page.scripts) == 4
    assert "img" not in {tag for tag, _ in page.elements}
    for name in ("per-class", "confusion"):
        shown = page.figures[name]["layout"]["yaxis"]["ticktext"]
        assert [len(html.unescape(text)) <= 16 for text in shown] == [True] * len(HARD)
        assert [own.startswith(html.unescape(text)[:15]) for own, text in zip(HARD, shown, strict=True)] == [True] * 7
    drawn = [text for figure in page.figures.values() for text in texts(figure)]
    assert {tag for text in drawn for tag in re.findall("<[^>]*>", text)} == {"<b>", "</b>"}
    assert not any('<b>"bold' in text for text in drawn)
    assert any(HARD[2].strip() in html.unescape(text) for text in drawn)
    # Plotly reads no name of an entity for a quotation mark.
    assert not any("&quot;" in text for text in drawn)
    assert f"Validation row 0, class {EVIL}" in page.text


@pytest.mark.parametrize(
    "names", [(*HARD, "\u4e2d\u6587", "\U0001f989"), [f"class {n}" for n in range(300)]], ids=["hard", "many"]
)
def test_a_picture_of_any_classes_is_drawn_without_a_word(
    names: Sequence[str], store: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    tracker = MlflowTracker(store)
    study = named_study(tracker, tmp_path / "trial", names)
    recwarn.clear()
    made = picture_of_best(tracker, study, tracker.trials(study.run_id)[0])
    assert made.startswith(b"\x89PNG")
    assert len(made) < 300_000
    assert not list(recwarn)


@pytest.mark.parametrize("count", [40, 300, 1500])
def test_a_page_of_many_classes_is_written_and_stays_small(count: int, store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    names = [f"class {number}" for number in range(count)]
    page = write(tracker, named_study(tracker, tmp_path / "trial", names), tmp_path / "page.html")
    assert len(page.scripts[1]) < 2_000_000
    dots = page.figures["per-class"]
    assert len(dots["data"][0]["x"]) == count
    # Nothing is written where it would be written over something else.
    assert dots["data"][0]["mode"] == "markers"
    assert "ticktext" not in dots["layout"]["yaxis"]
    if count > 500:
        assert "Not drawn: 1,500 classes are too many for a matrix." in page.text
        assert "confusion" not in page.figures
    else:
        matrix, cells = page.figures["confusion"]["data"]
        assert np.shape(matrix["z"]) == (count, count)
        assert cells["mode"] == "markers"
        assert sum(map(int, cells["text"])) == 3 * count
    assert ("hide each other" in page.text) == (count > 200)


@pytest.mark.parametrize("told", ["", "{", "3", '["a"]', "[" * 3000, '{"a": 1}', "[1, 2, 3, 4, 5, 6, [7]]"])
def test_without_all_names_classes_have_their_numbers(told: str, store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    study = named_study(tracker, tmp_path / "trial", [*"abcdefg"], classes=told)
    page = write(tracker, study, tmp_path / "page.html")
    assert page.figures["confusion"]["layout"]["xaxis"]["ticktext"] == [*"0123456"]


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ("random", "random split over rows"),
        ("as_reported", "random split over rows"),
        ("disjoint:patient", "no patient stands on both sides"),
        ("disjoint:content", "no equal content stands on both sides"),
        ("clip_disjoint", "no recording stands on both sides"),
    ],
)
def test_a_protocol_is_told_in_words(protocol: str, said: str) -> None:
    assert said in report.protocol_note(protocol)


# ---- maps over the utterance


def maps(folder: Path, **arrays: Any) -> Path:
    rng = np.random.default_rng(1)
    own = {"x1": rng.normal(size=(3, 39, 5, 7)), EVIL: rng.normal(size=(3, 4, 4))}
    made = {name: array.astype(np.float32) for name, array in own.items()}
    np.savez(folder / "maps.npz", **{"row": np.array([4, 9, 2]), "label": np.array([8, 6, 0]), **made, **arrays})
    return folder


def test_how_robust_the_best_trial_is_stands_there_where_it_was_measured(
    page: Page, store: Path, tmp_path: Path
) -> None:
    assert "Not measured yet: mmtune robustness image_cnn , then this page again" in page.text
    tracker = MlflowTracker(store)
    study, files = track_study(tracker, key()), validation(tmp_path / "trial")
    clean, noisy = (Score(accuracy=f1, macro_f1=f1, alone={"image": f1, "audio": 0.6}) for f1 in (0.9, 0.4))
    curve = Curve(bank="image", corruption="noise", unit=EVIL, at="image", levels=(0.5, 1.0), scores=(noisy, noisy))
    own = Robustness(
        clean=clean, curves=(curve, replace(curve, corruption="missing", levels=(100.0,), scores=(noisy,)))
    )
    for on, name in FILES.items():
        (files / name).write_bytes(told(Measured(on=on, rows=1500, robustness=own, groups=())))
    run_id = track(tracker, study, 0, ImageCNNConfig(), scores(0.9), folder=files)
    found = write(tracker, study, tmp_path / "page.html")
    assert "1,500 validation rows" in found.text
    assert "1,500 test rows" in found.text
    assert "fused falls below its best part 2 times in 3, by up to 20.00 points: image noise" in found.text
    drawn = found.figures["robust-0-0"]
    fused, image, audio = ({"name": line["name"], "y": line["y"]} for line in drawn["data"])
    assert fused == {"name": "fused", "y": [90.0, 40.0, 40.0]}
    assert image["y"] == [90.0, 40.0, 40.0]
    assert audio == {"name": "audio", "y": [60.0, 60.0, 60.0]}
    assert drawn["layout"]["xaxis"]["ticktext"] == ["as it is", "0.5", "1"]
    assert {"robust-0-1", "robust-1-0", "robust-1-1"} <= found.figures.keys()
    tracker.artifact(run_id, FILES["test"]).write_text("{}")
    with pytest.raises(InputError, match="must hold what `mmtune robustness` measured"):
        write(tracker, study, tmp_path / "page.html")


def test_maps_of_two_rows_are_drawn_where_the_trial_has_them(page: Page, store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, key())
    folder = maps(validation(tmp_path / "trial"))
    track(tracker, study, 0, ImageCNNConfig(), scores(0.9), folder=folder)
    drawn = write(tracker, study, tmp_path / "page.html")
    given = np.load(folder / "maps.npz")
    for number in (0, 1):
        timed, still = (drawn.figures[f"map-{number}-{i}"]["data"] for i in (0, 1))
        assert (len(timed), len(still)) == (12, 1)
        np.testing.assert_allclose(timed[-1]["z"], (given["x1"][number] - given["x1"][number].mean(0))[-1], rtol=0.006)
        np.testing.assert_allclose(still[0]["z"], given[EVIL][number], rtol=0.006)
    assert "Validation row 4, class 8" in drawn.text
    assert "Validation row 2" not in drawn.text
    assert "12 of 39 time steps" in drawn.text
    assert len(drawn.scripts) == 4
    assert "Maps" not in page.text


def test_maps_are_held_against_the_sound_that_they_were_made_from(store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, key())
    sound = np.random.default_rng(2).normal(size=(3, 39, 13)).astype(np.float32)
    same = np.repeat(sound[:, :, None, :], 2, axis=2)
    folder = maps(validation(tmp_path / "trial"), sound=sound, same=same)
    track(tracker, study, 0, ImageCNNConfig(), scores(0.9), folder=folder)
    drawn = write(tracker, study, tmp_path / "page.html")
    heard, *followed = drawn.figures["dynamics-0"]["data"]
    assert [line["name"] for line in (heard, *followed)] == ["sound", "x1", "same"]
    changes = np.linalg.norm(np.diff(sound[0], axis=0), axis=1)
    np.testing.assert_allclose(heard["y"], changes / changes.max(), atol=1e-3)
    np.testing.assert_allclose(followed[1]["y"], heard["y"], atol=1e-3)
    assert "same 1.00" in drawn.text


@pytest.mark.parametrize(
    "bad", [{"x1": np.zeros((2, 3, 3), np.float32)}, {"x1": np.full((3, 2, 2), np.nan)}, {"row": 3}]
)
def test_maps_of_another_kind_are_refused(bad: dict[str, Any], store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, key())
    track(tracker, study, 0, ImageCNNConfig(), scores(0.9), folder=maps(validation(tmp_path / "trial"), **bad))
    with pytest.raises(InputError, match=r"maps\.npz must hold") as caught:
        write(tracker, study, tmp_path / "page.html")
    assert "\n" not in str(caught.value)


# ---- comparisons


def test_published_models_stand_around_the_measured_test_accuracy(
    page: Page, filled: tuple[MlflowTracker, StudyRun], tmp_path: Path
) -> None:
    published = {"ResNet-152": 0.9879, EVIL: 0.90, "equal": 0.94}
    drawn = write(*filled, tmp_path / "page.html", published=published, published_source=f"Report {EVIL}")
    ours = f"image_cnn, test accuracy 94.00 {interval(0.94, 500)}"
    assert drawn.rows("published") == ["ResNet-152 98.79", ours, "equal 94.00", f"{EVIL} 90.00"]
    assert f"Published numbers: Report {EVIL}" in drawn.text
    assert "Comparison with published models" not in page.text


def test_without_a_test_score_published_models_stand_around_the_validation_accuracy() -> None:
    best = TrialRun(**{**trial(0).__dict__, "metrics": {"val_accuracy_at_best": 0.97}})
    key = StudyKey(study="mine", data="d", digest="0" * 8, protocol="random", seed=0, epochs=1, sampler="grid")
    validates, test = Scored(split="validation", rows=200), Scored(split="test")
    table = published_table(best, key, {"a": 0.5}, validates, test)
    assert [line["name"] for line in table["lines"]] == ["mine, validation accuracy", "a"]
    assert table["lines"][0]["interval"] == interval(0.97, 200)
    assert published_table(best, key, {}, validates, test)["lines"] == []


FOLDS = [
    {"unit_val_accuracy_at_best": 0.9, "unit_val_loss_at_best": 0.31},
    {"unit_val_accuracy_at_best": 0.95, "unit_val_loss_at_best": 0.29},
    {"unit_val_accuracy_at_best": 0.94, "unit_val_loss_at_best": 0.3},
]


def track_folds(tracker: MlflowTracker, run: StudyRun, folder: Path, units: Sequence[Mapping[str, float]]) -> None:
    params = flatten(TrialConfig(model=ImageCNNConfig()))
    track_trial(tracker, run, 0, params, scores(0.9), epochs=units, files=validation(folder))


def test_folds_are_listed_and_summed_up(page: Page, store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    run = track_study(tracker, key(folds=3))
    track_folds(tracker, run, tmp_path / "trial", FOLDS)
    drawn = write(tracker, run, tmp_path / "a.html")
    assert drawn.rows("folds") == ["1 90.00 0.31", "2 95.00 0.29", "3 94.00 0.3"]
    told = summary([0.9, 0.95, 0.94])
    table = fold_table(tracker, run.key, tracker.trials(run.run_id)[0])
    assert table is not None
    assert [column["heading"] for column in table["columns"]] == ["fold", "val accuracy at best", "val loss at best"]
    assert [line[1] for line in table["foot"]] == [
        f"{100 * told.mean:.2f}",
        f"{100 * told.deviation:.2f}",
        f"{100 * told.low:.2f} to {100 * told.high:.2f}",
    ]
    assert [line[0] for line in table["foot"]][:2] == ["mean", "standard deviation"]
    assert "Folds" not in page.text


def test_one_fold_has_a_mean_and_no_spread(store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    run = track_study(tracker, key(repeats=2))
    track_folds(tracker, run, tmp_path / "trial", [{"unit_best_val_macro_f1": 0.5}])
    table = fold_table(tracker, run.key, tracker.trials(run.run_id)[0])
    assert table is not None
    assert table["columns"][0]["heading"] == "repeat"
    assert [line[-1] for line in table["foot"]] == ["50.00", *2 * ["\N{EN DASH}"]]


def test_an_embedding_that_cannot_be_drawn_is_named_and_the_rest_stands(store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, key("audio_rnn"))
    file = validation(tmp_path / "trial") / "validation.npz"
    arrays = dict(np.load(file))
    np.savez(file, **{**arrays, "embedding": np.full((300, 64), np.nan, np.float32)})
    track(tracker, study, 0, AudioRNNConfig(), scores(0.9), folder=file.parent)
    page = write(tracker, study, tmp_path / "page.html")
    assert "Not drawn: principal components need finite values, got NaN or infinity." in page.text
    assert "confusion" in page.figures


def test_other_runs_of_the_study_stand_beside_it(filled: tuple[MlflowTracker, StudyRun], tmp_path: Path) -> None:
    tracker, study = filled
    other = track_study(tracker, key(protocol="as_reported", seed=8))
    track(tracker, other, 0, ImageCNNConfig(), scores(0.97))
    page = write(tracker, study, tmp_path / "a.html", [other])
    assert "as_reported 8 4 grid 1 97.00 97.10" in page.text
    assert "clip_disjoint 3 4 grid 4 95.00 95.10 93.00 94.00" in page.text


def test_what_is_left_out_is_said(
    filled: tuple[MlflowTracker, StudyRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MOST_ROWS", 3)
    monkeypatch.setattr(report, "MOST_CURVES", 2)
    page = write(*filled, tmp_path / "page.html")
    assert len(page.rows("leaderboard")) == 3
    assert "The first 3 of 7 trials are shown." in page.text
    assert [t["name"].split()[0] for t in page.figures["curve-val_loss"]["data"]] == ["#2", "#1"]
    assert "Curves of the 2 best of 7 trials are shown." in page.text


# ---- refusals


def test_a_study_without_a_complete_trial_is_refused_and_an_older_page_stays(store: Path, tmp_path: Path) -> None:
    tracker, out = MlflowTracker(store), tmp_path / "page.html"
    out.write_text("older")
    study = track_study(tracker, key())
    with pytest.raises(InputError, match=r"needs a complete trial, study image_cnn\..* has no trial$"):
        write(tracker, study, out)
    track(tracker, study, 0, ImageCNNConfig(), scores(0.9), PRUNED)
    track(tracker, study, 1, ImageCNNConfig(), {}, FAIL, reason="x")
    with pytest.raises(InputError, match=r"has 1 pruned, 1 failed$"):
        write(tracker, study, out)
    assert out.read_text() == "older"
    assert list(tmp_path.glob(".page*")) == []


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "pickled", "other fields"])
def test_a_damaged_validation_file_is_refused(damage: str, store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, key())
    folder = validation(tmp_path / "trial")
    file = folder / "validation.npz"
    if damage == "missing":
        file.rename(folder / "other.npz")
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:5000])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "pickled":
        np.savez(file, row=np.array([{}], dtype=object), label=[0], prediction=[0], embedding=[[0.0]])
    else:
        np.savez(file, row=np.arange(3))
    track(tracker, study, 0, ImageCNNConfig(), scores(0.9), folder=folder)
    with pytest.raises(InputError, match=r"validation\.npz") as caught:
        write(tracker, study, tmp_path / "page.html")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "page.html").exists()


def test_a_folder_is_no_place_for_a_page(filled: tuple[MlflowTracker, StudyRun], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        write(*filled, tmp_path)


# ---- a browser

DRIVE = """
  const select = document.getElementById("colouring");
  select.value = "1";
  select.dispatchEvent(new Event("change"));
  const box = document.getElementById("close");
  box.checked = true;
  box.dispatchEvent(new Event("change"));
  const headings = document.querySelectorAll("#leaderboard th");
  headings[1].click();
  const first = (n) => [...document.querySelectorAll("#leaderboard tbody tr")].map((r) => r.cells[n].textContent);
  const result = { trials: first(1), legend: document.getElementById("legend").textContent };
  headings[5].click();
  result.accuracy = first(1);
  headings[2].click();
  headings[2].click();
  result.score = first(1);
  result.cells = [...document.querySelectorAll("#leaderboard tbody tr")]
    .map((row) => [...row.cells].reduce((sum, cell) => sum + cell.colSpan, 0));
  result.headings = headings.length;
  result.range = document.getElementById("curve-val_macro_f1").layout.yaxis.range;
  const loss = () => document.getElementById("curve-val_loss").data.map((line) => [...line.y]);
  const average = document.getElementById("average");
  result.before = loss();
  average.click();
  result.smooth = loss();
  average.click();
  result.after = loss();
  return result;
"""


def test_a_browser_draws_every_figure_under_the_pages_own_policy(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page.source, encoding="utf-8")
    seen = browse(file, tmp_path / "profile")
    assert f'data-drawn="{len(page.figures)}"' in seen
    assert len(re.findall(r'class="plot js-plotly-plot"', seen)) == len(page.figures)


def test_a_reader_can_sort_colour_and_look_closer(page: Page, tmp_path: Path) -> None:
    result = driven(page.source, tmp_path, DRIVE)
    assert result["trials"] == [f"#{n}" for n in range(6, -1, -1)]
    assert result["accuracy"] == ["#4", "#2", "#1", "#0", "#3", "#6", "#5"]
    # Upwards too what has no score comes last.
    assert result["score"] == ["#3", "#0", "#2", "#1", "#4", "#6", "#5"]
    assert set(result["cells"]) == {result["headings"]}
    assert result["legend"] == "35"
    assert result["after"] == result["before"]
    for raw, smooth in zip(result["before"], result["smooth"], strict=True):
        assert smooth == pytest.approx([np.mean(raw[max(0, i - 4) : i + 1]) for i in range(len(raw))])
    assert result["range"] == pytest.approx(json.loads(page.scripts[0])["close"]["curve-val_macro_f1"])


def test_the_page_shows_how_far_confidence_is_to_be_believed(store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    study, folder = track_study(tracker, key("latent_fusion")), validation(tmp_path / "trial", joined=True)
    alone = {"val_accuracy_image_alone": 0.875, "val_accuracy_audio_alone": 0.75}
    track(tracker, study, 0, LatentFusionConfig(), scores(0.9, **alone), folder=folder)
    page = write(tracker, study, tmp_path / "page.html")
    lines = page.rows("scales")
    # Of 40 rows that are all right, one of ten classes 5 above the others: as sure as 41 of 42.
    temperature = f" 100.00 {5 / math.log(9 * 41):.3f} "
    assert [line.partition(temperature)[0] for line in lines] == ["all together", "image alone", "audio alone"]
    assert any("accuracy, image alone" in row and "87.50" in row for row in page.rows("result"))
    drawn = page.figures["reliability"]["data"]
    assert [own.get("name") for own in drawn[1:]] == ["before", "after"]
    assert drawn[1]["y"] == [100.0]
    assert sum(count or 0 for count in page.figures["bin-counts"]["data"][0]["y"]) == 40
    assert "40 validation rows of 40 independent units" in page.text
    assert "no row is wrong, so the temperature is that by which the answers are as sure as so many right" in page.text
