"""The README and the Makefile name what is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TARGETS = ["setup", "study", "best", "ui", "report", "reproduce", "promote", "predict", "data"]
TARGETS += ["test", "test-slow", "lint", "type", "bench"]


def test_it_opens_with_the_two_commands() -> None:
    first = README.split("```")[1].strip().splitlines()
    assert [line.split("#")[0].strip() for line in first] == ["make study NAME=audio_rnn", "make test"]


def test_every_target_is_explained() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    explained = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[1:])
    assert set(TARGETS) <= set(explained)
    assert all(explained.values())


def test_every_target_and_study_that_it_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.M)) <= targets
    names = {path.stem for path in (ROOT / "studies").glob("*.py") if not path.stem.startswith("best_")}
    papers = (ROOT / "docs" / "papers.md").read_text()
    assert names == set(re.findall(r"^\| `(\w+)` \| [A-Z]", papers, re.M))


def test_it_can_be_read_in_a_few_minutes() -> None:
    assert len(README.split()) <= 1_200


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    """Files, and the headings of a page as its readers' browsers know them."""
    text = page.read_text()
    for path, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text):
        assert (page.parent / path).exists(), path
        if heading:
            there = text if not path else (page.parent / path).read_text()
            known = [
                re.sub(r"[^a-z0-9 -]", "", own.lower()).replace(" ", "-")
                for own in re.findall(r"^#+ (.*)", there, re.M)
            ]
            assert heading in known, heading


def test_the_tree_is_the_tree() -> None:
    block = next(part for part in README.split("```") if part.startswith("\nstudies/"))
    folder = ROOT
    for line in block.strip().splitlines():
        name = line.split()[0]
        folder = ROOT / "mmtune" if line.startswith("  ") else ROOT
        assert (folder / name).exists(), name
    own = {p.name for p in (ROOT / "mmtune").iterdir() if p.suffix == ".py" or (p.is_dir() and list(p.glob("*.py")))}
    missing = {name for name in own - {"__init__.py"} if name not in block}
    assert not missing


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)h][^)]*)\)", README))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


def test_it_names_the_options_that_there_are() -> None:
    known = (ROOT / "Makefile").read_text().replace("\\\n", "").partition("OPTIONS := ")[2].partition("\n")[0].split()
    assert set(re.findall(r"\b([A-Z]{4,})=", README)) <= set(known)
