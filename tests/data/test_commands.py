"""`mmtune data build` and `info` as users type them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from filesets import pictures, recordings, write_picture
from typer.testing import CliRunner

from mmtune.base.errors import InputError
from mmtune.cli.program import data_app
from mmtune.data.storage.store import load

ANIMALS = ("ant", "bee", "cat")


def run(*arguments: object) -> str:
    """What a command prints; what it raises is raised here."""
    done = CliRunner().invoke(data_app, list(map(str, arguments)), catch_exceptions=False, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def test_folders_are_built_and_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(Path("photos"), [name.title() for name in ANIMALS], size=(10, 12))
    recordings(Path("sounds"), [f"{name}/{who}-{turn}.flac" for name in ANIMALS for who in "xyz" for turn in "12"])
    said = run(
        *("build", "--images", "photos", "--audio", "sounds", "--out", "set"),
        *("--image-form", "8x8:grey", "--audio-form", "logmel", "--group", "speaker=([xyz])-", "--seed", "1"),
    )
    for part in ("pictures    by the naming label/*", "image       picture 8 x 8", "audio       logmel 98 x 40"):
        assert part in said
    assert "21 pictures" not in said
    assert "2 in training, 1 in the test, 0 in both" in said
    assert load(Path("set")).classes == ("Ant", "Bee", "Cat")
    said = run("info", "set")
    assert "disjoint:content" in said
    assert Path("set-rows.png").is_file()


def test_a_table_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for row in range(30):
        write_picture(Path(f"{row}.png"), ANIMALS[row % 3])
    with Path("t.csv").open("w", newline="") as file:
        rows = [(ANIMALS[row % 3], f"{row}.png", row // 6, row) for row in range(30)]
        csv.writer(file).writerows([("animal", "photo", "farm", "age"), *rows])
    said = run(
        *("build", "--table", "t.csv", "--out", "set", "--label", "animal", "--image", "photo:8x8:rgb"),
        *("--vector", "age", "--group", "farm", "--keep-apart", "farm"),
    )
    assert "no farm on both sides" in said
    assert list(load(Path("set")).forms) == ["photo", "vector"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "must be built of --images, --audio or both, or of --table"),
        (("--images", "a", "--table", "b"), "--images is for folders, not with --table"),
        (("--images", "a", "--vector", "b"), "--vector is for a --table"),
        (("--audio", "a", "--audio", "b"), "--audio must name one folder"),
        (("--table", "b"), "--table needs a bank at least"),
        (("--images", "a"), "a: must be a folder, is missing"),
        (("--images", ".", "--image-form", "big"), "--image-form must be of a form such as"),
        (("--audio", ".", "--audio-form", "mp3"), "--audio-form must be of a form such as"),
        (("--images", ".", "--keep-apart", "a", "--group", "x"), "--group must be NAME=REGEX"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path, ANIMALS, each=3)
    recordings(tmp_path, [f"{name}/{turn}.wav" for name in ANIMALS for turn in range(3)])
    with pytest.raises(InputError) as caught:
        run("build", "--out", "set", *options)
    assert said in str(caught.value)
    assert not Path("set").exists()
