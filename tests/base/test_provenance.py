"""What a number was made with, and that a study says where its trials differ in it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mmtune.base.provenance import counted, git_commit, made_with, mixture, provenance_tags


def tags(commit: str = "a" * 40, device: str = "cpu (x86_64)", **versions: str) -> dict[str, str]:
    own = {"mmtune": "0.1.0", "torch": "2.13.0", "optuna": "5.0.0", **versions}
    return {"mmtune.versions": json.dumps(own), "mmtune.git_commit": commit, "mmtune.device": device}


def test_trials_of_one_make_are_no_mixture() -> None:
    assert mixture([], tags()) == ""
    assert mixture([(number, tags()) for number in range(4)], tags()) == ""
    current = provenance_tags("cpu")
    assert mixture([(0, current)], provenance_tags("cpu")) == ""


def test_a_mixture_names_the_trials_and_only_what_differs() -> None:
    before = [(number, tags(torch="2.12.0")) for number in (0, 1, 2, 5)]
    assert mixture([*before, (3, tags())], tags()) == (
        "made with different code: trials 0-2, 5 with torch 2.12.0; the others with torch 2.13.0"
    )


def test_every_make_is_told_apart() -> None:
    made = [(0, tags(mmtune="0.0.9", commit="b" * 40)), (1, tags(commit="c" * 40 + "+changes")), (2, tags())]
    assert mixture(made, tags()) == (
        f"made with different code: trial 0 with mmtune 0.0.9, commit {'b' * 12}; "
        f"trial 1 with mmtune 0.1.0, commit {'c' * 12}+changes; the others with mmtune 0.1.0, commit {'a' * 12}"
    )


def test_what_older_runs_do_not_say_is_unknown() -> None:
    assert "trial 0 with mmtune unknown, torch unknown" in mixture([(0, {})], tags())


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([3], "trial 3"), ([1, 0], "trials 0-1"), ([7, 1, 2, 3, 5], "trials 1-3, 5, 7"), ([2, 4], "trials 2, 4")],
)
def test_numbers_in_words(numbers: list[int], words: str) -> None:
    assert counted(numbers) == words


def test_a_run_says_all_that_is_compared() -> None:
    own = made_with(provenance_tags("cpu"))
    assert {"python", "mmtune", "torch", "optuna", "numpy", "commit", "device"} <= set(own)
    assert "absent" not in own.values()


def test_a_commit_is_that_of_the_repository_that_keeps_the_code(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("1\n")
    assert git_commit(tmp_path / "code") == ""
    git("init", "--quiet")
    (tmp_path / "other").write_text("")
    git("add", "other")
    git("commit", "--quiet", "-m", "other")
    assert git_commit(tmp_path / "code") == ""
    git("add", ".")
    git("commit", "--quiet", "-m", "code")
    commit = git("rev-parse", "HEAD")
    assert git_commit(tmp_path / "code") == commit
    (tmp_path / "code" / "a.py").write_text("2\n")
    assert git_commit(tmp_path / "code") == f"{commit}+changes"


@pytest.mark.parametrize("versions", ["x", "[]", "[" * 100_000, '{"torch": [1]}'])
def test_versions_that_a_hand_has_spoilt_are_unknown(versions: str) -> None:
    assert "trial 0" in mixture([(0, {"mmtune.versions": versions})], {"mmtune.versions": '{"torch": "2"}'})
