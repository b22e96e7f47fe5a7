"""Tables: a folder and a table of the same files are the same data set, and a cell that is wrong is named."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from filesets import pictures, recordings, refusal, write_picture, write_wav

from mmtune.data.building.asking import Folders, Table, table_of
from mmtune.data.building.build import build
from mmtune.data.building.sources import How
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.forms import LogMel, Mfcc, Vector, Waveform
from mmtune.data.info import found as found_lines
from mmtune.data.protocols import leakage, split
from mmtune.data.storage.store import load

ANIMALS = ("ant", "bee", "cat")


def write(path: Path, rows: Sequence[Mapping[str, object]], **how: str) -> Path:
    with path.open("w", newline="", encoding=how.pop("encoding", "utf-8")) as file:
        writer = csv.DictWriter(file, list(rows[0]), **how)  # type: ignore[arg-type]
        writer.writeheader()
        writer.writerows(rows)
    return path


def sample_rows(folder: Path, rows: int = 42) -> list[dict[str, object]]:
    """Rows of patients with a photo, a clip, an array and two numbers each; each patient has every class."""
    made = []
    for row in range(rows):
        own = ANIMALS[row % 3]
        write_picture(folder / "photos" / f"{row}.png", own, f"p{row}", (20, 30), colour=True)
        write_wav(folder / "clips" / f"{row}.wav", f"c{row}")
        np.save(folder / f"{row}.npy", np.random.default_rng(row).normal(size=(4, 6)))
        made.append(
            {
                "label": own,
                "patient": f"p{row // 6}",
                "photo": f"photos/{row}.png",
                "clip": folder / "clips" / f"{row}.wav",
                "gait": f"{row}.npy",
                "age": 20 + row,
                "height": 1.5 + row / 100,
            }
        )
    return made


def asked(path: Path) -> Table:
    return table_of(
        path, ["photo:16x24:rgb"], ["clip:logmel", "clip:mfcc", "wave=clip:waveform"], ["gait:4x6"], ["age,height"]
    )


def equal(ours: Partition, theirs: Partition, banks: Mapping[str, str]) -> bool:
    """Whether rows are the same, banks being called differently."""
    pairs = [(ours.banks[mine], theirs.banks[other]) for mine, other in banks.items()]
    same = [np.array_equal(a.values[a.index], b.values[b.index]) for a, b in pairs]
    return np.array_equal(ours.labels, theirs.labels) and all(same)


def test_all_kinds_of_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "samples.csv", sample_rows(tmp_path))
    made = build(asked(path), tmp_path / "set", How(groups=("patient",), keep_apart="patient"))
    assert list(made.forms) == ["photo", "clip", "clip_mfcc", "wave", "gait", "vector"]
    shapes = {name: bank.values.shape[1:] for name, bank in made.train.banks.items()}
    assert shapes == {name: form.shape for name, form in made.forms.items()}
    assert made.classes == ANIMALS
    assert made.test is not None
    assert not set(made.train.groups["patient"]) & set(made.test.groups["patient"])
    assert len(made.train) + len(made.test) == 42
    assert load(made.folder).digest == made.digest
    for protocol in ("as_reported", "clip_disjoint", "disjoint:patient"):
        shares = leakage(made.train, split(made.train, protocol, 0))
        assert shares["equal photo"] == shares["equal clip"] == 0


def test_files_are_read_as_they_are_at_predict_time(tmp_path: Path) -> None:
    rows = sample_rows(tmp_path)
    made = build(asked(write(tmp_path / "t.csv", rows)), tmp_path / "set", How(seed=3))
    numbers, vector = made.train.banks["vector"], made.forms["vector"]
    assert isinstance(vector, Vector)
    by_clip = {str(row["clip"]): row for row in rows}
    for row in range(0, len(made.train), 5):
        own = by_clip[str(made.train.groups["recording"][row])]
        for bank, column in (("photo", "photo"), ("clip", "clip"), ("clip_mfcc", "clip"), ("gait", "gait")):
            value = made.forms[bank].read(tmp_path / str(own[column]))
            stored = made.train.banks[bank].of_rows(np.array([row]))[0]
            assert np.allclose(value, stored, atol=1e-5), bank
        assert np.allclose(vector.parse(f"{own['age']}, {own['height']}"), numbers.values[numbers.index[row]])
    assert np.allclose(numbers.values[numbers.index].mean(axis=0), 0, atol=1e-6)  # fitted on the training rows


@pytest.mark.parametrize("how", [{}, {"delimiter": ";"}, {"delimiter": "\t"}, {"encoding": "utf-8-sig"}])
def test_a_folder_and_a_table_of_the_same_files_are_the_same(tmp_path: Path, how: dict[str, str]) -> None:
    for part in ("train", "test"):
        pictures(tmp_path / "images" / part, ANIMALS, size=(12, 9))
    paths = sorted((tmp_path / "images").rglob("*.png"))
    rows = [{"what": p.parent.name, "photo": p.relative_to(tmp_path), "part": p.parent.parent.name} for p in paths]
    path = write(tmp_path / "t.csv", rows, **how)
    table = table_of(path, image=["photo:12x9:grey"])
    ours = build(table, tmp_path / "a", How(label="what", split="part"))
    theirs = build(Folders(images=tmp_path / "images"), tmp_path / "b")
    assert ours.classes == theirs.classes
    for mine, other in ((ours.train, theirs.train), (ours.require_test(), theirs.require_test())):
        assert equal(mine, other, {"photo": "image"})


def test_a_folder_of_recordings_and_its_table_are_the_same(tmp_path: Path) -> None:
    names = [f"{word}_{who}_{turn}.wav" for word in ANIMALS for who in ("ann", "bob") for turn in (0, 4, 5, 6)]
    recordings(tmp_path, names)
    rows = [
        {"label": n.split("_")[0], "clip": n, "split": "train" if int(n[-5]) > 4 else "test", "who": n.split("_")[1]}
        for n in sorted(names)
    ]
    table = table_of(write(tmp_path / "t.csv", rows), audio=["clip", "clip:waveform"])
    ours = build(table, tmp_path / "out" / "a", How(groups=("speaker=who",)))
    theirs = build(Folders(audio=tmp_path), tmp_path / "out" / "b")
    for mine, other in ((ours.train, theirs.train), (ours.require_test(), theirs.require_test())):
        assert equal(mine, other, {"clip": "audio", "clip_waveform": "waveform"})
        assert np.array_equal(mine.groups["speaker"], other.groups["speaker"])
    assert (ours.forms["clip"], ours.forms["clip_waveform"]) == (theirs.forms["audio"], theirs.forms["waveform"])
    assert isinstance(ours.forms["clip"], Mfcc)
    assert isinstance(ours.forms["clip_waveform"], Waveform)


@pytest.mark.parametrize("parts", ["Train val TEST", "train dev", "train test"])
def test_the_split_is_a_column(tmp_path: Path, parts: str) -> None:
    names = parts.split()
    rows = [row | {"split": names[turn // 3 % len(names)]} for turn, row in enumerate(sample_rows(tmp_path))]
    table = table_of(write(tmp_path / "t.csv", rows), ["photo:4x4"])
    made = build(table, tmp_path / "set")
    assert len(made.require_test()) == sum(row["split"] == names[-1] for row in rows)
    rows[7]["split"] = "both"
    write(tmp_path / "t.csv", rows)
    assert "line 9, split: must be train or test, got 'both'" in refusal(lambda: build(table, tmp_path / "set"))


def test_empty_cells_are_nothing(tmp_path: Path) -> None:
    rows = sample_rows(tmp_path)
    for row in rows[::4]:
        row["photo"] = ""
    for row in rows[1::4]:
        row["clip"], row["age"] = "", "NaN"
    made = build(asked(write(tmp_path / "t.csv", rows)), tmp_path / "set")
    parts = (made.train, made.require_test())
    missing = {name: sum(int((p.banks[name].index < 0).sum()) for p in parts) for name in made.forms}
    assert missing == {"photo": 11, "clip": 11, "clip_mfcc": 11, "wave": 11, "gait": 0, "vector": 11}
    assert "recording" not in made.train.groups  # which is not known of every row
    assert load(made.folder).digest == made.digest


def test_equal_files_are_one_value_and_never_on_both_sides(tmp_path: Path) -> None:
    rows = sample_rows(tmp_path)
    for row in rows[21:]:
        row["clip"] = rows[(rows.index(row) - 21)]["clip"]
        row["label"] = rows[(rows.index(row) - 21)]["label"]
    made = build(asked(write(tmp_path / "t.csv", rows)), tmp_path / "set")
    assert made.test is not None
    heard = [set(part.groups["recording"]) for part in (made.train, made.test)]
    assert not heard[0] & heard[1]
    assert made.provenance["table"]["equal"] == 21
    assert leakage(made.train, split(made.train, "clip_disjoint", 0))["equal wave"] == 0


def refused(path: Path, rows: list[dict[str, object]], how: How | None = None, table: Table | None = None) -> str:
    write(path / "t.csv", rows)
    line = refusal(lambda: build(table or asked(path / "t.csv"), path / "set", how))
    assert not (path / "set").exists()
    assert not list(path.glob(".*"))
    return line


def test_everything_wrong_is_named_together(tmp_path: Path) -> None:
    rows = sample_rows(tmp_path)
    rows[0]["photo"] = "nowhere.png"
    rows[1]["age"] = "old"
    rows[2]["label"] = ""
    rows[3]["height"] = "inf"
    (tmp_path / "clips" / "4.wav").write_bytes(b"noise")
    np.save(tmp_path / "5.npy", np.zeros((3, 3)))
    line = refused(tmp_path, rows)
    for part in (
        "6 files or lines cannot be used",
        "line 2, photo: nowhere.png",
        "line 3, age: must be a number, got 'old'",
    ):
        assert part in line
    for part in ("line 4: must have a label", "line 5, height", "line 6, clip", "line 7, gait"):
        assert part in line
    made = build(asked(tmp_path / "t.csv"), tmp_path / "set", How(skip_bad=True))
    assert len(made.train) + len(made.require_test()) == 36
    assert made.provenance["table"]["skipped"] == 6
    assert len(made.provenance["table"]["skipped_first"]) == 6


@pytest.mark.parametrize(
    ("change", "how", "said"),
    [
        ({"split": "both"}, How(), "split must be train for some rows and test for others, got both"),
        ({"split": "train"}, How(), "split must be train for some rows and test for others, got train"),
        ({"label": "ant"}, How(), "classes must be 2 to 4,096, got 1"),
        ({"patient": "a\nb"}, How(groups=("patient",)), "control character"),
        ({}, How(groups=("patients",)), "must have the column patients, has label, patient"),
        ({}, How(groups=("my group=patient",)), "--group must be COLUMN or NAME=COLUMN"),
        ({}, How(label="kind"), "must have the column kind"),
        ({}, How(split="part"), "must have the column part"),
        ({}, How(keep_apart="patient"), "--keep-apart must name a group of recording (--group makes one), got"),
        ({"photo": "", "clip": "", "gait": "", "age": ""}, How(), "must have a value in one bank"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused(tmp_path: Path, change: dict[str, object], how: How, said: str) -> None:
    assert said in refused(tmp_path, [row | change for row in sample_rows(tmp_path, 12)], how)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "must have a header"),
        (b"label,photo\n", "must have a header of different names and rows"),
        (b"label,label\n1,2\n", "different names"),
        (b"label,photo\n1,2,3\n", "line 2 must have 2 cells as the header, has 3"),
        (b'label,photo\n1,"2\n', "must be a CSV file"),
        (b"label,photo\n1,\xff\n", "must be a CSV file in UTF-8"),
        (b"label,photo\n1," + b"x" * 200_000 + b"\n", "must be a CSV file"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(text)
    assert said in refusal(lambda: build(table_of(tmp_path / "t.csv", ["photo:2x2"]), tmp_path / "set"))


@pytest.mark.parametrize(
    ("banks", "said"),
    [
        ({}, "--table needs a bank at least"),
        ({"image": ["photo"]}, "--image must be COLUMN:FORM, such as photo:32x32:rgb"),
        ({"image": ["photo:0x3"]}, "height of a picture"),
        ({"image": ["my photo:3x3"]}, "must have a name such as"),
        ({"image": ["photo:3x3", "photo=photo:3x3"]}, "photo is asked for twice"),
        ({"image": ["photo:3x3", "small=photo:2x2"]}, "must be read in one way"),
        ({"audio": ["clip:mp3"]}, "--audio must be of a form such as mfcc"),
        ({"audio": ["clip:logmel:99s"]}, "seconds of a recording must be"),
        ({"audio": ["clip", "other=clip:logmel:2s"]}, "must be read in one way"),
        ({"array": ["gait"]}, "--array must be COLUMN:FORM, such as gait:39x13"),
        ({"array": ["gait:0x4"]}, "sides of 1 or more"),
        ({"vector": ["age,age"]}, "each once"),
        ({"vector": ["age,"]}, "columns of a vector"),
    ],
)
def test_banks_that_cannot_be_are_refused(tmp_path: Path, banks: dict[str, list[str]], said: str) -> None:
    assert said in refusal(lambda: table_of(tmp_path / "t.csv", **banks))


def test_forms_are_what_they_say(tmp_path: Path) -> None:
    found = table_of(tmp_path, ["a:2x3"], ["b:logmel:2.5s", "c:waveform:2"], ["d:7"], ["body=e,f"]).asked
    assert [one.bank for one in found] == ["a", "b", "c", "d", "body"]
    assert found[1].form == LogMel(seconds=2.5)
    assert [one.form.shape for one in found] == [(3, 2, 3), (248, 40), (32_000,), (7,), (2,)]


def test_a_set_without_a_label_column_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [{"x": 1, "y": 2}, {"x": 2, "y": 3}])
    assert "must have the column label, has x, y" in refusal(
        lambda: build(table_of(path, vector=["x"]), tmp_path / "s")
    )


def test_numbers_alone_are_nobodys_identity(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{"label": row % 2, "age": rng.integers(20, 24), "sex": rng.integers(2)} for row in range(60)]
    made: Dataset = build(table_of(write(tmp_path / "t.csv", rows), vector=["age,sex"]), tmp_path / "set")
    assert len(made.train) + len(made.require_test()) == 60
    assert made.provenance["table"]["left_out"] == 0


def test_a_column_of_something_else_is_one_reason(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("label,age,name\n" + "".join(f"{n % 2},{n},p{n}\n" for n in range(40)) + "1,x,p\n")
    line = refusal(lambda: build(table_of(table, [], [], [], ["age,name"]), tmp_path / "set"))
    assert line.endswith(
        "rows.csv, line 2, name: must be a number, got 'p0' (and 40 more like it); "
        "rows.csv, line 42, age: must be a number, got 'x'"
    )


def gappy(path: Path, rows: int = 60) -> np.ndarray:
    """A table of three numbers (N, 3), a tenth of them missing and one row empty, which is NaN in what is returned."""
    made = np.random.default_rng(0).normal(5, 2, (rows, 3)).round(3)
    made[:, 2] = 7.0
    made[np.random.default_rng(1).random(made.shape) < 0.1] = np.nan
    made[4] = np.nan
    words = ("", "NA", "null")
    cells = [[words[row % 3] if np.isnan(own) else own for own in numbers] for row, numbers in enumerate(made)]
    own = [dict(zip("abc", numbers, strict=True)) for numbers in cells]
    write(path, [{"label": ANIMALS[row % 3], "id": row, **numbers} for row, numbers in enumerate(own)])
    return made


def test_a_missing_number_is_the_mean_of_its_column_in_training_where_that_is_asked_for(tmp_path: Path) -> None:
    raw = gappy(tmp_path / "t.csv")
    how = How(groups=("id",), skip_bad=True)
    made = build(table_of(tmp_path / "t.csv", vector=["a,b,c:filled"]), tmp_path / "set", how)
    form = made.forms["vector"]
    assert form == load(tmp_path / "set").forms["vector"]
    assert isinstance(form, Vector)
    train, test = (raw[part.groups["id"].astype(int)] for part in (made.train, made.require_test()))
    mean = np.nanmean(train, axis=0)
    np.testing.assert_allclose(form.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(form.std[:2], np.nanstd(train, axis=0)[:2], rtol=1e-4)
    for numbers, part in ((train, made.train), (test, made.require_test())):
        every = np.arange(len(part))
        found = form.unscaled(part.banks["vector"].of_rows(every))
        np.testing.assert_allclose(found, np.where(np.isnan(numbers), mean, numbers), rtol=1e-5)
        values = part.banks["vector"].values
        assert len(np.unique(values, axis=0)) == len(values)
    facts = made.provenance["table"]
    kept = np.delete(raw, 4, axis=0)
    assert facts["filled"] == dict(zip("abc", np.isnan(kept).sum(axis=0).tolist(), strict=True))
    assert (facts["skipped"], facts["halved"]) == (1, 0)
    assert any("empty, so the mean of training: a " in line for line in found_lines(made))


def test_numbers_are_standardised_over_rows_however_many_are_equal(tmp_path: Path) -> None:
    kids = np.random.default_rng(0).poisson(0.4, 120)
    rows = [{"label": ANIMALS[row % 3], "kids": own, "sex": row % 2} for row, own in enumerate(kids.tolist())]
    made = build(table_of(write(tmp_path / "t.csv", rows), vector=["sex,kids"]), tmp_path / "set")
    scaled = made.train.banks["vector"].of_rows(np.arange(len(made.train)))
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)


def test_lines_are_counted_once_and_told_before_the_classes_that_they_leave(tmp_path: Path) -> None:
    rows = [
        {"label": ANIMALS[row % 2], "a": "1,5" if row % 2 else row, "b": "x" if row % 2 else row} for row in range(60)
    ]
    table = table_of(write(tmp_path / "t.csv", rows), vector=["a,b:filled"])
    line = refusal(lambda: build(table, tmp_path / "set"))
    assert line.startswith("30 files or lines cannot be used")
    assert "a: must be a number, got '1,5' (and 29 more like it)" in line


def test_a_number_of_two_vectors_is_filled_once(tmp_path: Path) -> None:
    rows = [
        {"label": ANIMALS[row % 3], "x": "" if row % 5 == 0 else row, "y": row, "z": row * row} for row in range(60)
    ]
    table = table_of(write(tmp_path / "t.csv", rows), vector=["one=x,y:filled", "two=x,z:filled"])
    assert build(table, tmp_path / "set").provenance["table"]["filled"] == {"x": 12}


def test_without_being_asked_for_a_row_has_all_its_numbers_or_none_and_is_told_what_would_help(tmp_path: Path) -> None:
    raw = gappy(tmp_path / "t.csv", rows=300)
    table = table_of(tmp_path / "t.csv", vector=["a,b,c"])
    line = refusal(lambda: build(table, tmp_path / "set"))
    lost = int(np.isnan(raw).any(axis=1).sum())
    assert line.startswith(
        f"{lost} files or lines cannot be used (--skip-bad goes on without; --vector COLUMN,...:filled"
    )
    assert "as its a is empty (and " in line
    assert line.count("t.csv, line ") == 4
    made = build(table, tmp_path / "set", How(skip_bad=True))
    assert len(made.train) + len(made.require_test()) == 300 - lost
    assert len(made.provenance["table"]["skipped_first"]) == 4


def test_a_column_without_a_number_in_training_cannot_be_filled(tmp_path: Path) -> None:
    rows = [
        {"label": ANIMALS[row % 3], "a": row, "b": "", "split": "test" if row > 30 else "train"} for row in range(42)
    ]
    table = table_of(write(tmp_path / "t.csv", rows), vector=["a,b:filled"])
    assert refusal(lambda: build(table, tmp_path / "set")) == "b must have a number in training, has none"
