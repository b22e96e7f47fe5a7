"""Many rows are answered as each would be by itself, and a bad one costs none of the others."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from calibrated import never_wrong
from filesets import write_picture, write_wav
from scipy.signal import correlate
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn

from mmtune import cli
from mmtune.base.errors import InputError
from mmtune.data.forms import Form, Picture, Speech, Vector
from mmtune.networks.output import Output
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import Loaded
from mmtune.serve.answer.many import answers, asked_together, of_folders, of_table, take_numbers
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.answer.tally import one
from mmtune.serve.batch import Asked, predict_many

SIDE, SAMPLES, CLASSES = 8, 4000, ("0", "1", "2")
FORMS: dict[str, Form] = {"image": Picture(height=SIDE, width=SIDE), "speech": Speech(seconds=0.25)}
SHAPES = Shapes(banks={"image": (1, SIDE, SIDE), "speech": (SAMPLES,)}, classes=3)


class Both(nn.Module):
    """Fixed random projections of both banks, and each alone."""

    def __init__(self) -> None:
        super().__init__()
        made = torch.Generator().manual_seed(0)
        self.image = torch.randn(SIDE * SIDE, 3, generator=made)
        self.speech = torch.randn(SAMPLES, 3, generator=made) / 10

    def forward(self, image: Tensor, speech: Tensor) -> Output:
        alone = {"image": image.flatten(1) @ self.image, "speech": speech @ self.speech}
        return Output(alone["image"] + alone["speech"], image.flatten(1), alone)


@dataclass(frozen=True)
class BothConfig:
    reads: tuple[str, ...] = ("image", "speech")


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(
        loaded=Loaded(model=Both().eval(), config=BothConfig(), shapes=SHAPES),
        card={"data": {"name": "made"}},
        classes=CLASSES,
        forms=FORMS,
        missing=(),
        calibration=never_wrong("image", "speech", classes=3),
    )


def quiet(what: str, done: int, total: int) -> None: ...


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Twelve pairs in label/* of two folders."""
    for label in CLASSES:
        for turn in range(4):
            write_picture(tmp_path / "seen" / label / f"{turn}.png", label)
            write_wav(tmp_path / "heard" / label / f"{turn}.wav", f"{label}{turn}")
    return {"image": tmp_path / "seen", "audio": tmp_path / "heard"}


def test_each_row_is_answered_as_by_itself(predictor: Predictor, folders: dict[str, Path]) -> None:
    rows = of_folders(folders, predictor)
    assert rows.names == [f"{label}/{turn}" for label in CLASSES for turn in range(4)]
    assert list(rows.labels) == [label for label in CLASSES for _ in range(4)]
    for place, answer in enumerate(answers(predictor, rows, quiet)):
        alone = predictor.predict(image=rows.given["image"][place], audio=rows.given["speech"][place])
        assert answer.prediction is not None
        np.testing.assert_allclose(answer.prediction.probabilities[0], alone.probabilities[0], atol=1e-5)


def test_what_it_is_worth_is_what_scikit_learn_says(predictor: Predictor, folders: dict[str, Path]) -> None:
    asked = Asked(files={name: str(folder) for name, folder in folders.items()})
    told = predict_many(predictor, asked, None, 3, quiet)
    records = [json.loads(line) for line in told.json]
    labels, said = [own["label"] for own in records], [own["class"] for own in records]
    [counted, scored, *_] = told.summary
    assert counted.startswith("12 rows: 0 refused")
    assert f"accuracy {accuracy_score(labels, said):.4f}, " in scored
    assert f"macro-F1 {f1_score(labels, said, average='macro'):.4f}, " in scored
    assert len(told.lines) == 12
    for own in records:
        assert list(own["top"]) == sorted(own["top"], key=lambda name: -own["top"][name])
        assert next(iter(own["top"])) == own["class"]
        assert sum(own["top"].values()) == pytest.approx(1, abs=1e-4)


def test_a_bad_file_is_refused_in_its_row_and_the_others_go_on(
    predictor: Predictor, folders: dict[str, Path], tmp_path: Path
) -> None:
    (folders["image"] / "1" / "2.png").write_bytes(b"no picture")
    out = tmp_path / "out.csv"
    told = predict_many(predictor, Asked(files={n: str(f) for n, f in folders.items()}), out, 1, quiet)
    assert told.code == 2
    assert told.lines == []
    assert told.summary[0].startswith("12 rows: 1 refused")
    rows = list(csv.DictReader(out.open()))
    refused = [row["row"] for row in rows if row["refused"]]
    assert (len(rows), refused) == (12, ["1/2"])
    assert all(row["class"] in CLASSES and row["label"] in CLASSES for row in rows if not row["refused"])


def test_files_without_a_partner_are_named(predictor: Predictor, folders: dict[str, Path]) -> None:
    (folders["audio"] / "2" / "3.wav").unlink()
    with pytest.raises(InputError, match=r"must hold files of the same names, 2/3 is in one alone"):
        of_folders(folders, predictor)


def test_files_that_differ_in_their_ending_alone_are_no_pairs_and_two_rows(
    predictor: Predictor, folders: dict[str, Path]
) -> None:
    write_wav(folders["audio"] / "1" / "2.flac", "another")
    with pytest.raises(InputError, match=r"files must differ in more than their ending, got 1/2\.flac and 1/2\.wav"):
        of_folders(folders, predictor)
    rows = of_folders({"audio": folders["audio"]}, predictor)
    assert len(rows.names) == 13
    assert {"1/2.flac", "1/2.wav"} <= set(rows.names)


def test_one_folder_is_answered_by_what_it_is_a_folder_of(predictor: Predictor, folders: dict[str, Path]) -> None:
    rows = of_folders({"audio": folders["audio"]}, predictor)
    assert list(rows.given) == ["speech"]
    for answer in answers(predictor, rows, quiet):
        assert answer.prediction is not None
        assert answer.prediction.by == "speech"


def test_a_table_has_labels_groups_and_rows_that_lack_a_bank(
    predictor: Predictor, folders: dict[str, Path], tmp_path: Path
) -> None:
    lines = ["image,audio,label,place"]
    lines += [f"seen/{n}/{turn}.png,heard/{n}/{turn}.wav,{n},room{turn}" for n in CLASSES for turn in range(2)]
    lines += ["seen/0/3.png,,0,room0", ",heard/0/3.wav,,room1", ",,1,room1"]
    table = tmp_path / "rows.csv"
    table.write_text("\n".join(lines))
    rows = of_table(table, predictor)
    assert rows.names[0] == "rows.csv, line 2"
    found = list(answers(predictor, rows, quiet))
    assert [own.prediction.by if own.prediction else "refused" for own in found[-3:]] == ["image", "speech", "refused"]
    told = predict_many(predictor, Asked(files={}, table=table), None, 1, quiet)
    assert told.summary[-1].startswith("place: mean accuracy")
    assert told.code == 2


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("photo,label\na.png,0\n", "must have a column for image or speech, has photo, label"),
        ("image,image\na.png,b.png\n", "must have a header of different names"),
    ],
)
def test_a_table_that_is_of_no_use_is_refused(predictor: Predictor, tmp_path: Path, text: str, rule: str) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=rule):
        of_table(table, predictor)


def test_a_label_that_is_no_class_of_the_model_is_said_and_its_row_answered(
    predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(f"image,label\na.png,nine\nb.png,{predictor.classes[0]}\n")
    assert of_table(table, predictor).labels == ["", predictor.classes[0]]
    assert "1 of 2 labels are no class of the model, such as 'nine'" in caplog.text


def test_numbers_are_columns_of_their_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    forms: dict[str, Form] = {"body": Vector(columns=("age", "height"))}
    model = Predictor(
        loaded=Loaded(
            model=nn.Identity(), config=BothConfig(("body",)), shapes=Shapes(banks={"body": (2,)}, classes=3)
        ),
        card={"data": {"name": "made"}},
        classes=CLASSES,
        forms=forms,
        missing=(),
        calibration=never_wrong(classes=3),
    )
    table = tmp_path / "rows.csv"
    table.write_text("height;age;label\n1.7;41;0\n1.6;;1\n")
    assert of_table(table, model).given == {"body": ["41,1.7", ""]}
    table.write_text("age;image\n41;a.png\n")
    with pytest.raises(InputError, match="must have a column for body, has age, image"):
        of_table(table, model)
    assert "without the column height, age is not read: body needs all" in caplog.text
    table.write_text("height;age;label\n1.7;NA;0\n")
    assert of_table(table, model).given == {"body": [""]}
    table.write_text("height;age;image\n1.7;41;a.png\n")
    found = of_table(table, model)
    assert (found.given, found.groups) == ({"body": ["41,1.7"]}, {})
    assert "the column image is not read, this model has no bank of it" in caplog.text
    table.write_text("height;age;body\n1.7;41;7,8\n")
    with pytest.raises(InputError, match="body must be given once, by a column of its name or by those of its numbers"):
        of_table(table, model)
    with pytest.raises(InputError, match="numbers must be given for age, height, got '1_000,2'"):
        forms["body"].parse("1_000,2")


def test_of_filled_numbers_some_cells_may_be_empty_which_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    form = Vector(columns=("age", "height"), filled=True)
    shapes = Shapes(banks={"body": (2,)}, classes=3)
    model = Predictor(
        loaded=Loaded(model=nn.Identity(), config=BothConfig(("body",)), shapes=shapes),
        card={"data": {"name": "made"}},
        classes=CLASSES,
        forms={"body": form},
        missing=(),
        calibration=never_wrong(classes=3),
    )
    table = tmp_path / "rows.csv"
    table.write_text("height,age\n1.7,\nNA,NA\n,41\n1.6,40\n")
    assert of_table(table, model).given == {"body": [",1.7", "", "41,", "40,1.6"]}
    assert "rows.csv: empty, so the mean of training: age 1, height 1" in caplog.text


def test_two_vectors_may_share_a_column(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    forms: dict[str, Form] = {"body": Vector(columns=("age", "height")), "dose": Vector(columns=("age", "mg"))}
    columns = {"age": ["1", "2"], "height": ["3", "4"], "mg": ["5", ""], "place": ["x", "y"]}
    assert take_numbers(tmp_path, columns, forms) == {"body": ["1,3", "2,4"], "dose": ["1,5", ""]}
    assert list(columns) == ["place"]
    assert not caplog.text


def test_the_answers_file_has_what_the_table_had_and_every_class_if_asked(
    predictor: Predictor, folders: dict[str, Path], tmp_path: Path
) -> None:
    lines = ["id,image,truth,class,p(0),set"] + [f"{n},seen/{n % 3}/0.png,{n % 3},mine {n},x,y" for n in range(4)]
    table, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    table.write_text("\n".join([*lines, "4,seen/none.png,other,,,"]))
    told = predict_many(predictor, Asked(files={}, table=table, label="truth"), out, 1, quiet, probabilities=True)
    rows = list(csv.DictReader(out.open()))
    assert [row["id"] for row in rows] == list("01234")
    assert [row["truth"] for row in rows] == ["0", "1", "2", "0", "other"]
    assert [row["class (given)"] for row in rows[:4]] == [f"mine {n}" for n in range(4)]
    assert {row["p(0) (given)"] for row in rows[:4]} == {"x"}
    for row in rows[:4]:
        alone = predictor.predict(image=tmp_path / row["image"])
        assert [float(row[f"p({name})"]) for name in CLASSES] == pytest.approx(
            alone.probabilities[0].tolist(), rel=1e-5
        )
        assert row["label"] == row["truth"]
    assert rows[4]["refused"]
    assert not rows[4]["p(0)"]
    assert told.summary[1].startswith("of 4 with a label: accuracy ")
    predict_many(predictor, Asked(files={}, table=table), out, 1, quiet)
    assert "p(1)" not in out.read_text()
    for _ in range(2):
        # Its own answers are a table as any other.
        (tmp_path / "again.csv").write_bytes(out.read_bytes())
        predict_many(predictor, Asked(files={}, table=tmp_path / "again.csv"), out, 1, quiet)
    header = next(csv.reader(out.open()))
    assert len(set(header)) == len(header)
    assert [row["class (given) (given)"] for row in csv.DictReader(out.open())][:4] == [
        row["class"] for row in rows[:4]
    ]
    with pytest.raises(InputError, match="must have the column kind, has id, image"):
        of_table(table, predictor, "kind")


def test_a_row_that_is_refused_costs_none_of_the_others(predictor: Predictor, folders: dict[str, Path]) -> None:
    value = predictor.forms["image"].read(folders["image"] / "0" / "0.png")
    told = asked_together(predictor, [{"image": value}, {"image": value.astype(np.float32)}, {"image": value}])
    assert [bool(answer.refused) for answer in told] == [False, True, False]
    assert "image" in told[1].refused


def test_a_number_beyond_float32_is_refused() -> None:
    with pytest.raises(InputError, match=r"numbers of a, b must be finite in float32, got '1e39,1'"):
        Vector(columns=("a", "b")).parse("1e39,1")


def test_every_word_is_answered(predictor: Predictor, tmp_path: Path) -> None:
    import soundfile

    words = [soundfile.read(write_wav(tmp_path / f"{n}.wav", str(n), 16_000, 0.2))[0] for n in range(3)]
    pause = 1e-4 * np.random.default_rng(0).normal(size=12_000)
    soundfile.write(tmp_path / "said.wav", np.concatenate([own for word in words for own in (word, pause)]), 16_000)
    picture = write_picture(tmp_path / "x.png", "1")
    asked = Asked(files={"audio": str(tmp_path / "said.wav"), "image": str(picture)}, every=True)
    told = predict_many(predictor, asked, None, 1, quiet)
    assert [line.split("  ")[0] for line in told.lines] == ["at 0.0 s", "at 0.9 s", "at 1.9 s"]
    form = Speech(seconds=0.25)
    for place, value in enumerate(form.each(tmp_path / "said.wav")[1].astype(float)):
        alone = form.read(tmp_path / f"{place}.wav").astype(float)
        assert correlate(value, alone).max() / np.square(alone).sum() == pytest.approx(1, abs=0.05)
    with pytest.raises(InputError, match="--all is for a recording, and a model that hears speech in it"):
        predict_many(predictor, Asked(files={"image": str(picture)}, every=True), None, 1, quiet)


def test_a_record_says_what_a_prediction_has(predictor: Predictor, folders: dict[str, Path]) -> None:
    found = predictor.predict(image=str(folders["image"] / "0" / "0.png"))
    told = one(replace(found, strange={"image": ["brightness 1"]}), 2)
    assert (told["missing"], told["strange"], told["familiar"]) == (["speech"], {"image": "brightness 1"}, False)
    assert len(told["top"]) == 2


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["--image", "a.png", "--table", "b.csv"], "predict takes one of --image with --audio and --input, --table"),
        ([], "predict takes one of --image with --audio and --input, --table, and --data"),
        (
            ["--image", "a.png", "--image", "b.png"],
            "predict takes --image once, and a folder or --table for many",
        ),
        (
            ["--table", "b.csv", "--out", "b.csv"],
            "--out must be another file than --table, which it would replace",
        ),
        (["--data", "x"], "predict takes --data and --out together, got one of them"),
        (["--image", "a.png", "--out", "b.csv"], "predict takes --out for many rows, of folders, --table, --data or"),
        (["--table", "b.csv", "--out", "none/c.csv"], "none/c.csv cannot be written: there is no folder none"),
        (["--image", "a.png", "--label", "kind"], "predict takes --label with --table, got it without"),
        (["--table", "b.csv", "--probabilities"], "predict takes --probabilities with --out, got it without"),
        (["--table", "b.csv", "--all"], "predict takes --all with --audio, got it with --table or --data"),
    ],
)
def test_what_does_not_go_together_is_refused(refusal: Callable[..., str], words: list[str], rule: str) -> None:
    assert rule in refusal(cli.main, "predict", "--model", "made", *words)


def test_folders_and_files_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="predict takes folders or files, not both"):
        _ = Asked(files={"image": str(tmp_path), "audio": "a.wav"}).is_many
