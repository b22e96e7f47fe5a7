"""A page as a real browser has it that can reach no other machine."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mmtune.report.printing import BROWSERS, find_browser

CHROMIUM = find_browser()
DRIVER = """<script>
const waiting = setInterval(() => {
  if (!document.documentElement.dataset.drawn) return;
  clearInterval(waiting);
  const result = (() => { %s })();
  document.documentElement.dataset.result = JSON.stringify(result);
}, 50);
</script></body>"""


def browse(source: Path, profile: Path) -> str:
    """The page's elements after its scripts have run; the test is skipped where there is no browser."""
    if CHROMIUM is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--window-size=1400,3000", "--dump-dom"]
    done = subprocess.run([*command, source.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def driven(page: str, folder: Path, script: str) -> Any:
    """What a script returns that is run on a page once its figures are drawn."""
    file = folder / "page.html"
    # The page's policy would keep the driver out, as it should.
    opened = re.sub(r"<meta http-equiv[^>]*>", "", page)
    head, body, tail = opened.rpartition("</body>")
    file.write_text(head + DRIVER % script + tail if body else opened, encoding="utf-8")
    found = re.search(r'data-result="([^"]*)"', browse(file, folder / "profile"))
    assert found is not None, "the page was not drawn"
    return json.loads(html.unescape(found[1]))
