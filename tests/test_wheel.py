"""What `pip install .` gives somebody in an empty folder elsewhere: the wheel alone, in an environment of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

ROOT = Path(__file__).parent.parent
SOURCES = ("mmtune", "studies", "pyproject.toml", "setup.py", "README.md", "LICENSE")
STUDIES = {path.name for path in (ROOT / "studies").glob("*.py")}
pytestmark = pytest.mark.slow


def called(*words: object, cwd: Path, code: int = 0) -> str:
    """What a program printed, none of this checkout in its environment."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MMTUNE_STUDIES")}
    command = list(map(str, words))
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path, ignored = ROOT / name, shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(path, source / name, ignore=ignored) if path.is_dir() else shutil.copy(path, source)
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, source]
    called(sys.executable, "-m", "pip", *words, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, which sees the packages of this one and not this checkout."""
    folder = tmp_path_factory.mktemp("environment")
    called(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    called(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "others.pth").write_text("\n".join({sysconfig.get_path(own) for own in ("purelib", "platlib")}))
    return folder / "bin"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the user stands in."""
    return tmp_path_factory.mktemp("user")


def test_the_wheel_has_what_belongs_to_it_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names} == {"mmtune", f"{'-'.join(wheel.stem.split('-')[:2])}.dist-info"}
    assert {name.rpartition("/")[2] for name in names if name.startswith("mmtune/studies/")} == STUDIES
    own = {str(path.relative_to(ROOT)) for path in (ROOT / "mmtune").rglob("*") if path.is_file()}
    assert {name for name in own if "__pycache__" not in name} <= names
    assert "mmtune/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_shipped_studies_are_listed_and_run_anywhere(installed: Path, empty: Path) -> None:
    where = "import mmtune.study.finding as own; print(own.__file__, own.SHIPPED)"
    file, shipped = called(installed / "python", "-c", where, cwd=empty).split()
    assert file.startswith(str(installed.parent))
    assert shipped.endswith("site-packages/mmtune/studies")
    rows = called(installed / "mmtune", "studies", cwd=empty).splitlines()[3:-1]
    assert {f"{row.split()[1]}.py" for row in rows} == STUDIES
    words = ["study", "audio_rnn", "--trials", 1, "--epochs", 1, "--store", "elsewhere"]
    told = called(installed / "mmtune", *words, cwd=empty).splitlines()[-1]
    report, ui, promote = (f"mmtune {verb}" for verb in ("report audio_rnn", "ui", "promote audio_rnn"))
    assert told == "next: " + "  |  ".join(f"{verb} --store elsewhere" for verb in (report, ui, promote))


def test_a_newcomer_begins_a_study_and_comes_to_a_prediction(installed: Path, empty: Path) -> None:
    def mmtune(*words: object, code: int = 0) -> str:
        return called(installed / "mmtune", *words, cwd=empty, code=code)

    told = mmtune("init", "my_study")
    assert told.splitlines()[-1].startswith("next: mmtune study my_study  |  ")
    assert "my_study is in studies/my_study.py" in mmtune("init", "my_study", code=2)
    assert re.search(r"\bmy_study\b.*30 tpe x 10 epochs", mmtune("studies"))
    told = mmtune("study", "my_study", "--trials", 2, "--epochs", 2).splitlines()[-1]
    assert told == "next: mmtune report my_study  |  mmtune ui  |  mmtune promote my_study"
    assert "version 1 is champion" in mmtune("promote", "my_study")
    page = Path(mmtune("report", "my_study").partition(": ")[2].strip())
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")
    draws = np.random.default_rng(0)
    Image.fromarray(draws.integers(0, 255, (28, 28), np.uint8)).save(empty / "x.png")
    soundfile.write(empty / "x.wav", draws.normal(0, 0.1, 16_000), 16_000)
    said = mmtune("predict", "--model", "my_study", "--image", "x.png", "--audio", "x.wav")
    assert re.search(r"^class  [0-9]  probability ", said)


def test_an_image_is_built_from_what_the_wheel_is_and_the_pins() -> None:
    lines = (ROOT / "docs/Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert set(copied) == {*SOURCES, "constraints.txt"}
    assert any(line.startswith("RUN pip install") and "--constraint constraints.txt ." in line for line in lines)
