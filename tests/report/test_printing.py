"""A page as a PDF and as one picture, by a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import CHROMIUM
from PIL import Image

from mmtune.base.errors import InputError
from mmtune.report import printing
from mmtune.report.printing import PDF, PNG, WIDTH, print_page

PAGE = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; } div { height: 1700px; background: rgb(10, 200, 30); }</style>
<div>drawn</div><script>
document.documentElement.dataset.height = document.documentElement.scrollHeight;
document.documentElement.dataset.drawn = 0;
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_page_is_printed_whole(tmp_path: Path) -> None:
    print_page(PAGE, tmp_path / "deep" / "page.png", PNG)
    with Image.open(tmp_path / "deep" / "page.png") as picture:
        assert picture.size == (WIDTH, 1700)
        assert picture.convert("RGB").getpixel((600, 1690)) == (10, 200, 30)
    print_page(PAGE, tmp_path / "page.pdf", PDF)
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 2


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize(
    ("page", "kind", "said"),
    [
        (PAGE.replace("dataset.drawn", "dataset.other"), PDF, "must draw the page"),
        (PAGE.replace("1700", "40000"), PNG, "at most"),
    ],
)
def test_what_is_not_whole_is_not_printed(tmp_path: Path, page: str, kind: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        print_page(page, tmp_path / "page", kind)
    assert list(tmp_path.iterdir()) == []


def test_without_a_browser_it_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "BROWSERS", ("no-such-browser",))
    with pytest.raises(InputError, match="--format pdf needs one of no-such-browser, none is installed"):
        print_page(PAGE, tmp_path / "page.pdf", PDF)
    assert list(tmp_path.iterdir()) == []
