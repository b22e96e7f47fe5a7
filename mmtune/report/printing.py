"""A page as a PDF or one picture, by the Chromium that is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from mmtune.base.errors import InputError
from mmtune.base.files import make_folder, write_named

HTML, PDF, PNG = FORMATS = ("html", "pdf", "png")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, MOST_HEIGHT = 1200, 30_000
SECONDS = 180
ALONE = ("--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--hide-scrollbars")
"""No window, and no other machine: `--host-resolver-rules` below keeps it from all of them."""


def print_page(page: str, out: Path, kind: str) -> None:
    """Write an HTML page that marks when it is drawn (`data-drawn`) as a PDF or a PNG, whole or not at all.

    InputError where no browser is found, it does not draw the page or print it, or a picture would be too high.
    """
    browser = find_browser()
    if browser is None:
        raise InputError(
            f"--format {kind} needs one of {', '.join(BROWSERS)}, none is installed; --format html needs none"
        )
    with tempfile.TemporaryDirectory(prefix="mmtune-print-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "page.html").write_text(page, encoding="utf-8")
        made = folder / f"page.{kind}"
        seen = call(browser, folder, f"--window-size={WIDTH},1000", "--dump-dom").stdout
        height = re.search(r'data-height="(\d+)"', seen)
        if "data-drawn=" not in seen or height is None:
            raise InputError(f"{browser} must draw the page within {SECONDS} s, it has not")
        if kind == PDF:
            done = call(browser, folder, "--no-pdf-header-footer", f"--print-to-pdf={made}")
        elif int(height[1]) > MOST_HEIGHT:
            rule = f"a picture must be at most {MOST_HEIGHT:,} pixels high"
            raise InputError(f"{rule}, this one is {height[1]}: --format pdf")
        else:
            done = call(browser, folder, f"--window-size={WIDTH},{height[1]}", f"--screenshot={made}")
        if not made.is_file():
            told = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise InputError(f"{browser} must print the page, it wrote nothing: {told}")
        make_folder(out.parent)
        write_named(out, made.read_bytes())


def find_browser() -> str | None:
    """The path of the first of BROWSERS that is installed."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def call(browser: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The browser with the folder's page, once that has run its scripts."""
    own = [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    own.append("--virtual-time-budget=60000")
    # In a container whose user is root, where people build reports too, its sandbox cannot start.
    command = [browser, *ALONE, "--no-sandbox", *own, *options, (folder / "page.html").as_uri()]
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{browser} must print the page, it does not: {error}") from error
