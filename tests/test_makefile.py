"""What is given to make reaches the commands word for word, whatever it is, and is never run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from mmtune.study.options import Options

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = [name for name in re.findall(r"^([a-z-]+):", MAKEFILE, re.M) if name != "clean"]
OPTIONS = MAKEFILE.replace("\\\n", "").partition("OPTIONS := ")[2].partition("\n")[0].split()
STUB = """#!/bin/sh
printf '%s\\0' "${0##*/}" "$@" >> heard
"""
HOSTILE = [
    "x'; touch ran; '",
    '"; touch ran; "',
    "x; touch ran",
    "$(touch ran)",
    "$$(touch ran)",
    "`touch ran`",
    "$(shell touch ran)",
    "$(eval export A := $(shell touch ran))",
    "x\ntouch ran",
    "x'\ntouch ran #",
    'x"\n\ttouch ran #',
    "x\\",
    "x # y",
    "a,b) $(x",
    "*",
    "x  y ",
]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder like the repository's, in which every program of the environment only notes what it is given."""
    for name in ("Makefile", "pyproject.toml", "setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("bin/mmtune", "bin/python", "bin/ruff", "bin/mypy", "bin/optuna-dashboard", "audit/bin/pip-audit"):
        stub = tmp_path / ".venv" / name
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(STUB)
        stub.chmod(0o755)
    for name in (".ready", ".ray", ".submitit", ".dashboard", ".export", ".browser", ".dev", ".fuzz", ".rivals"):
        (tmp_path / ".venv" / name).touch()
    return tmp_path


def make(here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *words], cwd=here, env=environment, capture_output=True, text=True, timeout=60)


def heard(here: Path) -> list[str]:
    """All words of all programs that were called."""
    return (here / "heard").read_text().split("\0")


def taken(target: str) -> list[str]:
    """The options that stand in a target's recipe; all of them in that of `make study`."""
    recipe = re.split(r"\n\n", MAKEFILE.partition(f"\n{target}:")[2])[0]
    which = MAKEFILE.partition("WHICH := ")[2].partition("\n")[0]
    words = re.findall(r"[A-Z_]+", recipe.replace("$(WHICH)", which))
    return OPTIONS if "$(OPTIONS)" in recipe else [name for name in OPTIONS if name in words]


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_is_run(here: Path, value: str) -> None:
    for target in TARGETS:
        done = make(here, "-i", target, *(f"{name}={value}" for name in taken(target)))
        assert not (here / "ran").exists(), (target, done.stdout, done.stderr)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_arrives_word_for_word(here: Path, value: str) -> None:
    (here / "files.txt").touch()
    assert make(here, "study", f"NAME={value}", f"DATA={value}").returncode == 0
    assert heard(here) == ["mmtune", "study", value, "--data", value, ""]
    (here / "heard").unlink()
    assert make(here, "compare", f"NAMES={value}", f"STORE={value}").returncode == 0
    assert heard(here) == ["mmtune", "compare", *value.split(), "--store", value, ""]


def test_the_options_are_those_that_recipes_take_and_all_of_a_study() -> None:
    named = {name for target in TARGETS if target != "study" for name in taken(target)}
    of_study = {"DATA", "STORE", "FIX", *(own.name.upper() for own in fields(Options) if own.metadata)} - {"PRUNE"}
    assert {*named, *of_study, "NAME", "PYTHON"} == set(OPTIONS)


def test_a_file_of_torch_needs_no_extra(here: Path) -> None:
    (here / ".venv" / ".export").unlink()
    assert make(here, "export", "MODEL=x", "TO=pt2", "OUT=y").returncode == 0
    assert heard(here) == ["mmtune", "export", "x", "--to", "pt2", "--out", "y", ""]


def test_an_option_is_its_commands_in_small_letters(here: Path) -> None:
    assert make(here, "study", "NAME=x", "POOL=ray", "GPUS_PER_TRIAL=0.5", "STORE_PATIENCE=9").returncode == 0
    assert heard(here) == [
        "mmtune",
        "study",
        "x",
        "--pool",
        "ray",
        "--gpus-per-trial",
        "0.5",
        "--store-patience",
        "9",
        "",
    ]


def test_python_is_one_program(here: Path) -> None:
    (here / ".venv" / ".ready").unlink()
    done = make(here, "setup", "PYTHON=touch ran; true")
    assert done.returncode == 2
    assert "mmtune needs Python 3.11 or newer, touch ran; true is" in done.stderr
    assert not (here / "ran").exists()


@pytest.mark.parametrize("name", ["EPOCH", "BIN", "VENV", "WHICH", "flags"])
def test_what_is_no_option_is_refused(here: Path, name: str) -> None:
    done = make(here, "study", "NAME=audio_rnn", f"{name}=; touch ran")
    assert done.returncode == 2
    assert f"{name} is none of the options PYTHON NAME" in done.stderr
    assert not (here / "ran").exists()
    assert not (here / "heard").exists()


@pytest.mark.parametrize(
    ("target", "given", "ignored"),
    [
        ("best", ["THREADS=2", "EPOCHS=5"], "EPOCHS THREADS"),
        ("reproduce", ["SEED=3"], "SEED"),
        ("report", ["NAME=audio_rnn", "TRIAL=3"], "TRIAL"),
        ("data", ["NAME=x"], "NAME"),
    ],
)
def test_what_a_target_would_ignore_is_refused(here: Path, target: str, given: list[str], ignored: str) -> None:
    done = make(here, target, *given)
    assert done.returncode == 2
    told = re.search(rf"make {target} takes no ([A-Z ]+)\.", done.stderr)
    assert told is not None
    assert sorted(told[1].split()) == ignored.split()
    assert not (here / "heard").exists()


def test_several_targets_share_their_options(here: Path) -> None:
    assert make(here, "study", "report", "NAME=x", "EPOCHS=2").returncode == 0
    assert heard(here) == ["mmtune", "study", "x", "--epochs", "2", "mmtune", "report", "x", ""]


def test_the_environment_does_not_count(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPTIONS:
        monkeypatch.setenv(name, "; touch ran")
    assert make(here, "study", "NAME=audio_rnn").returncode == 0
    assert heard(here) == ["mmtune", "study", "audio_rnn", ""]
    assert not (here / "ran").exists()


def installed(here: Path) -> list[str]:
    """What each call of pip installs, pinned and without compiling."""
    calls = "\0".join(heard(here)).split("python\0-m\0pip\0install\0")[1:] if (here / "heard").exists() else []
    options = "--disable-pip-version-check --progress-bar off --no-compile --constraint constraints.txt"
    assert all(call.startswith(options.replace(" ", "\0")) for call in calls)
    return [call.partition("constraints.txt\0")[2].removeprefix("--editable\0").partition("\0")[0] for call in calls]


RUNNING = [
    "studies",
    "init",
    "study",
    "ui",
    "report",
    "robustness",
    "compare",
    "reproduce",
    "promote",
    "predict",
    "data",
    "bench",
]
DEVELOPING = ["test", "test-slow", "torture", "lint", "type", "fuzz"]


@pytest.mark.parametrize("target", RUNNING)
def test_what_runs_needs_no_developers_tools(here: Path, target: str) -> None:
    for stamp in (".ready", ".ray", ".submitit", ".dashboard", ".export", ".browser", ".dev", ".fuzz", ".rivals"):
        (here / ".venv" / stamp).unlink()
    assert (
        make(here, target, *(f"{name}=x" for name in ("NAME", "NAMES", "MODEL") if name in taken(target))).returncode
        == 0
    )
    assert installed(here) == ["pip", "."]
    assert {path.name for path in (here / ".venv").glob(".*")} == {".ready"}
    (here / "heard").unlink()
    assert (
        make(here, target, *(f"{name}=x" for name in ("NAME", "NAMES", "MODEL") if name in taken(target))).returncode
        == 0
    )
    assert installed(here) == []


@pytest.mark.parametrize("target", DEVELOPING)
def test_what_developers_run_has_their_tools_too(here: Path, target: str) -> None:
    for stamp in (".ready", ".ray", ".submitit", ".dashboard", ".export", ".browser", ".dev", ".fuzz", ".rivals"):
        (here / ".venv" / stamp).unlink()
    assert make(here, target).returncode == 0
    more = {"fuzz": [".[fuzz]"], "test-slow": [".[browser]"]}.get(target, [])
    assert installed(here) == ["pip", ".", ".[dev]", *more]


def test_every_extra_is_installed_once_and_pinned(here: Path) -> None:
    (here / ".venv" / ".ready").unlink()
    slurm, ray = (["study", "NAME=x", f"POOL={pool}"] for pool in ("slurm", "ray"))
    export = ["export", "MODEL=x", "TO=onnx"]
    for words in (ray, slurm, ["dashboard", "NAME=x"], export, ["fuzz"], ["bench-search"], ["test-slow"]) * 2:
        assert make(here, *words).returncode == 0
    extras = ["ray", "slurm", "dashboard", "export", "dev", "fuzz", "rivals", "browser"]
    assert installed(here) == ["pip", ".", *(f".[{name}]" for name in extras)]


def test_an_installation_that_fails_says_why_and_leaves_no_stamp(here: Path) -> None:
    (here / ".venv" / ".ready").unlink()
    (here / ".venv" / "bin" / "python").write_text("#!/bin/sh\necho Collecting x\necho no such package >&2\nexit 7\n")
    done = make(here, "study", "NAME=x")
    assert done.returncode == 2
    assert "no such package" in done.stderr
    assert not (here / ".venv" / ".ready").exists()
    assert not (here / "heard").exists()


@pytest.mark.slow
def test_an_installation_says_every_few_seconds_how_far_it_is(here: Path) -> None:
    (here / ".venv" / ".ready").unlink()
    packages = here / ".venv" / "lib" / "python3" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "old.dist-info").mkdir()
    (here / ".venv" / "bin" / "python").write_text(
        "#!/bin/sh\n"
        'case "$*" in *--editable*) ;; *) exit 0;; esac\n'
        "echo Collecting x; echo '  Collecting y'; sleep 7\n"
        f"echo 'Installing collected packages: x, y, z'; mkdir {packages}/x.dist-info; sleep 5\n"
    )
    assert make(here, "setup").stderr.splitlines() == [
        "installing pip into .venv, at the pinned versions",
        "installing what running needs into .venv, at the pinned versions",
        "  5 s, packages looked up: 2",
        "  10 s, packages unpacked: 1 of 3",
    ]


def test_a_name_that_is_missing_is_asked_for(here: Path) -> None:
    for target, name in (("study", "NAME"), ("report", "NAME"), ("compare", "NAMES"), ("predict", "MODEL")):
        done = make(here, target)
        assert done.returncode == 2
        assert f"{name}=" in done.stderr
        assert "is missing" in done.stderr
