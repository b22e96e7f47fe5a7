"""Every command that the pages name is one that the program or the Makefile takes; docs/cli.md is the program's own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from command_page import PAGE, page

from mmtune.cli import app
from mmtune.study.options import Options, offered

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "studies" / "RESULTS.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text().replace("\\\n", " ")
OPTIONS = MAKEFILE.partition("OPTIONS := ")[2].partition("\n")[0].split()
WHICH = MAKEFILE.partition("WHICH := ")[2].partition("\n")[0]
PROGRAM = typer.main.get_command(app)
SHELL = ("|", "||", "&&", ";", "&")
# What stands in a line for more that the reader knows.
LEFT_OUT = ("...", "${STUDY_OPTIONS:-}")


class Said(NamedTuple):
    """A command of a page: its words, and whether it stands in a fenced block, to be given as it is."""

    words: tuple[str, ...]
    whole: bool


def said(text: str) -> Iterator[Said]:
    """The commands of a page in Markdown that begin with mmtune or make: lines of fenced blocks, and inline code."""
    for turn, part in enumerate(re.split(r"^```.*$", text, flags=re.M)):
        fenced = turn % 2 == 1
        codes = part.replace("\\\n", " ").splitlines() if fenced else re.findall(r"`([^`]+)`", part)
        for code in codes:
            if re.match(r"\s*(\.venv/bin/)?(mmtune|make) ", code):
                yield Said(words_of(code), fenced)


def words_of(code: str) -> tuple[str, ...]:
    """The words of the first command of a line, without its comment and what is left out."""
    words = shlex.split(code, comments=True)
    end = next((turn for turn, word in enumerate(words) if word in SHELL), len(words))
    return tuple(word for word in words[:end] if word not in LEFT_OUT)


def complaint(said: Said) -> str:
    """What is wrong with a command, "" where nothing is."""
    program, *words = said.words
    return of_make(words, said.whole) if program == "make" else of_program(words, said.whole)


def of_program(words: list[str], whole: bool) -> str:
    """What the command line would say to these words; nothing is run.

    whole: whether nothing may be missing. In a sentence a command may stand for itself, without what it is given.
    """
    command, context = PROGRAM, None
    try:
        while True:
            context = command.make_context(command.name, list(words), parent=context)
            if not hasattr(command, "commands"):
                told = {own.name: context.params[own.name] for own, _ in offered() if own.name in context.params}
                Options(**told if command.name == "study" else {})
                return ""
            _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    except typer.Exit:
        return ""
    except Exception as error:
        lacking = type(error).__name__ in ("MissingParameter", "NoArgsIsHelpError")
        return "" if lacking and not whole else f"{type(error).__name__}: {error}"


def of_make(words: list[str], whole: bool) -> str:
    """What is wrong with targets and options: there is none such, no recipe looks at it, or one is missing."""
    given = [word.partition("=")[0] for word in words if "=" in word]
    targets = [word for word in words if "=" not in word]
    recipes = [recipe_of(target) for target in targets]
    unknown = [target for target, recipe in zip(targets, recipes, strict=True) if not recipe]
    unread = [name for name in given if not any(reads(recipe, name) for recipe in recipes)]
    needed = {name for recipe in recipes for name in re.findall(r"call need,(\w+)", recipe)} if whole else set()
    wrong = [*(f"no target {own}" for own in unknown), *(f"{own} is not read" for own in unread)]
    wrong += [f"{own} is missing" for own in needed - set(given)]
    return " and ".join(wrong) or (of_program(as_study(words), whole) if "study" in targets else "")


def as_study(words: list[str]) -> list[str]:
    """What `make study` gives the program, which is all that it is given."""
    given = {name: value for name, equals, value in (word.partition("=") for word in words) if equals}
    name = [given.pop("NAME")] if "NAME" in given else []
    flags = [f"--{own.lower().replace('_', '-')}={value}" for own, value in given.items() if own != "PYTHON"]
    return ["study", *name, *flags]


def recipe_of(target: str) -> str:
    """The rule of a target with the names of all options that it passes on, "" where there is none."""
    found = re.search(rf"^{re.escape(target)}:.*\n(?:\t.*\n)*", MAKEFILE, re.M)
    text = re.sub(r"##.*", "", found[0]) if found else ""
    return text.replace("$(WHICH)", WHICH).replace("$(OPTIONS)", " ".join(OPTIONS))


def reads(recipe: str, name: str) -> bool:
    """Whether a recipe looks at an option; the Python that makes the environment is every target's."""
    return name in OPTIONS and (name == "PYTHON" or re.search(rf"\b{name}\b", recipe) is not None)


@pytest.mark.parametrize("page", PAGES, ids=lambda own: str(own.relative_to(ROOT)))
def test_every_command_is_one_that_there_is(page: Path) -> None:
    wrong = {" ".join(own.words): complaint(own) for own in said(page.read_text())}
    assert {command: reason for command, reason in wrong.items() if reason} == {}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("mmtune study audio_rnn --trials 3 # a comment", ""),
        ("mmtune study --trials 3", "Missing"),
        ("mmtune study audio_rnn --trails 3", "NoSuchOption"),
        ("mmtune study audio_rnn --trials many", "BadParameter"),
        ("mmtune study audio_rnn --sampler magic", "--sampler must be one of"),
        ("mmtune stduy audio_rnn", "UsageError"),
        ("mmtune data info data/mine && rm -r data", ""),
        ("mmtune data inform data/mine", "UsageError"),
        ("make study NAME=audio_rnn TRIALS=3", ""),
        ("make stduy NAME=audio_rnn", "no target stduy"),
        ("make study NAME=audio_rnn TRAILS=3", "TRAILS is not read"),
        ("make study NAME=audio_rnn TRIALS=many", "BadParameter"),
        ("make study NAME=audio_rnn KEEP=some", "--keep must be all or best:N"),
        ("make ui TRIALS=3", "TRIALS is not read"),
        ("make predict IMAGE=a.png", "MODEL is missing"),
        ("make report NAME=audio_rnn PROTOCOL=random", ""),
    ],
)
def test_what_is_wrong_is_found(command: str, reason: str) -> None:
    (own,) = said(f"text\n```\n{command}\n```\n")
    assert reason in complaint(own)
    assert bool(reason) == bool(complaint(own))


def test_code_in_a_sentence_may_lack_what_it_is_given() -> None:
    first, second = said("`mmtune report` and `mmtune report --format pdf`, `mmtune`")
    assert not complaint(first)
    assert not complaint(second)


def test_the_page_of_the_command_line_is_the_programs_own() -> None:
    assert PAGE.read_text() == page(), "docs/cli.md is stale: `python tests/command_page.py` writes it again"
