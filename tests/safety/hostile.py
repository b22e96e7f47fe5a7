"""Hostile files: each function writes one; `Payload` touches a file where anything unpickles it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmtune.base.sealed import seal

MEBIBYTE = 2**20


class Payload:
    """Unpickling this makes a file: the marker that must never appear."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def pickled_array(marker: Path, rows: int = 30) -> np.ndarray:
    array = np.empty(rows, dtype=object)
    array[:] = [Payload(marker)] * rows
    return array


def pickled_npy(path: Path, marker: Path) -> None:
    np.save(path, pickled_array(marker), allow_pickle=True)


def bare_pickle(path: Path, marker: Path) -> None:
    """What `np.load(allow_pickle=True)` and `torch.load` would run at once."""
    path.write_bytes(pickle.dumps(Payload(marker)))


def torch_pt(path: Path, marker: Path) -> None:
    torch.save({"weight": Payload(marker)}, path)


def with_member(path: Path, name: str, content: bytes, method: int = zipfile.ZIP_DEFLATED, **facts: int) -> None:
    """Put another member `name` into an .npz; facts: what the directory is to say of it against the truth."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist() if info.filename != f"{name}.npy"}
    with zipfile.ZipFile(path, "w", method) as archive:
        for member, own in members.items():
            archive.writestr(member, own)
        archive.writestr(f"{name}.npy", content)
        for fact, value in facts.items():
            setattr(archive.getinfo(f"{name}.npy"), fact, value)


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(shape: tuple[int, ...], descr: str) -> bytes:
    """The header of a .npy file that declares this."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def zeros_npy(shape: tuple[int, ...], descr: str, size: int) -> bytes:
    return header(shape, descr) + bytes(size)


def sparse(path: Path, head: bytes, size: int) -> None:
    """A file that takes no disk and has this size."""
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(size)


def deep_json(path: Path) -> None:
    path.write_text('{"a":' + "[" * 200_000 + "]" * 200_000 + "}")


def long_header_npy(path: Path) -> None:
    """A header that says it is a GiB long, and is."""
    sparse(path, b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**30 - 64), 2**30)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, width: int, height: int, *more: bytes) -> None:
    """A grey PNG of zeros, complete, and small for its size."""
    packer = zlib.compressobj(1)
    row = bytes(width + 1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def text_png(path: Path) -> None:
    """A small picture whose comment unpacks to 256 MiB."""
    comment = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(256 * MEBIBYTE), 9))
    png(path, 28, 28, comment)


def many_scans_jpeg(path: Path) -> None:
    """A progressive JPEG that goes over 4096 x 4096 coefficients again for every 56 bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (4096, 4096), 128).save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    last = whole[whole.rfind(b"\xff\xc4", 0, whole.rfind(b"\xff\xda")) : -2]
    path.write_bytes(whole[:-2] + last * 20_000 + b"\xff\xd9")


def wav(path: Path, *, riff: int | None = None, data: int | None = None, rate: int = 8000, channels: int = 1) -> None:
    """A WAV of 1,600 samples whose headers claim other sizes."""
    samples = (8000 * np.sin(np.arange(1600) / 4)).astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(samples) if data is None else data) + samples
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body)


def loud_flac(path: Path, frames: int, rate: int) -> None:
    """A FLAC stream whose first block claims so many frames."""
    packed = (rate << 44) | (0 << 41) | (15 << 36) | frames
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    path.write_bytes(b"fLaC\x80" + len(info).to_bytes(3, "big") + info)


def idx_bytes(array: np.ndarray) -> bytes:
    """A valid IDX file."""
    return struct.pack(f">{1 + array.ndim}I", 2048 + array.ndim, *array.shape) + array.tobytes()


def idx_bomb(path: Path, count: int, size: int) -> None:
    """An IDX file, compressed, that declares `count` pictures and unpacks to `size` bytes."""
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(struct.pack(">4I", 2051, count, 28, 28))]
    parts += [packer.compress(bytes(MEBIBYTE)) for _ in range(size // MEBIBYTE)]
    path.write_bytes(b"".join([*parts, packer.flush()]))


def idx_claim(path: Path) -> None:
    path.write_bytes(gzip.compress(struct.pack(">4I", 2051, 2**32 - 1, 28, 28)))


def change_json(path: Path, **fields: object) -> None:
    """Other values in a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_card(folder: Path, **fields: object) -> None:
    """Another architecture in a model's card; the weights' SHA-256 stays right."""
    change_json(folder / "model.json", model=fields)


def change_sealed(path: Path, **fields: object) -> None:
    """Other values in a sealed file, and the seal of these."""
    content = json.loads(path.read_text()) | fields
    content.pop("sha256")
    path.write_text(json.dumps({**content, "sha256": seal(content)}))


def change_array(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """What `change` makes of a .npy file's array."""
    np.save(path, change(np.load(path)))


def weights(folder: Path, content: bytes) -> None:
    """Other weights, and a card with their SHA-256."""
    change_json(folder / "model.json", sha256=hashlib.sha256(content).hexdigest())
    (folder / "weights.safetensors").write_bytes(content)


def safetensors(tensors: dict[str, Any], data: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    head = json.dumps(tensors).encode()
    return struct.pack("<Q", len(head)) + head + data


def link_out(path: Path, target: Path) -> None:
    """Replace a file by a symbolic link to a copy of it elsewhere."""
    path.rename(target)
    path.symlink_to(target)
