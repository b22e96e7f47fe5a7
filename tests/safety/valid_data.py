"""One valid file for each reader of data, and the readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pillow_heif
import soundfile
from hostile import idx_bytes
from PIL import Image
from world import write_khacef

from mmtune.data.building.asking import table_of
from mmtune.data.building.folders import read_pictures
from mmtune.data.building.layouts import testing_list
from mmtune.data.building.sources import How
from mmtune.data.building.tables import read_table
from mmtune.data.checks import content_digest
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.digits import DIGITS
from mmtune.data.forms import Digit, Mfcc
from mmtune.data.identity import distinct
from mmtune.data.media.idx import read_idx
from mmtune.data.media.pictures import read_digit
from mmtune.data.media.recordings import at_rate, read_wav
from mmtune.data.storage.sequences import load_sequences
from mmtune.data.storage.store import MANIFEST, load, require_contract, save

Read = Callable[[Path], Any]
FORMS = {"image": Digit(), "audio": Mfcc(mean=(0.1,) * 13, std=(0.5,) * 13, low=-1.7, high=2.3)}


@dataclass(frozen=True, kw_only=True)
class Reader:
    """make: a folder with valid files; file: the one that is changed; read: reads the folder.

    mend: puts right what would refuse a changed file before it is read, as whoever forges files does.
    """

    make: Callable[[Path], object]
    file: str
    read: Read
    mend: Read = lambda folder: None


def partition(rows: int, seed: int) -> Partition:
    rng = np.random.default_rng(seed)
    clips, index = rng.random((10, 39, 13), dtype=np.float32), np.arange(rows) % 10
    return Partition(
        banks={
            "image": distinct(rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)),
            "audio": distinct(clips[index]),
        },
        labels=index,
        groups={"recording": index.astype(str), "speaker": np.array([f"s{n % 3}" for n in index])},
    )


def make_set(folder: Path) -> None:
    parts = {"train": partition(20, 1), "test": partition(10, 2)}
    facts = {"name": "made", "digest": "", "provenance": {"source": "made"}}
    save(Dataset(folder=folder, classes=DIGITS, forms=FORMS, **facts, **parts), folder)


def make_khacef(folder: Path) -> None:
    write_khacef(folder, train=partition(20, 1), test=partition(10, 2))


def unsealed(folder: Path) -> None:
    """As whoever forges a set does, its digest is right; the content is what is left to refuse."""
    own = load(folder, verify=False)
    require_contract(own, folder)
    content_digest(own.classes, *own.partitions.values())


def make_sequences(folder: Path) -> None:
    rng = np.random.default_rng(3)
    np.savez_compressed(
        folder / "s.npz",
        frames=rng.integers(0, 256, (6, 4, 8, 8), dtype=np.uint8),
        mfcc=rng.normal(size=(6, 4, 3)).astype(np.float32),
        lengths=np.array([4, 3, 2, 4, 1, 4]),
        labels=np.arange(6) % 2,
        person=np.array(["Ada", "Bo"] * 3),
    )


def make_picture(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        drawn = np.zeros((40, 30), np.uint8)
        drawn[5:35, 12:18] = 220
        picture = Image.fromarray(drawn)
        if name.endswith(".jpg"):
            exif = Image.Exif()
            exif[0x0112] = 6
            picture.save(folder / name, exif=exif, progressive=True)
        elif name.endswith(".heic"):
            pillow_heif.from_pillow(picture.convert("RGB")).save(folder / name)
        else:
            picture.convert("RGBA").save(folder / name)

    return make


def make_recording(name: str, subtype: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        wave = 0.4 * np.sin(np.arange(700) / 5)
        soundfile.write(folder / name, np.stack([wave, wave], axis=1), 8000, subtype=subtype)

    return make


def make_contained(name: str, codec: str, size: int) -> Callable[[Path], None]:
    """A recording of 0.1 s in a container; size: of the frames that its codec takes."""

    def make(folder: Path) -> None:
        wave = (0.4 * np.sin(np.arange(4800) / 5)).astype(np.float32)[None]
        with av.open(folder / name, "w") as file:
            stream = file.add_stream(codec, rate=48_000, layout="mono")
            for start in range(0, wave.shape[1], size):
                frame = av.AudioFrame.from_ndarray(wave[:, start : start + size], format="fltp", layout="mono")
                frame.sample_rate = 48_000
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))

    return make


def make_idx(folder: Path) -> None:
    import gzip

    pixels = np.random.default_rng(4).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    (folder / "x.gz").write_bytes(gzip.compress(idx_bytes(pixels), 1))
    (folder / "x").write_bytes(idx_bytes(pixels))


def make_list(folder: Path) -> None:
    (folder / "testing_list.txt").write_text("seven/0a_nohash_0.wav\nno/1b_nohash_1.wav\n")


def heard(path: Path) -> None:
    second = at_rate(*read_wav(path))
    assert second.shape == (16_000,)
    assert np.isfinite(second).all()
    assert np.abs(second).max() <= 1


def reading(read: Callable[[Path], Any], name: str) -> Read:
    """Read the file `name` of a folder."""
    return lambda folder: read(folder / name)


def idx_images(path: Path) -> Any:
    return read_idx(path, "images")


def file_of(make: Callable[[Path], None], name: str, read: Callable[[Path], Any]) -> Reader:
    """A reader of one file."""
    return Reader(make=make, file=name, read=reading(read, name))


def make_table(folder: Path) -> None:
    """Forty rows of numbers, and of arrays in one file."""
    np.save(folder / "a.npy", np.arange(20.0))
    rows = [f"{'ab'[row % 2]},{row},{row / 7:.3f},a.npy,p{row % 5}" for row in range(40)]
    (folder / "t.csv").write_text("\n".join(["label,age,height,gait,who", *rows]) + "\n")


def built(folder: Path) -> None:
    table = table_of(folder / "t.csv", array=["gait:20"], vector=["age,height"])
    read_table(table.path, table.asked, How(groups=("who",)), lambda what, done, total: None)


def make_mapping(folder: Path) -> None:
    stem = "emnist-letters"
    pixels = np.random.default_rng(4).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    (folder / f"{stem}-train-images-idx3-ubyte").write_bytes(idx_bytes(pixels))
    (folder / f"{stem}-train-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([1, 2], np.uint8)))
    (folder / f"{stem}-mapping.txt").write_text("1 65 97\n2 66 98\n")


def pictured(folder: Path) -> None:
    read_pictures(folder, None, (), How(), lambda what, done, total: None)


DATA_READERS: Mapping[str, Reader] = {
    "images": Reader(make=make_khacef, file="data_wr_train.npy", read=load),
    "audio": Reader(make=make_khacef, file="data_sp_test.npy", read=load),
    "labels": Reader(make=make_khacef, file="labels_train.npy", read=load),
    "labels-own": Reader(make=make_set, file="train/labels.npy", read=unsealed),
    "values": Reader(make=make_set, file="test/audio.values.npy", read=unsealed),
    "index": Reader(make=make_set, file="train/audio.index.npy", read=unsealed),
    "group": Reader(make=make_set, file="train/speaker.group.npy", read=unsealed),
    "forged": Reader(make=make_set, file=MANIFEST, read=unsealed),
    "manifest": Reader(make=make_set, file=MANIFEST, read=load),
    "table": Reader(make=make_table, file="t.csv", read=built),
    "array": Reader(make=make_table, file="a.npy", read=built),
    "mapping": Reader(make=make_mapping, file="emnist-letters-mapping.txt", read=pictured),
    "sequences": file_of(make_sequences, "s.npz", load_sequences),
    "idx": file_of(make_idx, "x", idx_images),
    "idx.gz": file_of(make_idx, "x.gz", idx_images),
    "png": file_of(make_picture("x.png"), "x.png", read_digit),
    "jpeg": file_of(make_picture("x.jpg"), "x.jpg", read_digit),
    "webp": file_of(make_picture("x.webp"), "x.webp", read_digit),
    "heic": file_of(make_picture("x.heic"), "x.heic", read_digit),
    "wav": file_of(make_recording("x.wav", "PCM_16"), "x.wav", heard),
    "float-wav": file_of(make_recording("x.wav", "FLOAT"), "x.wav", heard),
    "flac": file_of(make_recording("x.flac", "PCM_16"), "x.flac", heard),
    "mp3": file_of(make_recording("x.mp3", "MPEG_LAYER_III"), "x.mp3", heard),
    "vorbis": file_of(make_recording("x.ogg", "VORBIS"), "x.ogg", heard),
    "opus": file_of(make_recording("x.ogg", "OPUS"), "x.ogg", heard),
    "m4a": file_of(make_contained("x.m4a", "aac", 1024), "x.m4a", heard),
    "webm": file_of(make_contained("x.webm", "libopus", 960), "x.webm", heard),
    "list": file_of(make_list, "testing_list.txt", testing_list),
}
