"""A page as a real browser has it that can reach no other machine."""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mmtune.report.printing import BROWSERS, find_browser

CHROMIUM = find_browser()
DARK = "--blink-settings=preferredColorScheme=0"
ACCESS = Path(__file__).with_name("access.js").read_text()
"""What finds text too faint to read, and what a keyboard or a screen reader lacks."""
DRIVER = """<script>
const waiting = setInterval(() => {
  if (!document.documentElement.dataset.drawn) return;
  clearInterval(waiting);
  const result = (() => { %s })();
  document.documentElement.dataset.result = JSON.stringify(result);
}, 50);
</script></body>"""


def browse(source: Path, profile: Path, *options: str) -> str:
    """The page's elements after its scripts have run; the test is skipped where there is no browser."""
    if CHROMIUM is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [
        f"--user-data-dir={profile}",
        "--virtual-time-budget=20000",
        "--window-size=1400,3000",
        "--dump-dom",
        *options,
    ]
    done = subprocess.run([*command, source.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def driven(page: str, folder: Path, script: str, *options: str) -> Any:
    """What a script returns that is run on a page once its figures are drawn."""
    file = folder / "page.html"
    # The page's policy would keep the driver out, as it should.
    opened = re.sub(r"<meta http-equiv[^>]*>", "", page)
    head, body, tail = opened.rpartition("</body>")
    file.write_text(head + DRIVER % script + tail if body else opened, encoding="utf-8")
    found = re.search(r'data-result="([^"]*)"', browse(file, folder / "profile", *options))
    assert found is not None, "the page was not drawn"
    return json.loads(html.unescape(found[1]))


def is_for_everybody(found: Mapping[str, Any]) -> None:
    """Assert that ACCESS has found nothing."""
    assert found["title"]
    assert found["lang"] == "en"
    for name in ("faint", "nameless", "blind", "jumps"):
        assert found[name] == [], name


def both_schemes(page: str, folder: Path) -> None:
    """Assert that a page is for everybody, light and dark."""
    light, dark = (driven(page, folder, ACCESS, *options) for options in ((), (DARK,)))
    assert light["scheme"] != dark["scheme"]
    is_for_everybody(light)
    is_for_everybody(dark)
