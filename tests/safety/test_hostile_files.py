"""Hostile files in every place that mmtune reads: one line, exit code 2, little memory and time, and no code run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hostile
import numpy as np
import pytest
from children import MEBIBYTE, Ran, call, command, names, require_refusal
from world import World, write_khacef

# What the commands import is there before their processes are forked.
import mmtune.tune.machine
import mmtune.tune.run  # noqa: F401
from mmtune.data.sequences import load_sequences
from mmtune.data.store import MANIFEST, load
from mmtune.networks.storage import load_model
from mmtune.train.answers import NUMBERS, read_answers


@dataclass(frozen=True, kw_only=True)
class Case:
    """spoil: makes a file hostile, given it and the marker; place: of the file; said: words of the refusal."""

    place: str
    spoil: Callable[[Path, Path], object]
    said: str


def case(place: str, spoil: Callable[[Path], object], said: str) -> Case:
    return Case(place=place, spoil=lambda path, marker: spoil(path), said=said)


def running(place: str, spoil: Callable[[Path, Path], object], said: str) -> Case:
    return Case(place=place, spoil=spoil, said=said)


def npz_running(name: str) -> Callable[[Path, Path], object]:
    return lambda path, marker: hostile.with_member(path, name, hostile.npy_bytes(hostile.pickled_array(marker)))


def npz_bomb(name: str) -> Callable[[Path], object]:
    """300 MB of zeros in 300 KB, as many as the header says."""
    shape = (37_500_000,)
    return lambda path: hostile.with_member(path, name, hostile.zeros_npy(shape, "<i8", 300_000_000))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def outside(path: Path) -> None:
    """A file, or the folder of a partition, somewhere else."""
    here = next(folder for folder in path.parents if folder.name == "set")
    hostile.link_out(path, here.parent / f"outside-{path.name}")


def manifest(said: str, **fields: object) -> Case:
    return case(MANIFEST, lambda path: hostile.change_json(path, **fields), said)


def form(said: str, bank: str = "image", **fields: object) -> Case:
    """One bank's form is another; a field that is None is left out."""
    own = {name: value for name, value in fields.items() if value is not None}

    def spoil(path: Path) -> None:
        forms = json.loads(path.read_text())["forms"]
        hostile.change_json(path, forms=forms | {bank: own})

    return case(MANIFEST, spoil, said)


def array(place: str, change: Callable[[np.ndarray], np.ndarray], said: str) -> Case:
    return case(place, lambda path: hostile.change_array(path, change), said)


READY = {"kind": "ready", "of": "float32"}
MFCC = {"kind": "mfcc", "seconds": 1.0, "mean": [0.0] * 13, "std": [1.0] * 13, "low": 0.0, "high": 1.0}
LABELS, VALUES, INDEX = "train/labels.npy", "test/image.values.npy", "train/audio.index.npy"
GROUP = "train/speaker.group.npy"
DATA = {
    "pickled values": running(VALUES, hostile.pickled_npy, "pickled"),
    "pickled labels": running(LABELS, hostile.pickled_npy, "pickled"),
    "pickled names": running(GROUP, hostile.pickled_npy, "pickled"),
    "a pickle for values": running(VALUES, hostile.bare_pickle, "must be a .npy file"),
    "torch for values": running(VALUES, hostile.torch_pt, "must be a .npy file"),
    "a pickle for the manifest": running(MANIFEST, hostile.bare_pickle, "must be JSON"),
    "other values": array(VALUES, lambda old: old // 2 + np.arange(len(old), dtype=np.uint8)[:, None, None], "digest"),
    "a header of a GiB": case(VALUES, hostile.long_header_npy, "must be a valid .npy"),
    "a file of 8 TB": case(VALUES, lambda p: hostile.sparse(p, b"\x93NUMPY", 2**43), "must be a valid .npy"),
    "8 TB of values": case(
        VALUES, lambda p: hostile.sparse(p, hostile.header((2**33, 28, 28), "|u1"), 128 + 784 * 2**33), ".npy"
    ),
    "more values than rows": case(
        VALUES, lambda p: hostile.sparse(p, hostile.header((2**20, 28, 28), "|u1"), 128 + 784 * 2**20), "some row's"
    ),
    "a GiB of labels": case(
        LABELS, lambda p: hostile.sparse(p, hostile.header((2**27 - 16,), "<i8"), 2**30), "(134217712,)"
    ),
    "deep JSON": case(MANIFEST, hostile.deep_json, "must be JSON"),
    "JSON of a GiB": case(MANIFEST, lambda p: hostile.sparse(p, b"{", 2**30), "at most"),
    "a pipe": case(VALUES, fifo, "is no file"),
    "a device": case(MANIFEST, endless, "must lie in its own folder"),
    "a link out": case(LABELS, outside, "must lie in its own folder"),
    "a link out for values": case(VALUES, outside, "must lie in its own folder"),
    "a link out for a partition": case("train", outside, "must lie in its own folder"),
    "a link out for the manifest": case(MANIFEST, outside, "must lie in its own folder"),
    "nothing for values": case(VALUES, Path.unlink, "is missing"),
    "a name that leads out": manifest("without /", name="../../evil"),
    "a name of control characters": manifest("printable", name="a\u001b[2J"),
    "another format": manifest("format must be", format=[3]),
    "a digest that is none": manifest("digest must be a str", digest=3),
    "a source that is none": manifest("provenance must be a dict", provenance=[1]),
    "classes that are numbers": manifest("classes must be names", classes=list(range(10))),
    "one class": manifest("classes must be 2 to", classes=["a"]),
    "5,000 classes": manifest("classes must be 2 to", classes=list(map(str, range(5000)))),
    "classes twice": manifest("different names", classes=["a"] * 10),
    "a class of control characters": manifest("printable", classes=["\x1b[2J", *"bcdefghij"]),
    "a class too few": manifest("labels must lie in 0..8", classes=list("abcdefghi")),
    "a class too many": manifest("every class must have rows", classes=list("abcdefghijk")),
    "banks that are a list": manifest("forms must be a dict", forms=["image"]),
    "no bank": manifest("banks must be 1 to", forms={}),
    "a bank that leads out": manifest("must have a name such as", forms={"../../image": {"kind": "digit"}}),
    "a bank that is code": manifest("must have a name such as", forms={"__import__": {"kind": "digit"}}),
    "a thousand banks": manifest("banks must be 1 to", forms={f"b{n}": {"kind": "digit"} for n in range(1000)}),
    "a bank without files": manifest("is missing", forms={"video": {"kind": "digit"}}),
    "a form that is none": manifest("what a bank is must be one of", forms={"image": 3}),
    "an unknown form": form("what a bank is must be one of", kind="os.system"),
    "a form that is a list": form("what a bank is must be one of", kind=["digit"]),
    "a form that is an object": form("what a bank is must be one of", kind={"kind": "digit"}),
    "a form of other fields": form("digit does not take", kind="digit", height=3),
    "a form without fields": form("ready does not take", kind="ready"),
    "sides beyond all": form("sides of 1 or more", **READY, sides=[2**62, 2**62]),
    "sides below nought": form("sides of 1 or more", **READY, sides=[-1, -784]),
    "sides of text": form("sides must be", **READY, sides=["28", "28"]),
    "sides that are a text": form("sides must be", **READY, sides=""),
    "sides that are an object": form("sides must be", **READY, sides={"28": 28}),
    "truths for sides": form("sides must be", **READY, sides=[True, 28]),
    "another type": form("must be (120, 28, 28) of float32", **READY, sides=[28, 28]),
    "another shape": form("must be (120, 784) of uint8", kind="ready", of="uint8", sides=[784]),
    "a type that is code": form("float32, uint8 or int16", kind="ready", of="O", sides=[28, 28]),
    "a scale of NaN": form("finite numbers", "audio", **MFCC | {"low": float("nan")}),
    "a scale of nought": form("positive deviations", "audio", **MFCC | {"std": [0.0] * 13}),
    "a scale of text": form("mean must be", "audio", **MFCC | {"mean": "0" * 13}),
    "an endless recording": form("seconds of a recording", "audio", **MFCC | {"seconds": 1e9}),
    "groups that are an object": manifest("groups must be a list", groups={"speaker": 1}),
    "groups that are numbers": manifest("groups must be names", groups=[1]),
    "a group that leads out": manifest("groups must have names", groups=["../../speaker"]),
    "a group without a file": manifest("is missing", groups=["patient"]),
    "a group of a long name": manifest("cannot be read", groups=["a" * 300]),
    "a thousand groups": manifest("groups must have names", groups=["speaker"] * 1000),
    "a partition that leads out": manifest("partitions must be", partitions=["train", "../test"]),
    "no partition": manifest("partitions must be", partitions=[]),
    "partitions that are an object": manifest("partitions must be a list", partitions={"train": 1}),
    "labels of floats": array(LABELS, lambda old: old.astype(float), "of int64, got"),
    "labels of many axes": array(LABELS, lambda old: old[:, None], "of int64, got"),
    "one label": array(LABELS, lambda old: old[0], "of int64, got () int64"),
    "no label": array(LABELS, lambda old: old[:0], "index must be (0,)"),
    "labels below nought": array(LABELS, lambda old: old - 1, "labels must lie in 0..9"),
    "an index of other rows": array(INDEX, lambda old: old[1:], "index must be (120,)"),
    "an index beyond": array(INDEX, lambda old: old + 1, "index must lie in -1.."),
    "an index far below": array(INDEX, lambda old: old - 2**40, "index must lie in -1.."),
    "a value of no row": array(INDEX, lambda old: np.where(old == 3, 4, old), "value 3 is not"),
    "one number for values": array(VALUES, lambda old: old[0, 0, 0], "must be"),
    "values in another order": array("test/audio.values.npy", lambda old: old.astype(">f4"), "of float32"),
    "values of fields": array(VALUES, lambda old: old.view([("a", "u1")]), "of uint8"),
    "values that are not finite": array("test/audio.values.npy", lambda old: old * np.float32(np.inf), "finite"),
    "names of numbers": array(GROUP, lambda old: np.arange(len(old)), "of text"),
    "names of bytes": array(GROUP, lambda old: old.astype("S"), "of text"),
    "names of control characters": array(GROUP, lambda old: np.char.add(old, "\x1b[2J"), "control character"),
    "names of a megabyte": array(GROUP, lambda old: old.astype("U2000"), "1024 characters at most"),
}
KHACEF = {
    "pickled images": running("data_wr_train.npy", hostile.pickled_npy, "pickled"),
    "pickled labels": running("labels_test.npy", hostile.pickled_npy, "pickled"),
    "a pickle for audio": running("data_sp_train.npy", hostile.bare_pickle, "must be a .npy file"),
    "torch for audio": running("data_sp_test.npy", hostile.torch_pt, "must be a .npy file"),
    "a header of a GiB": case("data_wr_train.npy", hostile.long_header_npy, "must be a valid .npy"),
    "a file of 8 TB": case("data_wr_train.npy", lambda p: hostile.sparse(p, b"\x93NUMPY", 2**43), "at most"),
    "a GiB of labels": case(
        "labels_train.npy",
        lambda p: hostile.sparse(p, hostile.header((2**30 - 128,), "|u1"), 2**30),
        "must have as many rows as labels_train.npy (1073741696)",
    ),
    "a pipe": case("data_sp_train.npy", fifo, "missing data_sp_train.npy"),
    "a link out": case("labels_train.npy", outside, "must lie in its own folder"),
}


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """The file that a payload would touch; no test may end with it there."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "hostile code ran"


@pytest.fixture
def data(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world.data, tmp_path / "set"))


@pytest.fixture
def khacef(data: Path) -> Path:
    """The same pairs in the six files that Khacef published, in place of ours."""
    own = load(data)
    shutil.rmtree(data)
    return write_khacef(data, train=own.train, test=own.require_test())


def study(data: Path, folder: Path) -> Ran:
    return command("study", "audio_rnn", "--data", data, "--store", folder / "mlruns", folder=folder)


@pytest.mark.parametrize("name", DATA)
def test_a_hostile_data_set_is_refused(name: str, data: Path, marker: Path, tmp_path: Path) -> None:
    DATA[name].spoil(data / DATA[name].place, marker)
    before = names(tmp_path)
    require_refusal(study(data, tmp_path), "mmtune: ", DATA[name].said)
    assert names(tmp_path) == before


@pytest.mark.parametrize("name", KHACEF)
def test_hostile_files_of_khacefs_are_refused(name: str, khacef: Path, marker: Path, tmp_path: Path) -> None:
    KHACEF[name].spoil(khacef / KHACEF[name].place, marker)
    before = names(tmp_path)
    require_refusal(study(khacef, tmp_path), "mmtune: ", KHACEF[name].said)
    assert names(tmp_path) == before


def test_info_refuses_what_a_study_refuses(data: Path, marker: Path, tmp_path: Path) -> None:
    hostile.pickled_npy(data / VALUES, marker)
    before = names(tmp_path)
    require_refusal(command("data", "info", data, folder=tmp_path), "mmtune: ", "pickled")
    assert names(tmp_path) == before


def test_a_data_set_may_itself_be_a_link(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(data)
    assert load(tmp_path / "mine").folder == data
    (data / "train").rename(data / "kept")
    (data / "train").symlink_to("kept")
    assert load(data)


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    require_refusal(study(tmp_path / "a", tmp_path), "must be a folder")


# ---- sequences

SEQUENCES = {
    "pickled": running("", npz_running("person"), "pickled"),
    "a pickle": running("", hostile.bare_pickle, "complete .npz"),
    "torch": running("", hostile.torch_pt, "must hold the array"),
    "names with ../": running("", npz_running("../../../frames"), "frames once, holds it 0"),
    "a header of 256 MiB": case(
        "",
        lambda p: hostile.with_member(p, "frames", b"\x93NUMPY\x02\x00\x00\x00\x00\x10" + bytes(2**28)),
        "must be a complete .npz",
    ),
    "300 MB in 300 KB": case(
        "",
        lambda p: hostile.with_member(p, "frames", hostile.zeros_npy((4, 3, 5_000, 5_000), "|u1", 300_000_000)),
        "bytes at most",
    ),
    "a directory of 64 MiB": case("", lambda p: p.write_bytes(directory(p.read_bytes(), 2**26)), "complete .npz"),
}


def directory(archive: bytes, size: int) -> bytes:
    """An archive whose end says that its directory has so many bytes, which are there."""
    at = archive.rfind(b"PK\x05\x06")
    entry = b"PK\x01\x02" + bytes(42)
    end = bytearray(archive[at:])
    end[12:16] = (size // 46 * 46).to_bytes(4, "little")
    end[16:20] = at.to_bytes(4, "little")
    return archive[:at] + entry * (size // 46) + bytes(end)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_hostile_file_of_sequences_is_refused(name: str, marker: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    frames, mfcc = np.zeros((4, 3, 8, 8), np.uint8), np.ones((4, 3, 2), np.float32)
    rows = {"lengths": np.full(4, 3), "labels": np.arange(4) % 2, "person": np.array(["a", "b"] * 2)}
    held = {} if name == "names with ../" else {"frames": frames}
    np.savez(path, mfcc=mfcc, **rows, **held)
    SEQUENCES[name].spoil(path, marker)
    before = names(tmp_path)
    require_refusal(call(lambda: load_sequences(path)), SEQUENCES[name].said)
    require_refusal(study(path, tmp_path), "mmtune: ", SEQUENCES[name].said)
    assert names(tmp_path) == before


# ---- sources

IMAGES = "train-images-idx3-ubyte.gz"
SOURCES = {
    "torch for IDX": running(f"idx/{IMAGES}", hostile.torch_pt, "must be a whole gzip file"),
    "3 TB of pictures claimed": case(f"idx/{IMAGES}", hostile.idx_claim, "can hold"),
    "too many pictures unpacked": case(f"idx/{IMAGES}", lambda p: hostile.idx_bomb(p, 120, 2**28), "has more"),
    "a GiB of pictures": case(f"idx/{IMAGES}", lambda p: hostile.idx_bomb(p, 2**21, 2**20), "can hold"),
    "a pipe for IDX": case(f"idx/{IMAGES}", fifo, "has neither"),
    "a pickle for a recording": running("fsdd/recordings/0_ann_0.wav", hostile.bare_pickle, "WAV or FLAC"),
    "a WAV of 4 GB": case("fsdd/recordings/0_ann_0.wav", lambda p: hostile.wav(p, riff=2**32 - 16), "must be complete"),
    "a thousand channels": case(
        "fsdd/recordings/0_ann_0.wav", lambda p: hostile.wav(p, channels=1000, rate=2_000_000), "sample rate"
    ),
    "a FLAC of 60 s at 655 kHz": case(
        "fsdd/recordings/0_ann_0.wav", lambda p: hostile.loud_flac(p, 39_000_000, 655_350), "must hold at most"
    ),
    "an endless FLAC": case(
        "fsdd/recordings/0_ann_0.wav", lambda p: hostile.loud_flac(p, 2**36 - 1, 8000), "at most 60 s"
    ),
    "a sparse WAV of 8 TB": case("fsdd/recordings/0_ann_0.wav", lambda p: hostile.sparse(p, b"RIFF", 2**43), "at most"),
    "a device for a recording": case("fsdd/recordings/0_ann_0.wav", endless, "is no file"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_hostile_source_is_refused(name: str, world: World, marker: Path, tmp_path: Path) -> None:
    for source in (world.idx, world.fsdd):
        shutil.copytree(source, tmp_path / source.name)
    SOURCES[name].spoil(tmp_path / SOURCES[name].place, marker)
    words = ("--images", tmp_path / "idx", "--audio", tmp_path / "fsdd", "--out", tmp_path / "made")
    ran = command("data", "build", *words, folder=tmp_path)
    require_refusal(ran, "mmtune: ", SOURCES[name].said)
    assert not (tmp_path / "made").exists()


# ---- what is predicted from

PICTURES = {
    "30,000 x 30,000": (lambda p: hostile.png(p, 30_000, 30_000), "must be a whole PNG or JPEG"),
    "8,000 x 8,000": (lambda p: hostile.png(p, 8_000, 8_000), "at most 4096 pixels a side"),
    "a comment of 256 MiB": (hostile.text_png, "must be a whole PNG"),
    "20,000 scans": (hostile.many_scans_jpeg, "at most 100 scans"),
    "a GiB": (lambda p: hostile.sparse(p, b"\x89PNG\r\n\x1a\n", 2**30), "at most"),
    "a pipe": (fifo, "is no file"),
    "a device": (endless, "is no file"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_hostile_picture_is_refused(name: str, world: World, tmp_path: Path) -> None:
    spoil, said = PICTURES[name]
    picture = tmp_path / "x.png"
    picture.touch()
    spoil(picture)
    words = ("--model", "dual_cnn_fusion", "--image", picture, "--audio", world.recording, "--store", world.store)
    require_refusal(command("predict", *words, folder=tmp_path), "mmtune: ", said)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p, m: hostile.wav(p, riff=2**32 - 16), "must be complete"),
        (lambda p, m: hostile.loud_flac(p, 2**36 - 1, 8000), "at most 60 s"),
        (hostile.bare_pickle, "WAV or FLAC"),
        (hostile.torch_pt, "WAV or FLAC"),
        (lambda p, m: endless(p), "is no file"),
    ],
    ids=["4 GB claimed", "endless", "pickle", "torch", "device"],
)
def test_a_hostile_recording_is_refused(
    spoil: Callable[[Path, Path], object], said: str, world: World, marker: Path, tmp_path: Path
) -> None:
    recording = tmp_path / "x.wav"
    recording.touch()
    spoil(recording, marker)
    words = ("--model", "dual_cnn_fusion", "--image", world.picture, "--audio", recording, "--store", world.store)
    require_refusal(command("predict", *words, folder=tmp_path), "mmtune: ", said)


# ---- models

FLOAT = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 0]}


def card(said: str, **fields: object) -> Case:
    return case("model", lambda folder: hostile.change_card(folder, **fields), said)


def shapes(said: str, banks: object, classes: object = 10) -> Case:
    told = {"banks": banks, "classes": classes}
    return case("model", lambda folder: hostile.change_json(folder / "model.json", shapes=told), said)


def inputs(said: str, **fields: object) -> Case:
    return case("inputs.json", lambda path: hostile.change_sealed(path, **fields), said)


UNKNOWN = "kind of a network must be one of mmtune's own or of a study that is at hand"
PICTURE, CLIP = [1, 28, 28], [39, 13]
FUSION = {"kind": "LatentFusionConfig", "encoders": "joint"}
MODELS = {
    "a pickle for the weights": running("model/weights.safetensors", hostile.bare_pickle, "SHA-256"),
    "torch for the weights": running(
        "model", lambda p, m: (hostile.torch_pt(p / "w", m), hostile.weights(p, (p / "w").read_bytes())), "safetensors"
    ),
    "a pickle for the card": running("model/model.json", hostile.bare_pickle, "must be JSON"),
    "a pickle for the inputs": running("inputs.json", hostile.bare_pickle, "must be JSON"),
    "weights of terabytes": case(
        "model", lambda p: hostile.weights(p, hostile.safetensors({"x": FLOAT})), "safetensors"
    ),
    "a header of terabytes": case(
        "model", lambda p: hostile.weights(p, b"\xff" * 7 + b"\0" + bytes(99)), "safetensors"
    ),
    "weights of no type": case(
        "model",
        lambda p: hostile.weights(p, hostile.safetensors({"x": FLOAT | {"dtype": "F4", "shape": [0]}})),
        "safetensors",
    ),
    "a network of 4 GB": card("does not fit", kind="AudioRNNConfig", hidden=8192, layers=8),
    "pictures of terabytes": shapes("does not fit", {"image": [1, 2**20, 2**20], "audio": [2**15, 2**15]}),
    "shapes beyond numbers": shapes("network", {"image": [2**30] * 3, "audio": [2**30] * 2}),
    "shapes of many axes": shapes("(channels, height, width)", {"image": [1] * 5000, "audio": CLIP}),
    "shapes below nought": shapes("shapes of banks", {"image": [1, -28, -28], "audio": CLIP}),
    "shapes of nought": shapes("shapes of banks", {"image": [1, 0, 0], "audio": CLIP}),
    "shapes of text": shapes("shapes of banks", {"image": "128", "audio": CLIP}),
    "shapes of floats": shapes("shapes of banks", {"image": [1, 28.0, 28], "audio": CLIP}),
    "shapes of truths": shapes("shapes of banks", {"image": [True, 28, 28], "audio": CLIP}),
    "shapes that are a list": shapes("shapes of banks", [PICTURE, CLIP]),
    "no shapes": shapes("shapes of banks", {}),
    "a bank that is missing": shapes("audio", {"image": PICTURE}),
    "classes of text": shapes("how many classes", {"image": PICTURE, "audio": CLIP}, "10"),
    "classes below nought": shapes("how many classes", {"image": PICTURE, "audio": CLIP}, -1),
    "two milliards of classes": shapes("does not fit", {"image": PICTURE, "audio": CLIP}, 2**31 - 1),
    "a function for a kind": card(UNKNOWN, kind="os.system"),
    "a path for a kind": card(UNKNOWN, kind="../x.Net"),
    "a study that is not at hand": card(UNKNOWN, kind="my_study.Net"),
    "a study in another folder": running("model", lambda p, m: other_study(p, m), UNKNOWN),
    "a list for a kind": card(UNKNOWN, kind=["DualCNNConfig"]),
    "an object for a kind": card("kind", kind={"kind": "DualCNNConfig"}),
    "no kind": card("must be named by its kind", kernel=5),
    "a constant for a kind": card(UNKNOWN, kind="NORM_CODES"),
    "a module's own name for a kind": card(UNKNOWN, kind="__builtins__"),
    "a function for a part": card(UNKNOWN, **FUSION, image={"kind": "os.system"}),
    "another part": card("can be built", **FUSION, image={"kind": "AudioRNNConfig"}),
    "no part": card("can be built", **FUSION, audio=None),
    "numbers for a part": card("can be built", **FUSION, image={"x": 1}),
    "a whole trial for a part": card("kind", **FUSION, audio={"kind": "TrialConfig"}),
    "fields of another kind": card("does not take", kind="DualCNNConfig", hidden=3),
    "parts in parts": case("model/model.json", lambda p: p.write_text(nested(p.read_text())), "must be"),
    "inputs of other classes": inputs("must speak of the same banks and classes", classes=["a", "b"]),
    "inputs of other banks": inputs("must speak of the same banks and classes", forms={"image": {"kind": "digit"}}),
    "inputs of another shape": inputs(
        "audio must be (39, 13)", forms={"image": {"kind": "digit"}, "audio": READY | {"sides": [13]}}
    ),
    "inputs of an unknown form": inputs("what a bank is", forms={"image": {"kind": ["x"]}, "audio": MFCC}),
    "inputs of no classes": inputs("names of classes", classes=[1, 2]),
    "weights of 8 TB": case("model/weights.safetensors", lambda p: hostile.sparse(p, b"", 2**43), "at most"),
    "deep JSON": case("model/model.json", hostile.deep_json, "must be JSON"),
    "deep inputs": case("inputs.json", hostile.deep_json, "must be JSON"),
    "a link out": case(
        "model/weights.safetensors", lambda p: link_to(p, "/etc/hostname"), "must lie in its own folder"
    ),
    "a folder that leads out": case("model", lambda p: folder_out(p), "must lie in its own folder"),
    "a pipe": case("model/weights.safetensors", fifo, "is no file"),
    "a device": case("inputs.json", endless, "must have data/predictor/inputs.json"),
}


def other_study(folder: Path, marker: Path) -> None:
    """A study's file beside the model, which would run if the card could name it."""
    for place in (folder, folder.parent, marker.parent):
        (place / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    hostile.change_card(folder, kind="evil.Net")


def nested(text: str, depth: int = 900) -> str:
    """A card that has lists in lists for a number, nearly as many as JSON is read with."""
    whole = json.dumps(json.loads(text) | {"model": {"kind": "DualCNNConfig", "kernel": "HERE"}})
    return whole.replace('"HERE"', "[" * depth + "]" * depth)


def link_to(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def folder_out(folder: Path) -> None:
    copied = shutil.copytree(folder, folder.parent.parent / "elsewhere")
    shutil.rmtree(folder)
    folder.symlink_to(copied)


@pytest.fixture
def champion(world: World) -> Iterator[Path]:
    """The champion's folder, put back afterwards."""
    kept = shutil.copytree(world.champion, world.store.parent / "kept")
    yield world.champion
    for path in (world.champion, world.champion.parent / "elsewhere"):
        shutil.rmtree(path, ignore_errors=True)
    shutil.move(kept, world.champion)


def predict(world: World, folder: Path) -> tuple[object, ...]:
    return (
        "predict",
        *("--model", "dual_cnn_fusion", "--image", world.picture),
        *("--audio", world.recording, "--store", world.store),
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_hostile_champion_is_refused(name: str, world: World, champion: Path, marker: Path, tmp_path: Path) -> None:
    MODELS[name].spoil(champion / MODELS[name].place, marker)
    require_refusal(command(*predict(world, tmp_path), folder=tmp_path), "mmtune: ", MODELS[name].said)


@pytest.fixture
def run(world: World) -> Iterator[Path]:
    """The trial's artifacts, put back afterwards."""
    kept = shutil.copytree(world.run, world.store.parent / "kept-run")
    yield world.run
    shutil.rmtree(world.run)
    shutil.move(kept, world.run)


def test_code_in_an_mlmodel_is_not_run_by_mmtune(world: World, run: Path, marker: Path, tmp_path: Path) -> None:
    """MLflow itself would import the module that a model names; mmtune reads the predictor and nothing else."""
    folder = run / "registered"
    (folder / "code").mkdir()
    (folder / "code" / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    hostile.bare_pickle(folder / "python_model.pkl", marker)
    own = "loader_module: evil\n    code: code\n    python_model: python_model.pkl"
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text.replace("loader_module: mmtune.serve.loader", own))
    assert "evil" in (folder / "MLmodel").read_text()
    ran = command(*predict(world, tmp_path), folder=tmp_path)
    assert (ran.code, ran.said) == (0, "")
    assert "probability" in ran.printed
    assert command("promote", "dual_cnn_fusion", "--store", world.store, folder=tmp_path).code == 0


RUNS = {
    "pickled rows": ("report", running("validation.npz", npz_running("label"), "pickled")),
    "torch for rows": ("report", running("validation.npz", hostile.torch_pt, "must hold the array")),
    "a bomb of rows": ("report", case("validation.npz", npz_bomb("row"), "bytes at most")),
    "a million classes": (
        "report",
        case(
            "validation.npz",
            lambda p: hostile.with_member(p, "label", hostile.npy_bytes(np.full(24, 10**6))),
            "must lie in 0..4095",
        ),
    ),
    "pickled test rows": ("promote", running("test.npz", npz_running("prediction"), "pickled")),
    "a bomb of test rows": ("promote", case("test.npz", npz_bomb("label"), "bytes at most")),
    "pickled maps": (
        "report",
        running("maps.npz", lambda p, m: np.savez(p, row=hostile.pickled_array(m, 2), label=np.arange(2)), "pickled"),
    ),
    "maps of 64 million values": (
        "report",
        case(
            "maps.npz",
            lambda p: np.savez_compressed(
                p, row=np.arange(1), label=np.arange(1), x=np.zeros((1, 8000, 8000), np.float16)
            ),
            "at most 256 values a side",
        ),
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_hostile_artifact_is_refused(name: str, world: World, run: Path, marker: Path, tmp_path: Path) -> None:
    verb, own = RUNS[name]
    own.spoil(run / own.place, marker)
    ran = command(verb, "dual_cnn_fusion", "--store", world.store, folder=tmp_path)
    require_refusal(ran, "mmtune: ", own.said)


def test_what_folds_held_out_is_read_like_other_rows(marker: Path, tmp_path: Path) -> None:
    path = tmp_path / "held.npz"
    np.savez(path, **{name: np.arange(5) for name in NUMBERS})
    assert read_answers(path, NUMBERS)["row"].tolist() == [0, 1, 2, 3, 4]
    npz_running("unit")(path, marker)
    require_refusal(call(lambda: read_answers(path, NUMBERS)), "pickled")


def test_what_lies_beside_a_model_is_not_registered(world: World, tmp_path: Path) -> None:
    """A link beside the weights would carry a private file into the registry."""
    from mmtune.serve.predictor import save_predictor

    model = Path(shutil.copytree(world.run / "model", tmp_path / "model"))
    (tmp_path / "private").write_text("secret")
    (model / "notes.txt").symlink_to(tmp_path / "private")
    save_predictor(tmp_path / "made", model, {"forms": {}, "classes": [], "data": {"name": "x"}})
    assert names(tmp_path / "made" / "model") == ["model.json", "weights.safetensors"]
    assert load_model(tmp_path / "made" / "model")


def test_the_bounds_of_these_tests_are_felt() -> None:
    """The children do count memory and time, and a crash is not taken for a refusal."""
    ran = call(lambda: np.ones(400 * MEBIBYTE, np.uint8))
    assert ran.touched > 300 * MEBIBYTE
    assert call(lambda: np.ones(2**32, np.uint8)).code == 1
    assert call(lambda: {}["x"]).said.endswith("KeyError: 'x'\n")
