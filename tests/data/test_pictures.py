"""Any picture of a digit to MNIST's form."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from mmtune.base.errors import InputError
from mmtune.data.media.pictures import normalise, read_digit, read_picture

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
Draw = Callable[[Image.Image, Path], object]


def drawn(digit: NDArray[np.uint8], scale: int = 10, size: tuple[int, int] = (500, 400)) -> Image.Image:
    """Light ink, enlarged, off the middle of a black ground."""
    canvas = Image.new("L", size, 0)
    canvas.paste(Image.fromarray(digit).resize((28 * scale, 28 * scale), Image.Resampling.BICUBIC), (150, 30))
    return canvas


def with_alpha(picture: Image.Image, level: int) -> Image.Image:
    made = Image.new("RGBA", picture.size, (level, level, level, 0))
    made.putalpha(picture)
    return made


def photographed(picture: Image.Image) -> Image.Image:
    """Grey ink on paper under uneven light, with noise."""
    paper = 235 - 0.75 * np.asarray(picture, np.float64) - np.linspace(0, 25, picture.width)
    paper += np.random.default_rng(0).normal(0, 3, paper.shape)
    return Image.fromarray(np.clip(paper, 0, 255).astype(np.uint8)).convert("RGB")


def lit(picture: Image.Image, light: NDArray[np.float64], rules: NDArray[np.float64] | float = 0.0) -> Image.Image:
    """Dark ink on paper with rules so much darker than it, under a light (H, W) in [0, 1]."""
    ink = np.asarray(picture, np.float64) / 255
    paper = (225 - rules) * (1 - ink) + 30 * ink
    return Image.fromarray(np.clip(paper * light, 0, 255).astype(np.uint8))


def shadowed(picture: Image.Image) -> Image.Image:
    """Half of it in hard shadow, whose edge goes through the digit."""
    across = np.broadcast_to(np.arange(picture.width), picture.size[::-1])
    return lit(picture, np.where(across < 290, 1.0, 0.45))


def ruled(picture: Image.Image, down: bool = False) -> Image.Image:
    """Lines that lean a little, across and, if asked for, down."""
    y, x = np.mgrid[: picture.height, : picture.width]
    rules = 70.0 * ((y + x // 80) % 30 < 2)
    return lit(picture, np.ones(rules.shape), np.maximum(rules, 70.0 * (x % 30 < 2)) if down else rules)


def heic(picture: Image.Image, path: Path) -> None:
    pillow_heif.from_pillow(ImageOps.invert(picture).convert("RGB")).save(path)


def mpo(picture: Image.Image, path: Path) -> None:
    """A camera's file of two pictures, of which the first counts."""
    first, second = ImageOps.invert(picture).convert("RGB"), Image.new("RGB", picture.size, "white")
    first.save(path, format="MPO", save_all=True, append_images=[second])


FORMS: dict[str, Draw] = {
    "grey": lambda p, f: p.save(f.with_suffix(".png")),
    "dark on light": lambda p, f: ImageOps.invert(p).save(f.with_suffix(".png")),
    "jpeg": lambda p, f: ImageOps.invert(p).convert("RGB").save(f.with_suffix(".jpg"), quality=90),
    "cmyk": lambda p, f: ImageOps.invert(p).convert("CMYK").save(f.with_suffix(".jpg"), quality=95),
    "photo": lambda p, f: photographed(p).save(f.with_suffix(".jpg"), quality=80),
    "half in shadow": lambda p, f: shadowed(p).save(f.with_suffix(".jpg"), quality=90),
    "ruled": lambda p, f: ruled(p).save(f.with_suffix(".jpg"), quality=90),
    "squared": lambda p, f: ruled(p, down=True).save(f.with_suffix(".jpg"), quality=90),
    "chalk": lambda p, f: ImageOps.invert(shadowed(p)).save(f.with_suffix(".jpg"), quality=90),
    "webp": lambda p, f: ImageOps.invert(p).save(f.with_suffix(".webp"), quality=90),
    "heic": lambda p, f: heic(p, f.with_suffix(".heic")),
    "mpo": lambda p, f: mpo(p, f.with_suffix(".jpg")),
    "blue on yellow": lambda p, f: ImageOps.colorize(p, "yellow", "navy").save(f.with_suffix(".png")),
    "palette": lambda p, f: ImageOps.invert(p).convert("RGB").quantize(32).save(f.with_suffix(".png")),
    "16 bit": lambda p, f: Image.fromarray(np.asarray(p).astype(np.uint16) * 257).save(f.with_suffix(".png")),
    "black on nothing": lambda p, f: with_alpha(p, 0).save(f.with_suffix(".png")),
    "white on nothing": lambda p, f: with_alpha(p, 255).save(f.with_suffix(".png")),
    "grey and alpha": lambda p, f: with_alpha(p, 0).convert("LA").save(f.with_suffix(".png")),
    "tiny": lambda p, f: p.resize((50, 40), Image.Resampling.BOX).save(f.with_suffix(".png")),
    "huge": lambda p, f: p.resize((4096, 3276), Image.Resampling.BICUBIC).save(f.with_suffix(".png")),
}


SOFT = ("tiny", "half in shadow", "ruled", "squared", "chalk")
"""In which a digit may be more like another one of its kind than like itself, but not less than so."""


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_digit_comes_out_as_the_digit(tmp_path: Path, digits: Digits, form: str) -> None:
    for digit in digits[0][::20]:
        FORMS[form](drawn(digit), tmp_path / "x")
        (path,) = tmp_path.iterdir()
        read = read_digit(path)
        assert (read.shape, read.dtype.name) == ((28, 28), "uint8")
        alike = [np.corrcoef(read.ravel(), other.ravel())[0, 1] for other in digits[0]]
        itself = float(np.corrcoef(read.ravel(), digit.ravel())[0, 1])  # up to resampling
        assert itself > (0.8 if form in SOFT else 0.9)
        assert itself == pytest.approx(max(alike)) or form in SOFT
        path.unlink()


def test_a_picture_of_mnist_passes_unchanged(tmp_path: Path, digits: Digits) -> None:
    for digit in digits[0][::10]:
        Image.fromarray(digit).save(tmp_path / "x.png")
        assert np.array_equal(read_digit(tmp_path / "x.png"), digit)
        Image.fromarray(digit).convert("RGB").save(tmp_path / "x.png")
        assert np.array_equal(read_digit(tmp_path / "x.png"), digit)
        Image.fromarray(255 - digit).save(tmp_path / "x.png")
        assert np.array_equal(read_digit(tmp_path / "x.png"), digit)


def test_the_form_is_mnists() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((9, 4), (4, 9), (300, 200), (1, 30), (60, 1), (1, 1)):
        made = normalise(np.pad(rng.uniform(0.3, 1, (height, width)), 3))
        rows, columns = np.flatnonzero(made.any(axis=1)), np.flatnonzero(made.any(axis=0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        centre = [(made.sum(axis=1 - a) * np.arange(28)).sum() / made.sum() for a in (0, 1)]
        assert np.abs(np.array(centre) - 14).max() <= 0.51


def test_a_photograph_is_turned_upright(tmp_path: Path, digits: Digits) -> None:
    upright = drawn(digits[0][30])
    turned = Image.Exif()
    turned[0x0112] = 6  # to be seen, the stored picture must be turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "x.jpg", exif=turned, quality=95)
    upright.save(tmp_path / "y.jpg", quality=95)
    assert np.abs(read_digit(tmp_path / "x.jpg").astype(int) - read_digit(tmp_path / "y.jpg")).mean() < 3


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that says it has this size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def cut(path: Path) -> None:
    drawn(np.full((28, 28), 200, np.uint8)).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:-60])


def animated(path: Path) -> None:
    frames = [drawn(np.full((28, 28), level, np.uint8)) for level in (200, 100)]
    frames[0].save(path, format="PNG", save_all=True, append_images=frames[1:])


def two(path: Path) -> None:
    """A seven, and a one beside it."""
    picture = Image.new("L", (600, 400), 255)
    pen = ImageDraw.Draw(picture)
    pen.line([(80, 100), (240, 100), (160, 320)], fill=0, width=20)
    pen.line([(450, 90), (450, 320)], fill=0, width=20)
    picture.save(path)


def large(path: Path, width: int, height: int, progressive: bool = False) -> None:
    Image.new("L", (width, height), 255).save(path, format="JPEG", quality=10, progressive=progressive)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "white": (lambda p: Image.new("L", (50, 50), 255).save(p), "ink must stand out"),
    "black": (lambda p: Image.new("RGB", (28, 28), 0).save(p), "ink must stand out"),
    "clear": (lambda p: Image.new("RGBA", (60, 60), (9, 9, 9, 0)).save(p), "ink must stand out"),
    "faint": (lambda p: Image.fromarray(np.eye(40, dtype=np.uint8) * 20).save(p), "the picture spans 20"),
    "one pixel": (lambda p: Image.new("L", (1, 1), 9).save(p), "ink must stand out"),
    "empty": (lambda p: p.write_bytes(b""), "must be a whole PNG, JPEG or WebP"),
    "text": (lambda p: p.write_text("a digit"), "must be a whole PNG, JPEG or WebP"),
    "gif": (
        lambda p: drawn(np.full((28, 28), 99, np.uint8)).save(p, format="GIF"),
        "must be a whole PNG, JPEG or WebP",
    ),
    "cut": (cut, "must be a whole PNG, JPEG or WebP"),
    "animated": (animated, "has 2 frames"),
    "two digits": (lambda p: two(p), "must show one digit, shows 2 marks of about one size"),
    "a JPEG of 202 megapixels": (lambda p: large(p, 14_200, 14_200), "must have at most 200,000,000 pixels"),
    "a progressive JPEG": (lambda p: large(p, 4_200, 4_200, progressive=True), "must have at most 16,777,216 pixels"),
    "wide": (lambda p: p.write_bytes(png_of(4097, 10, bytes(40980))), "at most 4096 pixels a side, is 4097 x 10"),
    "bomb": (lambda p: p.write_bytes(png_of(60000, 60000)), "must be"),
    "folder": (lambda p: p.mkdir(), "is no file"),
    "missing": (lambda p: None, "is missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    make, said = BAD[name]
    make(tmp_path / "x.png")
    with pytest.raises(InputError) as caught:
        read_digit(tmp_path / "x.png")
    line = str(caught.value)
    assert line.startswith(str(tmp_path / "x.png"))
    assert said in line
    assert "\n" not in line


def test_a_photograph_of_a_hundred_megapixels_is_read_at_a_reduced_scale(tmp_path: Path, digits: Digits) -> None:
    small = ImageOps.invert(drawn(digits[0][60]))
    small.save(tmp_path / "small.png")
    small.resize((12_000, 9_600)).save(tmp_path / "x.jpg", quality=60)
    seen, expected = (read_digit(tmp_path / name) for name in ("x.jpg", "small.png"))
    assert np.corrcoef(seen.ravel(), expected.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("size", [(8_256, 5_504), (5_504, 8_256), (9_504, 6_336), (4_100, 40)])
def test_a_photograph_of_a_cameras_own_sides_is_read(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.linear_gradient("L").resize(size).save(tmp_path / "x.jpg", quality=30)
    assert np.diff(read_picture(tmp_path / "x.jpg", 8, 8, False)[:, 0].astype(int)).min() > 20


def test_a_picture_of_sixteen_bits_is_what_its_upper_eight_are(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65_535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    Image.fromarray((ramp // 257).astype(np.uint8)).save(tmp_path / "plain.png")
    for colour in (False, True):
        deep, plain = (read_picture(tmp_path / f"{name}.png", 32, 32, colour) for name in ("deep", "plain"))
        assert np.abs(deep.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("high", [255, 1_023, 4_095])
def test_a_picture_that_uses_few_of_its_sixteen_bits_is_refused(tmp_path: Path, high: int) -> None:
    for name, ramp in (("x", np.arange(high + 1)), ("fit", np.arange(high + 1) * (65_535 // high))):
        Image.fromarray(np.resize(ramp, (64, 64)).astype(np.uint16)).save(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match=rf"x\.png: 16 bits of grey must .* its levels are 0 to {high:,}: scale"):
        read_picture(tmp_path / "x.png", 64, 64, False)
    assert len(np.unique(read_picture(tmp_path / "fit.png", 64, 64, False))) == 256
    Image.fromarray(np.full((64, 64), high, np.uint16)).save(tmp_path / "even.png")
    assert np.ptp(read_picture(tmp_path / "even.png", 64, 64, False)) == 0


@pytest.mark.parametrize("noise", [3.0, 40.0])
def test_paper_without_a_mark_is_refused(tmp_path: Path, noise: float) -> None:
    paper = np.random.default_rng(0).normal(180, noise, (300, 400))
    Image.fromarray(np.clip(paper, 0, 255).astype(np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x\.png: (ink must stand out|must show one digit)"):
        read_digit(tmp_path / "x.png")
