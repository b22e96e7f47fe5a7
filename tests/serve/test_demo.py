"""The page to play with: what it says of a model, where networks look, and itself, as a browser has it."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answering import answering
from browser import ACCESS, CHROMIUM, is_for_everybody
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from mmtune import cli
from mmtune.api.loading import load
from mmtune.data.digits import DIGITS
from mmtune.data.forms import Digit, Vector
from mmtune.networks.output import Output
from mmtune.report.printing import BROWSERS
from mmtune.serve.answer.looking import saliency, shown
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.answer.usual import NOTHING
from mmtune.serve.versions import champion_folder
from mmtune.serve.web.ui import bound

SEVEN = [(0.34, 0.2), (0.66, 0.2), (0.44, 0.8)]
PATCH, STRETCH = (slice(10, 18), slice(4, 12)), slice(4000, 8000)


class Summing(nn.Module):
    """Of a patch of the picture and a stretch of the sound the sums, which speak for a seven; nothing else counts."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self.seven = scale, nn.functional.one_hot(torch.tensor(7), 10).float()

    def forward(self, image: Tensor, waveform: Tensor) -> Output:
        seen = self.scale * image[:, 0, *PATCH].sum((1, 2))[:, None] * self.seven
        heard = self.scale * waveform[:, STRETCH].sum(1, keepdim=True) * self.seven
        # As of networks whose banks' own classifiers teach no encoder.
        return Output(seen + heard, seen, {"image": seen.detach() * 1, "waveform": heard.detach() * 1})


class Nearest(nn.Module):
    """The digit of a font that a picture is most like; to it, every sound is a three."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        for name in DIGITS:
            paper = Image.new("L", (300, 300), 255)
            ImageDraw.Draw(paper).text((90, 20), name, fill=0, font=ImageFont.load_default(220))
            paper.save(folder / f"{name}.png")
        read = [Digit().read(folder / f"{name}.png") for name in DIGITS]
        self.templates = torch.from_numpy(np.stack(read)).float() / 255

    def forward(self, image: Tensor, waveform: Tensor) -> Output:
        seen = -100 * (image - self.templates).square().mean((2, 3))
        heard = waveform.abs().amax(1, keepdim=True) * nn.functional.one_hot(torch.tensor(3), 10)
        return Output(seen + heard, seen, {"image": seen, "waveform": heard})


@pytest.fixture
def rigged(served: Path) -> Callable[[nn.Module], Predictor]:
    """The champion with another network in it, to which nothing is strange."""
    predictor = load("served", store=served)
    return lambda model: replace(predictor, loaded=replace(predictor.loaded, model=model.eval()), usual=NOTHING)


def got(address: str, path: str = "") -> tuple[str, Any]:
    with urllib.request.urlopen(f"{address}/{path}", timeout=60) as response:
        return response.read().decode(), response.headers


def asked(address: str, **request: object) -> Any:
    content, kind = json.dumps(request).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}/predict", content, kind), timeout=60) as response:
        return json.load(response)["predictions"][0]


def test_the_page_names_banks_and_classes_and_loads_nothing_from_elsewhere(address: str) -> None:
    page, headers = got(address)
    told = json.loads(re.findall(r'id="model">(.*?)</script>', page)[0])
    assert told["classes"] == list(DIGITS)
    assert told["alone"] == ["image", "waveform"]
    assert re.findall(r'data-bank="(\w+)"', page) == ["image", "waveform"]
    assert "default-src 'none'; script-src 'self'" in headers["Content-Security-Policy"]
    loads = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loads == ["data:,", "demo.css", "demo.js"]
    for text in (page, *(got(address, name)[0] for name in loads[1:])):
        assert not re.search(r"https?://|//\w+\.|@import|url\(", text)


def test_who_asks_to_look_gets_more_and_everybody_else_the_same(address: str, files: tuple[Path, Path]) -> None:
    row = {
        bank: base64.b64encode(path.read_bytes()).decode() for bank, path in zip(("image", "audio"), files, strict=True)
    }
    plain, found = asked(address, rows=[row], top=10), asked(address, rows=[row], top=10, look=True)
    assert {name: found[name] for name in plain if name != "alone"} == {n: plain[n] for n in plain if n != "alone"}
    assert found.keys() - plain.keys() == {"remarks", "seen", "near"}
    assert [len(own) for own in found["alone"].values()] == [10, 10]
    assert [len(own) for own in plain["alone"].values()] == [1, 1]
    sizes = {bank: [picture_of(uri).size for uri in own.values()] for bank, own in found["seen"].items()}
    assert sizes == {"image": [(28, 28)] * 2, "waveform": [(98, 40)] * 2}


def picture_of(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("scale", [0.01, 100.0], ids=["unsure", "as good as certain"])
@pytest.mark.parametrize("banks", [("image", "waveform"), ("image",), ("waveform",)], ids="+".join)
def test_saliency_is_the_slope_of_the_log_odds_and_nothing_outside_of_what_is_read(
    rigged: Callable[[nn.Module], Predictor], scale: float, banks: tuple[str, ...]
) -> None:
    predictor, rng = rigged(Summing(scale)), np.random.default_rng(1)
    every = {
        "image": rng.integers(1, 256, (1, 28, 28)).astype(np.uint8),
        "waveform": rng.integers(1, 9999, (1, 16_000)).astype(np.int16),
    }
    values = {bank: every[bank] for bank in banks}
    found = predictor.predict_values(**values)
    assert found.names == ["7"]
    of = predictor.calibration.alone[banks[0]] if len(banks) == 1 else predictor.calibration.fused
    slopes = {"image": np.zeros((28, 28)), "waveform": np.zeros(16_000)}
    slopes["image"][PATCH] = slopes["waveform"][STRETCH] = scale / of.temperature
    weights = saliency(predictor, values, found)
    assert tuple(weights) == banks
    for bank, own in weights.items():
        np.testing.assert_allclose(own, slopes[bank], rtol=1e-5)


def test_numbers_are_shown_as_shares_and_what_is_no_picture_not_at_all() -> None:
    form = Vector(columns=("age", "height"))
    assert shown(form, np.zeros(2, np.float32), np.array([3, 1], np.float32)) == {
        "numbers": {"age": 0.75, "height": 0.25}
    }
    nothing = shown(Digit(), np.zeros((28, 28), np.uint8), np.zeros((28, 28), np.float32))
    assert nothing["over"] == ""
    assert shown(Digit(), np.zeros(7, np.float32), np.zeros(7, np.float32)) == {}


def test_a_model_that_is_none_is_a_line(refusal: Callable[..., str], served: Path) -> None:
    said = refusal(cli.main, "demo", "nobody", "--store", str(served))
    assert "nobody@champion is not registered" in said


@pytest.fixture
def page(rigged: Callable[[nn.Module], Predictor], served: Path, tmp_path: Path) -> Iterator[Any]:
    """The page of a network that knows a font, on a phone's screen; whatever its console says fails the test."""
    driver = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    said: list[str] = []
    fakes = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with pytest.MonkeyPatch.context() as patch:
        predictor = rigged(Nearest(tmp_path))
        patch.setattr(Predictor, "load", lambda folder: predictor)
        with answering(champion_folder(served, "served", None)) as address, driver.sync_playwright() as running:
            browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *fakes])
            shown = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
            shown.on("console", lambda message: said.append(message.text))
            shown.on("pageerror", lambda error: said.append(str(error)))
            shown.goto(address)
            yield shown
            wide = shown.evaluate("document.documentElement.scrollWidth")
            access = shown.evaluate(f"() => {{ {ACCESS} }}")
            browser.close()
    assert said == []
    assert wide == 390
    is_for_everybody(access)


@pytest.mark.slow
def test_what_is_drawn_is_answered_and_cleared(page: Any) -> None:
    box = page.locator("canvas").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in SEVEN]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.wait_for_selector(".class:not(.hint)")
    page.mouse.up()
    page.wait_for_selector(".class:text-matches('^7 ')")
    assert page.locator("tr:has(th:text-is('7')) td.best").count() == 2
    assert page.locator("[data-bank=image] .over").is_visible()
    page.uncheck("#looked")
    assert not page.locator("[data-bank=image] .over").is_visible()
    page.click("[data-bank=image] .clear")
    page.wait_for_selector(".class.hint")


@pytest.mark.slow
def test_a_file_of_sound_is_played_and_answered_and_what_is_none_is_refused(
    page: Any, files: tuple[Path, Path]
) -> None:
    chooser = page.locator("input[accept='audio/*']")
    chooser.set_input_files(files[1])
    page.wait_for_selector(".class:text-matches('^3 ')")
    assert page.locator("audio").is_visible()
    assert page.locator("[data-bank=waveform] .got").evaluate("own => own.naturalWidth") == 98
    chooser.set_input_files({"name": "none.wav", "mimeType": "audio/wav", "buffer": b"no sound"})
    page.wait_for_selector(".states li:text('refused')")
    assert "must be an audio file" in page.locator(".class").inner_text()


@pytest.mark.slow
def test_what_the_microphone_hears_is_a_wav(page: Any) -> None:
    with page.expect_request("**/predict") as sent:
        page.click(".record")
        page.wait_for_selector(".record[aria-pressed=true]")
    content = base64.b64decode(sent.value.post_data_json["rows"][0]["waveform"])
    with wave.open(io.BytesIO(content)) as heard:
        assert (heard.getnchannels(), heard.getsampwidth(), heard.getframerate()) == (1, 2, 16_000)
        assert 16_000 < heard.getnframes() < 48_000
    assert page.locator("[data-bank=waveform] .name").inner_text() == "recorded"
    page.wait_for_selector(".class:text-matches('^3 ')")


def test_the_command_gives_an_address_that_nobody_else_has(served: Path) -> None:
    """As the page shows rows of training."""
    with bound(0) as own:
        port = own.getsockname()[1]
    words = [sys.executable, "-m", "mmtune.cli", "demo", "served", "--store", str(served), "--port", str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(own for own in process.stdout if "http" in own)
            address = re.findall(r"http\S+", line)[0]
            plain = address.partition("?")[0]
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            deadline = time.monotonic() + 120
            while True:
                try:
                    page = opener.open(address, timeout=60).read().decode()
                    break
                except urllib.error.URLError:
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
            assert 'id="model"' in page
            assert 'id="model"' in opener.open(plain, timeout=60).read().decode()
            with pytest.raises(urllib.error.HTTPError, match="403"):
                got(plain.rstrip("/"))
        finally:
            process.kill()
