"""Networks as files for elsewhere: the same answers, for any number of rows, and nothing is written that has others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answering import champion_of
from calibrated import never_wrong
from torch import Tensor, nn

from mmtune import cli
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.forms import Digit, Form, Mfcc, Ready, Speech
from mmtune.networks import config as shipped
from mmtune.networks.config import (
    MLP,
    AudioRNNConfig,
    Concatenation,
    Conv1dEncoder,
    CrossAttention,
    DualCNNConfig,
    EarlyFusion,
    Ensemble,
    Gated,
    Head,
    ImageCNNConfig,
    LateFusion,
    LatentFusionConfig,
    LogMelResNet,
    LowRank,
    MultiheadFusionConfig,
    OneOf,
    Recurrent,
    SmallCNN,
    SmallResNet,
    SmallTransformer,
    SpectrogramCNN,
    SpectrogramFusionConfig,
    Sum,
    XFlowLSTMConfig,
    XFlowMLPConfig,
)
from mmtune.networks.kinds import parts_of
from mmtune.networks.shapes import Shapes, as_read
from mmtune.networks.storage import Loaded
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.export import exporting, formats
from mmtune.serve.export.exporting import COUNT, FURTHEST, rows_for
from mmtune.serve.export.graph import LOGITS, PROBABILITIES, Graph
from mmtune.study import Study
from mmtune.train.device import prepare_torch
from mmtune.train.recipe import Train, TrialConfig

CLASSES = ("heron", "coot", "gull")
FORMS: dict[str, Form] = {
    "image": Digit(),
    "audio": Ready(sides=(8, 6)),
    "waveform": Ready(sides=(1600,), of="int16"),
    "speech": Ready(sides=(1600,), of="int16"),
}
SEQUENCES: dict[str, Form] = {"image": Ready(sides=(4, 32, 40)), "audio": Ready(sides=(4, 20))}
COLOUR: dict[str, Form] = {"image": Ready(sides=(3, 12, 14), of="uint8")}


def one(encoder: Any, bank: str) -> LateFusion:
    return LateFusion(encoders={bank: encoder})


def both(fusion: Any) -> LateFusion:
    encoders = {"image": MLP(width=8, hidden=8), "audio": MLP(width=6, hidden=8)}
    return LateFusion(encoders=encoders, fusion=fusion, head=Head(hidden=8))


HEARD = SpectrogramCNN(channels=2, n_fft=300, hop=100, mels=20, features="cepstra", deltas=2, input_norm="batch")
EITHER = OneOf(chosen="cnn", options={"cnn": SmallCNN(width=8, channels=4, activation="tanh"), "mlp": MLP(width=5)})
CROSSED = LateFusion(
    encoders={
        "image": SmallResNet(channels=4, stages=2),
        "speech": LogMelResNet(channels=3, stages=2, parts=1, mels=8),
    },
    crossed=True,
    alone=False,
)
MEMBERS = {"one": both(Sum()), "two": ImageCNNConfig()}
QUICK: list[tuple[Any, dict[str, Form]]] = [
    (one(EITHER, "image"), FORMS),
    (one(Recurrent(hidden=4, bidirectional=True), "audio"), FORMS),
    (one(LogMelResNet(channels=4, stages=1, parts=2), "speech"), FORMS),
    (EarlyFusion(reads=("image", "audio")), FORMS),
]
NETWORKS: list[tuple[Any, dict[str, Form]]] = [
    *QUICK,
    (ImageCNNConfig(), FORMS),
    (AudioRNNConfig(hidden=8), FORMS),
    (AudioRNNConfig(hidden=8, layers=2, view="sequence"), FORMS),
    (LatentFusionConfig(encoders="joint", audio=AudioRNNConfig(hidden=8)), FORMS),
    (LatentFusionConfig(embedding=10, audio=AudioRNNConfig(hidden=8)), FORMS),
    (MultiheadFusionConfig(extra_conv=True), FORMS),
    (MultiheadFusionConfig(audio_net="sequential"), FORMS),
    (DualCNNConfig(), FORMS),
    (SpectrogramFusionConfig(filters=4, hidden=8, n_fft=128, hop=64), FORMS),
    (SpectrogramFusionConfig(filters=4, hidden=8, view="mfcc", layers=1), FORMS),
    (one(SmallCNN(channels=4), "image"), COLOUR),
    (one(SmallResNet(channels=4, stages=2), "image"), FORMS),
    (one(Conv1dEncoder(channels=4), "audio"), FORMS),
    (one(Conv1dEncoder(channels=4, stride=4, summary="flat"), "waveform"), FORMS),
    (one(Recurrent(hidden=8, bidirectional=True, layers=2), "audio"), FORMS),
    (one(Recurrent(cell="lstm", hidden=8, summary="mean"), "audio"), FORMS),
    (one(Recurrent(cell="rnn", hidden=8), "audio"), FORMS),
    (one(SmallTransformer(width=8, heads=2), "audio"), FORMS),
    (one(SmallTransformer(width=8, heads=2, layers=1), "image"), COLOUR),
    (one(HEARD, "waveform"), FORMS),
    (one(replace(HEARD, features="chroma", deltas=0), "waveform"), FORMS),
    (one(LogMelResNet(channels=4, stages=1, parts=2, test_speed=0.1), "speech"), FORMS),
    *((both(fusion), FORMS) for fusion in (Concatenation(), Gated(width=8), LowRank(width=8))),
    (both(CrossAttention(width=8, heads=2)), FORMS),
    (CROSSED, FORMS),
    (Ensemble(members=MEMBERS, weights={"one": 0.4, "two": 0.6}, temperatures={"one": 1.0, "two": 2.0}), FORMS),
    (XFlowMLPConfig(), FORMS),
    (XFlowLSTMConfig(), FORMS),
    (XFlowMLPConfig(frames=3), SEQUENCES),
    (XFlowLSTMConfig(), SEQUENCES),
]


def names(value: Any) -> str | None:
    if isinstance(value, LateFusion):
        return "-".join(dict.fromkeys(type(part).__name__ for part in parts_of(value)))
    return None if isinstance(value, Mapping) else type(value).__name__


def predictor_of(config: Any, forms: Mapping[str, Form] = FORMS, temperature: float = 0.5) -> Predictor:
    """A predictor of fresh weights that are no more alike than trained ones."""
    shapes = Shapes(banks={n: as_read(f.shape, exporting.dtype_of(f)) for n, f in forms.items()}, classes=len(CLASSES))
    torch.manual_seed(0)
    model = config.build(shapes).eval()
    for norm in (own for own in model.modules() if isinstance(getattr(own, "running_mean", None), Tensor)):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    calibration = never_wrong(classes=len(CLASSES))
    return Predictor(
        loaded=Loaded(model=model, config=config, shapes=shapes),
        card={"data": {"name": "birds"}},
        classes=CLASSES,
        forms={name: forms[name] for name in config.reads},
        missing=tuple(config.reads[1:]),
        calibration=replace(calibration, fused=replace(calibration.fused, temperature=temperature)),
    )


def same_as_torch(predictor: Predictor, to: str, out: Path) -> None:
    """Written, it gives what the network gives of other rows, of more than it was traced or tried with too."""
    done = exporting.export(predictor, to, out, rows_for(predictor, None), "birds", "3")
    assert done.difference <= FURTHEST
    assert done.size == out.stat().st_size
    run = formats.FORMATS[to].loaded(out.read_bytes())
    rng = np.random.default_rng(1)
    for count in (2, 70):
        drawn = {name: exporting.drawn_of(form, rng) for name, form in predictor.forms.items()}
        banks = {name: np.resize(own, (count, *own.shape[1:])) for name, own in drawn.items()}
        found, expected = run(banks), predictor.predict_values(**banks)
        assert set(found) == {PROBABILITIES, LOGITS}
        assert all(own.dtype == np.float32 for own in found.values())
        np.testing.assert_allclose(found[PROBABILITIES], expected.probabilities, atol=FURTHEST)
        with torch.no_grad():
            logits = Graph(predictor)(**{name: torch.from_numpy(own) for name, own in banks.items()})[LOGITS].numpy()
        # Of fresh weights rows are answered much alike; what tells them apart is there too.
        assert np.abs(found[LOGITS] - logits).max() < 0.01 * np.ptp(logits, axis=0).max()


@pytest.mark.parametrize(("config", "forms"), QUICK, ids=names)
def test_a_file_of_torch_gives_what_the_network_gives(config: Any, forms: dict[str, Form], tmp_path: Path) -> None:
    same_as_torch(predictor_of(config, forms), "pt2", tmp_path / "x.pt2")


@pytest.mark.slow
@pytest.mark.parametrize("to", formats.FORMATS)
@pytest.mark.parametrize(("config", "forms"), NETWORKS, ids=names)
def test_every_file_gives_what_every_network_gives(
    config: Any, forms: dict[str, Form], to: str, tmp_path: Path
) -> None:
    for needed in formats.FORMATS[to].needs:
        pytest.importorskip(needed)
    same_as_torch(predictor_of(config, forms), to, tmp_path / f"x.{to}")


def test_what_has_trained_can_export(tmp_path: Path) -> None:
    """A process that was prepared for training has switched off TF32, which torch.export asks by an older switch."""
    prepare_torch(torch.device("cpu"))
    assert torch.backends.cudnn.allow_tf32 is False
    config, forms = NETWORKS[0]
    same_as_torch(predictor_of(config, forms), "pt2", tmp_path / "x.pt2")


def test_onnx_gives_what_a_network_of_a_picture_and_a_sound_gives(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    config = LateFusion(encoders={"image": EITHER, "speech": SpectrogramCNN(channels=2)}, fusion=Gated(width=8))
    same_as_torch(predictor_of(config), "onnx", tmp_path / "x.onnx")


def test_every_shipped_kind_is_among_the_networks() -> None:
    made = {type(part) for config, _ in NETWORKS for part in parts_of(config)}
    kinds = {own for name in shipped.__all__ if isinstance(own := getattr(shipped, name), type)}
    assert kinds <= made


# ---- what a file says of itself

TOLD = {
    "model": "birds",
    "version": "3",
    "mmtune": exporting.installed("mmtune"),
    "classes": list(CLASSES),
    "banks": {
        "image": {"kind": "digit", "shape": [28, 28], "dtype": "uint8"},
        "audio": {"kind": "ready", "sides": [8, 6], "of": "float32", "shape": [8, 6], "dtype": "float32"},
    },
    "missing": ["audio"],
    "temperature": 0.5,
}
ELSEWHERE = """
import json, sys, torch
told = {"classes": ""}
model = torch.export.load(sys.argv[1], extra_files=told).module()
answers = model(image=torch.zeros(5, 28, 28, dtype=torch.uint8), audio=torch.zeros(5, 8, 6))
print(json.dumps([json.loads(told["classes"]), [*answers["probabilities"].shape], "mmtune" in sys.modules]))
"""


def test_a_file_of_torch_says_what_it_is_and_runs_without_mmtune(tmp_path: Path) -> None:
    predictor, out = predictor_of(both(Sum())), tmp_path / "x.pt2"
    exporting.export(predictor, "pt2", out, rows_for(predictor, None), "birds", "3")
    told = dict.fromkeys(TOLD, "")
    torch.export.load(out, extra_files=told)
    assert {name: json.loads(text) for name, text in told.items()} == TOLD
    words = [sys.executable, "-c", ELSEWHERE, str(out)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [list(CLASSES), [5, 3], False]


def test_an_onnx_file_says_what_it_is(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    predictor, out = predictor_of(both(Sum())), tmp_path / "x.onnx"
    exporting.export(predictor, "onnx", out, rows_for(predictor, None), "birds", "3")
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert {name: json.loads(told[name]) for name in TOLD} == TOLD
    assert [(own.name, own.type, own.shape) for own in session.get_inputs()] == [
        ("image", "tensor(uint8)", ["rows", 28, 28]),
        ("audio", "tensor(float)", ["rows", 8, 6]),
    ]
    assert [(own.name, own.shape) for own in session.get_outputs()] == [
        ("probabilities", ["rows", 3]),
        ("logits", ["rows", 3]),
    ]


# ---- what is refused


class Counting(nn.Module):
    """Goes another way by how many rows there are."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.linear = nn.Linear(48, shapes.classes)

    def forward(self, audio: Tensor) -> Tensor:
        return self.linear(audio.flatten(1)) * len(audio)


@dataclass(frozen=True, kw_only=True)
class CountingConfig:
    reads: tuple[str, ...] = ("audio",)

    def build(self, shapes: Shapes) -> nn.Module:
        return Counting(shapes)


def refused(predictor: Predictor, out: Path, to: str = "pt2") -> str:
    with pytest.raises(InputError) as refusal:
        exporting.export(predictor, to, out, rows_for(predictor, None), "birds", "3")
    assert "\n" not in str(refusal.value)
    assert not list(out.parent.iterdir())
    return str(refusal.value)


def test_a_network_that_asks_how_many_rows_there_are_is_refused(tmp_path: Path) -> None:
    said = refused(predictor_of(CountingConfig()), tmp_path / "x.pt2")
    assert "Counting must be traceable by torch.export, for any number of rows" in said


def test_a_bank_that_has_the_name_of_an_output_is_refused(tmp_path: Path) -> None:
    forms: dict[str, Form] = {"logits": Ready(sides=(4,))}
    assert "one is logits" in refused(predictor_of(one(MLP(), "logits"), forms), tmp_path / "x.pt2")


def test_a_file_that_answers_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, usual = predictor_of(both(Sum())), formats.FORMATS["pt2"]

    def with_loader(loaded: Callable[[bytes], Any]) -> None:
        monkeypatch.setattr(formats, "FORMATS", {"pt2": replace(usual, loaded=loaded)})

    def off_by(error: float) -> Callable[[bytes], Any]:
        def loaded(content: bytes) -> Any:
            run = usual.loaded(content)
            return lambda banks: {name: own + np.float32(error) for name, own in run(banks).items()}

        return loaded

    for error in (0.01, np.nan):
        with_loader(off_by(error))
        assert "the file was not written, in batches of 1 its probabilities" in refused(predictor, tmp_path / "x.pt2")
    with_loader(lambda content: usual.loaded(content[:-1000]))
    assert "the file was not written, it cannot be run" in refused(predictor, tmp_path / "x.pt2")


def test_onnx_without_its_packages_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs onnx, onnxscript, onnxruntime, .* pip install 'mmtune\[export\]'"):
        formats.format_of("onnx")
    assert formats.format_of("pt2").needs == ()


# ---- rows to try a file with


def test_rows_are_a_data_sets_own_or_drawn(tiny: Dataset) -> None:
    predictor = predictor_of(LateFusion(encoders={"image": MLP(), "speech": MLP()}))
    drawn = rows_for(predictor, None)
    assert drawn.source == "drawn values"
    assert {name: (own.shape, str(own.dtype)) for name, own in drawn.banks.items()} == {
        "image": ((COUNT, 28, 28), "uint8"),
        "speech": ((COUNT, 1600), "int16"),
    }
    assert drawn.banks["speech"][:-1].any(axis=1).all()
    assert not drawn.banks["speech"][-1].any()
    forms = {"image": Digit(), "speech": Speech()}
    whole = predictor_of(LateFusion(encoders={"image": MLP(), "speech": MLP()}), forms)
    own = rows_for(whole, tiny)
    assert own.source == "tiny"
    np.testing.assert_array_equal(own.banks["image"][0], tiny.require_test().banks["image"].of_rows(np.array([0]))[0])
    with pytest.raises(InputError, match="speech of tiny must be what the model was trained on"):
        rows_for(predictor, tiny)


def test_the_bundled_sample_is_read_by_models_of_its_forms_on_any_scale() -> None:
    scaled = replace(Mfcc(), mean=(1.0,) * 13)
    assert exporting.reads_sample(predictor_of(both(Sum()), {"image": Digit(), "audio": scaled}))
    assert not exporting.reads_sample(predictor_of(both(Sum())))


# ---- the command


@pytest.fixture(scope="module")
def store(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a champion."""
    network = LateFusion(encoders={"image": MLP(), "waveform": MLP(width=8)})
    study = Study(name="elsewhere", base=TrialConfig(model=network, train=Train(epochs=1)), space=())
    return champion_of(study, tiny.folder, tmp_path_factory.mktemp("elsewhere") / "mlruns")


def test_the_command_writes_a_file_and_says_how_near_it_is(
    store: Path, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["export", "elsewhere", "--to", "pt2", "--store", str(store), "--data", str(tiny.folder)]
    cli.app(words, standalone_mode=False)
    said = capsys.readouterr().out
    assert said.startswith("elsewhere.pt2: ")
    assert "on 28 rows of tiny, in batches of 1 and of 7" in said
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere.pt2"]
    told = {"version": ""}
    torch.export.load("elsewhere.pt2", extra_files=told)
    assert json.loads(told["version"]) == "1"


def test_mistakes_get_one_line_and_leave_no_file(
    store: Path, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:

    monkeypatch.chdir(tmp_path)
    usual = ["export", "elsewhere", "--to", "pt2", "--data", str(tiny.folder), "--store", str(store)]
    for words, said in (
        ([*usual, "--to", "tflite"], "--to must be one of onnx, pt2, got 'tflite'"),
        ([*usual, "--version", "9"], "elsewhere version 9 is not registered"),
        ([*usual, "--out", "none/x.pt2"], "none/x.pt2 cannot be written"),
        ([*usual, "--out", "."], "must be a file to write to, it is a folder"),
        ([*usual, "--data", "nowhere"], "nowhere"),
        ([*usual, "--store", "nowhere"], "--store must name a folder with tracked runs"),
        (["export", "nothing", *usual[2:]], "nothing@champion is not registered"),
    ):
        assert said in refusal(cli.main, *words)
        assert not list(tmp_path.iterdir())


def test_a_damaged_model_is_refused(
    store: Path, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    (weights,) = store.glob("artifacts/*/*/artifacts/registered/data/predictor/model/weights.safetensors")
    content = weights.read_bytes()
    monkeypatch.chdir(tmp_path)
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        words = ["export", "elsewhere", "--to", "pt2", "--store", str(store), "--data", str(tiny.folder)]
        assert "must have SHA-256" in refusal(cli.main, *words)
    finally:
        weights.write_bytes(content)
    assert not list(tmp_path.iterdir())
