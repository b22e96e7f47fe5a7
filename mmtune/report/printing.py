"""A page as a PDF or one picture, or its figures as pictures, by the Chromium that is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmtune.base.errors import InputError
from mmtune.base.files import make_folder, write_named

HTML, PDF, PNG, SVG = FORMATS = ("html", "pdf", "png", "svg")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, MOST_HEIGHT = 1200, 30_000
SECONDS = 180
PICTURES = re.compile(r'<script type="application/json" id="pictures">(.*?)</script>')
UNFIT = re.compile(r"[^\w.-]")
ALONE = ("--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--hide-scrollbars")
"""No window, and no other machine: `--host-resolver-rules` below keeps it from all of them."""


def print_page(page: str, out: Path, kind: str) -> None:
    """Write an HTML page that marks when it is drawn (`data-drawn`) as a PDF or a PNG, whole or not at all.

    InputError where no browser is found, it does not draw the page or print it, or a picture would be too high.
    """
    browser = require_browser(kind)
    with opened(page) as folder:
        made = folder / f"page.{kind}"
        height = re.search(r'data-height="(\d+)"', drawn(browser, folder))
        if height is None:
            raise InputError("the page must say its height once it is drawn, it does not")
        if kind == PDF:
            done = call(browser, folder, "--no-pdf-header-footer", f"--print-to-pdf={made}")
        elif int(height[1]) > MOST_HEIGHT:
            rule = f"a picture must be at most {MOST_HEIGHT:,} pixels high"
            raise InputError(f"{rule}, this one is {height[1]}: --format pdf")
        else:
            done = call(browser, folder, f"--window-size={WIDTH},{height[1]}", f"--screenshot={made}")
        if not made.is_file():
            raise InputError(f"{browser} must print the page, it wrote nothing: {last_words(done)}")
        make_folder(out.parent)
        write_named(out, made.read_bytes())


def print_figures(page: str, folder: Path) -> list[Path]:
    """Write the figures of a page that gives them as SVG (`#pictures`) into a new or old folder, NAME.svg each.

    InputError where no browser is found, or it does not draw the page.
    """
    browser = require_browser(SVG)
    with opened(page) as own:
        told = PICTURES.search(drawn(browser, own, "#pictures"))
    if told is None:
        raise InputError("the page must give its figures as pictures, it does not")
    make_folder(folder)
    written = []
    for name, picture in sorted(json.loads(told[1]).items()):
        written.append(folder / f"{UNFIT.sub('_', name)}.svg")
        write_named(written[-1], picture.encode())
    return written


@contextmanager
def opened(page: str) -> Iterator[Path]:
    """A folder of its own with a page."""
    with tempfile.TemporaryDirectory(prefix="mmtune-print-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "page.html").write_text(page, encoding="utf-8")
        yield folder


def drawn(browser: str, folder: Path, fragment: str = "") -> str:
    """The elements of the folder's page once it is drawn; InputError where it is not."""
    done = call(browser, folder, f"--window-size={WIDTH},1000", "--dump-dom", fragment=fragment)
    if "data-drawn=" not in done.stdout:
        raise InputError(f"{browser} must draw the page, it has not: {last_words(done)}")
    return done.stdout


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """What a browser said last, and how it ended."""
    said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return f"{said} (exit code {done.returncode})"


def require_browser(kind: str) -> str:
    """The path of a browser for pages as `kind`; InputError where there is none."""
    browser = find_browser()
    if browser is None:
        rule = f"--format {kind} needs one of {', '.join(BROWSERS)}, none is installed"
        raise InputError(f"{rule}; --format html needs none")
    return browser


def find_browser() -> str | None:
    """The path of the first of BROWSERS that is installed."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def call(browser: str, folder: Path, *options: str, fragment: str = "") -> subprocess.CompletedProcess[str]:
    """The browser with the folder's page, once that has run its scripts."""
    own = [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    own.append("--virtual-time-budget=60000")
    # For root, as whom people build reports in containers, its sandbox cannot start.
    open_box = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [browser, *ALONE, *open_box, *own, *options, f"{(folder / 'page.html').as_uri()}{fragment}"]
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{browser} must print the page, it does not: {error}") from error
