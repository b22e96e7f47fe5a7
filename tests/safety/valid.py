"""One valid file for each reader, and the readers: each takes a folder in which a file of its name was changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from hostile import idx_bytes
from mmtune.data.audio_sources import testing_list
from mmtune.data.image_sources import IMAGES_MAGIC, read_idx
from PIL import Image
from world import write_khacef

from mmtune.data.checks import content_digest
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.digits import DIGITS
from mmtune.data.forms import Digit, Mfcc, form_to_json
from mmtune.data.identity import distinct
from mmtune.data.pictures import read_digit
from mmtune.data.recordings import at_rate, read_wav
from mmtune.data.sequences import load_sequences
from mmtune.data.store import MANIFEST, load, require_contract, save
from mmtune.networks.card import CARD, WEIGHTS
from mmtune.networks.config import AudioRNNConfig
from mmtune.networks.shapes import Shapes
from mmtune.serve.predictor import INPUTS, MODEL, Predictor, predict_files, save_predictor, seal
from mmtune.train.adam import Adam
from mmtune.train.answers import read_answers
from mmtune.train.checkpoint import OPTIMIZER, checkpoint_of, load_checkpoint, save_checkpoint
from mmtune.train.staging import (
    EPOCHS,
    RESULT,
    RUN,
    Point,
    Result,
    StagedRun,
    append_epoch,
    read_epochs,
    read_result,
    read_runs,
    write_result,
)

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
    parts = {"train": own.train} | ({} if own.test is None else {"test": own.test})
    require_contract(own, parts, folder)
    content_digest(own.classes, *parts.values())


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
        else:
            picture.convert("RGBA").save(folder / name)

    return make


def make_recording(name: str, subtype: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        wave = 0.4 * np.sin(np.arange(700) / 5)
        soundfile.write(folder / name, np.stack([wave, wave], axis=1), 8000, subtype=subtype)

    return make


def make_idx(folder: Path) -> None:
    import gzip

    pixels = np.random.default_rng(4).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    (folder / "x.gz").write_bytes(gzip.compress(idx_bytes(pixels), 1))
    (folder / "x").write_bytes(idx_bytes(pixels))


def make_model(folder: Path) -> None:
    torch.manual_seed(0)
    config, shapes = AudioRNNConfig(hidden=2), Shapes(banks={"image": (1, 28, 28), "audio": (39, 13)}, classes=10)
    model = config.build(shapes)
    save_checkpoint(folder / MODEL, checkpoint_of(model, Adam(model.parameters(), 1e-3)), config, shapes)
    forms = {name: form_to_json(form) for name, form in FORMS.items()}
    card = {"forms": forms, "classes": list(DIGITS), "data": {"name": "made"}}
    save_predictor(folder / "predictor", folder / MODEL, card)


def mend_weights(folder: Path) -> None:
    """The card's SHA-256 made that of the weights."""
    own = folder / "predictor" / MODEL
    card = json.loads((own / CARD).read_bytes())
    card["sha256"] = hashlib.sha256((own / WEIGHTS).read_bytes()).hexdigest()
    (own / CARD).write_text(json.dumps(card))


def mend_inputs(folder: Path) -> None:
    """The seal made that of what the card says, where it is JSON at all."""
    path = folder / "predictor" / INPUTS
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    if isinstance(content, dict):
        content.pop("sha256", None)
        path.write_text(json.dumps({**content, "sha256": seal(content)}))


def predict_once(folder: Path) -> None:
    """A model that loads says something of a clip and of a recording, or refuses."""
    predictor = Predictor.load(folder / "predictor")
    clip = np.random.default_rng(5).random((2, 39, 13), dtype=np.float32)
    soundfile.write(folder / "x.wav", 0.4 * np.sin(np.arange(700) / 5), 8000)
    require_sound(predictor.predict(audio=clip))
    require_sound(predict_files(predictor, {"audio": str(folder / "x.wav")}))


def require_sound(prediction: Any) -> None:
    """Classes, and probabilities that are some."""
    shares = prediction.probabilities
    assert shares.shape == (len(prediction.label), len(prediction.classes))
    assert np.isfinite(shares).all()
    assert shares.min() >= 0
    assert shares.max() <= 1 + 1e-6
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-4)
    assert set(prediction.names) <= set(prediction.classes)


def make_answers(folder: Path) -> None:
    rows = {name: np.arange(6) for name in ("row", "label", "prediction", "unit")}
    embedding = np.random.default_rng(6).random((6, 4), dtype=np.float32)
    np.savez(folder / "rows.npz", **rows, embedding=embedding, parts=np.array(["a", "b"]), widths=np.array([2, 2]))


def make_staged(folder: Path) -> None:
    """A run in staging that has ended, and that the store has not heard of."""
    now, own = 1_700_000_000_000, folder / "run"
    StagedRun(id="ab" * 16, number=3, name="03", started=now, folder=own, params={"model.kernel": 5}).write()
    for n in (1, 2, 3):
        append_epoch(own, Point(epoch=n, time=now + n, metrics={"loss": 0.5 / n}))
    write_result(own, Result(state="COMPLETE", time=now + 4, metrics={"best_val_macro_f1": 0.5}))


def read_staged(folder: Path) -> None:
    """As a study does that is resumed."""
    for run in read_runs(folder):
        read_epochs(run.folder)
        assert run.result is None or isinstance(run.result, Result)


def make_list(folder: Path) -> None:
    (folder / "testing_list.txt").write_text("seven/0a_nohash_0.wav\nno/1b_nohash_1.wav\n")


def heard(path: Path) -> None:
    second = at_rate(*read_wav(path), 16_000)
    assert second.shape == (16_000,)
    assert np.isfinite(second).all()
    assert np.abs(second).max() <= 1


def reading(read: Callable[[Path], Any], name: str) -> Read:
    """Read the file `name` of a folder."""
    return lambda folder: read(folder / name)


def some_answers(path: Path) -> Any:
    return read_answers(path, ("row", "label", "prediction", "embedding", "parts"))


def idx_images(path: Path) -> Any:
    return read_idx(path, IMAGES_MAGIC, (28, 28))


def file_of(make: Callable[[Path], None], name: str, read: Callable[[Path], Any]) -> Reader:
    """A reader of one file."""
    return Reader(make=make, file=name, read=reading(read, name))


READERS: Mapping[str, Reader] = {
    "images": Reader(make=make_khacef, file="data_wr_train.npy", read=load),
    "audio": Reader(make=make_khacef, file="data_sp_test.npy", read=load),
    "labels": Reader(make=make_khacef, file="labels_train.npy", read=load),
    "labels-own": Reader(make=make_set, file="train/labels.npy", read=unsealed),
    "values": Reader(make=make_set, file="test/audio.values.npy", read=unsealed),
    "index": Reader(make=make_set, file="train/audio.index.npy", read=unsealed),
    "group": Reader(make=make_set, file="train/speaker.group.npy", read=unsealed),
    "forged": Reader(make=make_set, file=MANIFEST, read=unsealed),
    "manifest": Reader(make=make_set, file=MANIFEST, read=load),
    "sequences": file_of(make_sequences, "s.npz", load_sequences),
    "idx": file_of(make_idx, "x", idx_images),
    "idx.gz": file_of(make_idx, "x.gz", idx_images),
    "png": file_of(make_picture("x.png"), "x.png", read_digit),
    "jpeg": file_of(make_picture("x.jpg"), "x.jpg", read_digit),
    "wav": file_of(make_recording("x.wav", "PCM_16"), "x.wav", heard),
    "float-wav": file_of(make_recording("x.wav", "FLOAT"), "x.wav", heard),
    "flac": file_of(make_recording("x.flac", "PCM_16"), "x.flac", heard),
    "list": file_of(make_list, "testing_list.txt", testing_list),
    "card": Reader(make=make_model, file=f"predictor/{MODEL}/{CARD}", read=predict_once),
    "weights": Reader(make=make_model, file=f"predictor/{MODEL}/{WEIGHTS}", read=predict_once, mend=mend_weights),
    "inputs": Reader(make=make_model, file=f"predictor/{INPUTS}", read=predict_once, mend=mend_inputs),
    "checkpoint": Reader(make=make_model, file=f"{MODEL}/{OPTIMIZER}", read=reading(load_checkpoint, MODEL)),
    "answers": file_of(make_answers, "rows.npz", some_answers),
    "staged": Reader(make=make_staged, file=f"run/{RUN}", read=read_staged),
    "epochs": Reader(make=make_staged, file=f"run/{EPOCHS}", read=reading(read_epochs, "run")),
    "result": Reader(make=make_staged, file=f"run/{RESULT}", read=reading(read_result, "run")),
}
