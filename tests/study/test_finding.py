"""Where studies are found, what their files may hold, and that a fault in one is a line that says where."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from mmtune.base.errors import InputError
from mmtune.networks import kinds
from mmtune.study import load_study, study_files
from mmtune.study.finding import SHIPPED, VARIABLE, folder_to_name, use_studies

OWN = """
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from mmtune.study import Study
from mmtune.study.space import Integer
from mmtune.train.recipe import TrialConfig


@dataclass(frozen=True)
class Encoder:
    width: int = {width}


@dataclass(frozen=True)
class Net:
    reads: ClassVar[tuple[str, ...]] = ("image",)
    encoders: dict[str, Encoder] = field(default_factory=lambda: {{"image": Encoder()}})

    def build(self, shapes):
        raise NotImplementedError


STUDY = Study(
    name="{name}",
    base=TrialConfig(model=Net()),
    space=(Integer(path="model.encoders.image.width", low=1, high=9),),
)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, with nothing named."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(kinds, "KNOWN", {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, width: int = 3, text: str = OWN) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(name=path.stem, width=width))
    return path


def width(name: str) -> int:
    found = load_study(name).base.model.encoders["image"].width
    assert isinstance(found, int)
    return found


def test_the_shipped_studies_are_found_from_anywhere() -> None:
    assert list(study_files()) == sorted(path.stem for path in SHIPPED.glob("*.py"))
    assert load_study("audio_rnn").name == "audio_rnn"


def test_no_place_hides_another_and_a_name_of_several_files_is_refused_where_it_is_used(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [Path("studies"), here / "first", here / "second"]
    monkeypatch.setenv(VARIABLE, os.pathsep.join(map(str, folders[1:])))
    files = [write(folder / "audio_rnn.py", number) for number, folder in enumerate(folders, 1)]
    assert study_files()["audio_rnn"] == [*files, SHIPPED / "audio_rnn.py"]
    assert list(study_files()) == sorted(study_files())
    with pytest.raises(InputError, match=r"audio_rnn must be one study, .*: give the path of one") as refusal:
        load_study("audio_rnn")
    assert all(str(path) in str(refusal.value) for path in (*files, SHIPPED / "audio_rnn.py"))
    assert [width(str(path)) for path in files] == [1, 2, 3]
    assert load_study(str(SHIPPED / "audio_rnn.py")).paper == load_study("image_cnn").paper == "Joshi"


def test_a_file_that_is_found_twice_is_one_as_in_a_checkout(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "again").symlink_to(SHIPPED)
    monkeypatch.setenv(VARIABLE, f"{SHIPPED}{os.pathsep}{here / 'again'}")
    (here / "studies").symlink_to(SHIPPED)
    assert study_files() == {path.stem: [Path("studies") / path.name] for path in sorted(SHIPPED.glob("*.py"))}
    assert load_study("audio_rnn").paper == "Joshi"


def test_a_folder_that_is_named_is_looked_in_by_processes_that_are_started(here: Path) -> None:
    for place in (1, 2):
        write(here / str(place) / f"mine{place}.py", place)
        use_studies(Path(str(place)))
    assert (width("mine1"), width("mine2")) == (1, 2)
    code = "from mmtune.study import load_study; print(load_study('mine2').base.model.encoders['image'].width)"
    (here / "elsewhere").mkdir()
    command, environment = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(SHIPPED.parent)}
    done = subprocess.run(command, cwd=here / "elsewhere", env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"


def test_a_folder_that_is_none_is_refused(here: Path) -> None:
    with pytest.raises(InputError, match=f"{VARIABLE} and --studies must name folders of studies, .*nowhere is none"):
        use_studies(here / "nowhere")


def test_files_that_begin_with_an_underscore_are_no_studies(here: Path) -> None:
    write(here / "studies" / "_shared.py")
    write(here / "studies" / "mine.py")
    (here / "studies" / "notes.txt").write_text("none")
    assert set(study_files()) - {path.stem for path in SHIPPED.glob("*.py")} == {"mine"}


def test_a_study_is_loaded_by_a_path_too(here: Path) -> None:
    path = write(here / "deep" / "mine.py", 8)
    assert width(str(path)) == width("deep/mine.py") == 8
    with pytest.raises(InputError, match=r"NAME must be one of audio_mel, .*, got 'mine'"):
        load_study("mine")
    with pytest.raises(InputError, match=r"deep/other\.py must be a study's file, there is none"):
        load_study("deep/other.py")
    with pytest.raises(InputError, match=r"my-study\.py must have a name such as my_study\.py"):
        load_study(str(write(here / "my-study.py")))


def test_a_study_may_have_classes_whose_annotations_are_texts_and_they_go_to_other_processes(here: Path) -> None:
    """As they are, since nobody else can import them."""
    model = load_study(str(write(here / "mine.py", 4))).base.model
    assert type(model).__module__ not in sys.modules
    with pytest.raises((pickle.PicklingError, ModuleNotFoundError, ImportError)):
        pickle.dumps(model)
    (here / "sent").write_bytes(cloudpickle.dumps(model))
    code = "import pickle; print(pickle.load(open('sent', 'rb')).encoders['image'].width)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "4"


def test_a_file_that_is_loaded_again_is_read_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However soon it was changed; and nothing is written beside it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = here / "mine.py"
    assert [width(str(write(path, number))) for number in range(1, 9)] == [*range(1, 9)]
    assert list(here.iterdir()) == [path]


BROKEN = [
    ("a syntax error", "x = 1\ndef broken(:\n", 2, "must be a study that loads: SyntaxError"),
    ("an exception", "x = 1\n\n\nx.y\n", 4, "must be a study that loads: AttributeError: 'int' object has no"),
    ("an exception further down", "def f():\n    return 1 / 0\n\nf()\n", 2, "must be a study that loads: ZeroDivision"),
    ("a package that is not there", "\nimport nowhere_at_all\n", 2, "must be a study that loads: ModuleNotFoundError"),
    (
        "an exception in ours",
        "from mmtune.networks.config import ImageCNNConfig\n\nImageCNNConfig(\n    kernel=0)\n",
        3,
        "kernel must be a whole number from 1 to 27, got 0",
    ),
    ("several lines", "raise ValueError('one\\ntwo')\n", 1, "must be a study that loads: ValueError: one"),
    ("an exit", "import sys\nsys.exit(3)\n", 2, "must be a study that loads: SystemExit: 3"),
]


@pytest.mark.parametrize(("text", "line", "said"), [own[1:] for own in BROKEN], ids=[own[0] for own in BROKEN])
def test_a_fault_in_a_study_is_a_line_that_says_where(here: Path, text: str, line: int, said: str) -> None:
    (here / "mine.py").write_text(text)
    with pytest.raises(InputError) as refusal:
        load_study("./mine.py")
    assert str(refusal.value).startswith(f"mine.py:{line}: {said}")
    assert "\n" not in str(refusal.value)
    assert "two" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "STUDY = 3\n", OWN.format(name="other", width=3)], ids=["none", "3", "other"])
def test_a_file_without_a_study_of_its_name_is_refused(here: Path, text: str) -> None:
    (here / "mine.py").write_text(text)
    with pytest.raises(InputError, match=r"mine\.py must export STUDY, a Study named 'mine'"):
        load_study("mine.py")


def test_a_file_that_is_no_text_is_refused_in_a_line(here: Path) -> None:
    (here / "mine.py").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(InputError, match=r"^mine\.py.*: must be a study that loads: ") as refusal:
        load_study("mine.py")
    assert "\n" not in str(refusal.value)


def test_a_broken_study_is_no_trouble_to_the_others(here: Path) -> None:
    (here / "studies").mkdir()
    (here / "studies" / "broken.py").write_text("1 / 0\n")
    assert "broken" in study_files()
    assert load_study("audio_rnn").name == "audio_rnn"


def test_only_a_folder_that_is_not_looked_in_must_be_named(tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    assert folder_to_name(str(far / "mine.py")) == far
    assert folder_to_name("mine") is folder_to_name(str(SHIPPED / "audio_rnn.py")) is None
    use_studies(far)
    assert folder_to_name(str(far / "mine.py")) is None
