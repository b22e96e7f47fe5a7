"""Hostile models, runs and inputs of predictions: one line, exit code 2, little memory and time, no code run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile
import numpy as np
import pytest
from cases import MFCC, READY, Case, case, endless, fifo, npz_bomb, npz_running, running
from children import MEBIBYTE, call, command, names, require_refusal
from world import World

from mmtune.networks.storage import load_model
from mmtune.train.answers import NUMBERS, read_answers

# ---- what is predicted from

PICTURES = {
    "30,000 x 30,000": (lambda p: hostile.png(p, 30_000, 30_000), "must be a whole PNG, JPEG or WebP"),
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
        (lambda p, m: hostile.wav(p, riff=2**28), "must be complete"),
        (lambda p, m: hostile.loud_flac(p, 2**36 - 1, 8000), "at most 60 s"),
        (hostile.bare_pickle, "WAV, FLAC, MP3"),
        (hostile.torch_pt, "WAV, FLAC, MP3"),
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
    "inputs that may miss numbers": inputs("may be missing", missing=[3]),
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
    from mmtune.serve.answer.predictor import save_predictor

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
