"""Prediction from arrays, files, data sets and MLflow's dicts, and what is refused; weights are drawn, not trained."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from calibrated import never_wrong
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from scipy.special import softmax

import mmtune
from mmtune.base.errors import InputError
from mmtune.data.dataset import Bank, Dataset, Partition
from mmtune.data.digits import DIGITS
from mmtune.data.forms import Digit, Form, Mfcc, Ready, Waveform, form_to_json
from mmtune.data.identity import distinct
from mmtune.data.media.features import mfcc
from mmtune.data.media.pictures import read_digit
from mmtune.data.media.recordings import at_rate, read_wav, to_int16
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig, SpectrogramFusionConfig
from mmtune.networks.config.base import ModelConfig
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import save_model
from mmtune.serve.answer.predictor import Predictor, save_predictor
from mmtune.serve.answer.telling import describe
from mmtune.serve.loader import TRUST, _load_pyfunc, columns, write_pyfunc
from mmtune.serve.scoring import predict_partition, write_submission
from mmtune.train.batches import as_input

RATE = 16_000
CONFIGS: dict[str, ModelConfig] = {
    "image": ImageCNNConfig(),
    "audio": AudioRNNConfig(hidden=16),
    "fusion": LatentFusionConfig(audio=AudioRNNConfig(hidden=16), encoders="joint"),
}
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (40, 28, 28)).astype(np.uint8)


def voice(pitch: float, rate: int = RATE, seconds: float = 0.6) -> np.ndarray:
    """A buzz with overtones that swells and fades: (n,) float32."""
    time = np.arange(int(rate * seconds)) / rate
    tones = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
    return (0.2 * tones * np.hanning(len(time))).astype(np.float32)


WAVES = np.stack([to_int16(at_rate(voice(90 + 9 * n), RATE, RATE)) for n in range(25)])
AUDIO = Mfcc().fit(mfcc(WAVES))
CLIPS = AUDIO.scaled(mfcc(WAVES))
FORMS: dict[str, Form] = {"image": Digit(), "audio": AUDIO, "waveform": Waveform()}
SHAPES = Shapes(banks={"image": (1, 28, 28), "audio": (39, 13), "waveform": (RATE,)}, classes=10)


def card_of(forms: dict[str, Form], *alone: str) -> dict[str, Any]:
    told = {name: form_to_json(form) for name, form in forms.items()}
    data = {"name": "buzz", "digest": "d"}
    return {"forms": told, "classes": list(DIGITS), "data": data, "calibration": never_wrong(*alone).told()}


def alone_in(config: ModelConfig) -> tuple[str, ...]:
    """The banks that have answers of their own."""
    return ("image", "audio") if isinstance(config, LatentFusionConfig) else ()


def write_predictor(folder: Path, config: ModelConfig, forms: dict[str, Form] = FORMS) -> Path:
    torch.manual_seed(1)
    save_model(folder / "saved", config.build(SHAPES), config, SHAPES)
    save_predictor(folder / "ready", folder / "saved", card_of(forms, *alone_in(config)))
    return folder / "ready"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    return {name: write_predictor(tmp_path_factory.mktemp(name), config) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def fusion(folders: dict[str, Path]) -> Predictor:
    return Predictor.load(folders["fusion"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """40 pairs over 25 clips."""
    index = np.concatenate([np.arange(25), np.arange(15)])
    part = Partition(
        banks={"image": distinct(IMAGES), "audio": Bank(values=CLIPS, index=index)},
        labels=np.arange(40) % 10,
        groups={"recording": index.astype(str)},
    )
    folder, forms = tmp_path_factory.mktemp("data"), {"image": Digit(), "audio": AUDIO}
    parts = {"train": part, "test": part}
    return Dataset(name="buzz", folder=folder, classes=DIGITS, forms=forms, digest="d", provenance={}, **parts)


def with_audio(dataset: Dataset, form: Form, values: np.ndarray) -> Dataset:
    """The data set, had its sound another form."""
    test = dataset.require_test()
    banks = {**test.banks, "audio": replace(test.banks["audio"], values=values)}
    return replace(dataset, test=replace(test, banks=banks), forms={**dataset.forms, "audio": form})


def one_line(refusal: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


# ---- arrays


def test_probabilities_are_the_softmax_of_the_models_logits(fusion: Predictor) -> None:
    found = fusion.predict_values(image=IMAGES[:25], audio=CLIPS)
    with torch.no_grad():
        output = fusion.model(image=as_input(torch.from_numpy(IMAGES[:25])), audio=torch.from_numpy(CLIPS))
    scale = fusion.calibration
    expected = softmax(output.logits.numpy() / scale.fused.temperature, axis=1)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
    np.testing.assert_array_equal(found.label, expected.argmax(1))
    np.testing.assert_allclose(found.probability, expected.max(1), rtol=1e-5)
    for name in ("image", "audio"):
        alone = softmax(output.alone[name].numpy() / scale.alone[name].temperature, axis=1)
        np.testing.assert_array_equal(found.alone[name].label, alone.argmax(1))
        np.testing.assert_allclose(found.alone[name].probability, alone.max(1), rtol=1e-5)
    assert found.label.dtype == np.int64
    assert found.probability.dtype == found.probabilities.dtype == np.float32


def test_a_model_of_one_modality_takes_just_its_own_and_says_nothing_of_others(folders: dict[str, Path]) -> None:
    image, audio = Predictor.load(folders["image"]), Predictor.load(folders["audio"])
    assert image.predict_values(image=IMAGES).alone == audio.predict_values(audio=CLIPS).alone == {}
    for predictor, wrong in (
        (image, {"image": IMAGES[:25], "audio": CLIPS}),
        (audio, {"image": IMAGES}),
        (image, {}),
    ):
        with pytest.raises(InputError) as refusal:
            predictor.predict_values(**wrong)
        assert f"this model takes {next(iter(predictor.forms))}, got" in one_line(refusal)


def test_rows_do_not_depend_on_their_batch(folders: dict[str, Path]) -> None:
    predictor = Predictor.load(folders["audio"])
    many = np.resize(CLIPS, (2500, 39, 13))
    whole = predictor.predict_values(audio=many)
    assert len(whole.label) == 2500
    for row in (0, 1023, 1024, 2499):
        single = predictor.predict_values(audio=many[row : row + 1])
        np.testing.assert_allclose(single.probabilities[0], whole.probabilities[row], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(whole.probabilities, predictor.predict_values(audio=many).probabilities)


def test_inputs_are_left_as_they_were_and_may_be_read_only_or_strided(fusion: Predictor) -> None:
    images, clips = IMAGES[:20].copy(), CLIPS[:20].copy()
    images.flags.writeable = clips.flags.writeable = False
    found = fusion.predict_values(image=images, audio=clips)
    np.testing.assert_array_equal(images, IMAGES[:20])
    reversed_rows = fusion.predict_values(image=images[::-1], audio=clips[::-1])
    np.testing.assert_allclose(reversed_rows.probabilities[::-1], found.probabilities, rtol=1e-4, atol=1e-6)


KINDS = [np.uint8, np.int64, np.float16, np.float32, np.float64, np.bool_, np.complex64]
SIDES = st.sampled_from([(28, 28), (39, 13), (28, 28, 1), (1, 28, 28), (784,), (507,), (13, 39), ()])
ANY_SHAPE = st.one_of(
    array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
    st.tuples(st.integers(0, 2), SIDES).map(lambda pair: (pair[0], *pair[1])),
)


@settings(max_examples=60, deadline=None)
@given(shape=ANY_SHAPE, kind=st.sampled_from(KINDS), name=st.sampled_from(["image", "audio"]))
def test_any_other_shape_or_type_is_refused(
    folders: dict[str, Path], shape: tuple[int, ...], kind: type[np.generic], name: str
) -> None:
    rows, side = {"image": (np.uint8, (28, 28)), "audio": (np.float32, (39, 13))}[name]
    array = np.zeros(shape, kind)
    sound = np.dtype(kind) == rows and len(shape) == 3 and shape[1:] == side and shape[0] > 0
    predictor = Predictor.load(folders[name])
    if sound:
        assert len(predictor.predict_values(**{name: array}).label) == shape[0]
        return
    with pytest.raises(InputError) as refusal:
        predictor.predict_values(**{name: array})
    assert one_line(refusal).startswith(f"{name} must be an array (B, {side[0]}, {side[1]}) of {rows.__name__}")


@settings(max_examples=30, deadline=None)
@given(
    mask=arrays(np.bool_, (2, 39, 13), elements=st.booleans(), fill=st.just(False)),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_values_that_are_not_finite_are_refused_by_row(folders: dict[str, Path], mask: np.ndarray, bad: float) -> None:
    if not mask.any():
        return
    clips = np.where(mask, np.float32(bad), np.float32(0.5))
    with pytest.raises(InputError) as refusal:
        Predictor.load(folders["audio"]).predict_values(audio=clips)
    assert f"row {int(mask.any(axis=(1, 2)).argmax())} holds NaN or infinity" in one_line(refusal)


def test_unequal_batches_and_values_that_overflow_are_refused(fusion: Predictor) -> None:
    with pytest.raises(InputError) as refusal:
        fusion.predict_values(image=IMAGES[:3], audio=CLIPS[:2])
    assert "3 of image and 2 of audio" in one_line(refusal)


def test_scores_that_overflow_are_refused(folders: dict[str, Path]) -> None:
    predictor = Predictor.load(folders["audio"])
    with torch.no_grad():
        predictor.model.get_parameter("fc3.weight").fill_(torch.finfo(torch.float32).max)
    with pytest.raises(InputError) as refusal:
        predictor.predict_values(audio=CLIPS)
    assert "scores must be finite" in one_line(refusal)


# ---- files


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    picture = np.zeros((90, 70), np.uint8)
    picture[20:70, 30:38] = 255
    paths = {"light": tmp_path / "light.png", "dark": tmp_path / "dark.png", "wav": tmp_path / "one.wav"}
    Image.fromarray(picture).save(paths["light"])
    Image.fromarray(255 - picture).convert("RGB").save(paths["dark"])
    soundfile.write(paths["wav"], voice(117), RATE, subtype="PCM_16")
    return {name: str(path) for name, path in paths.items()}


def heard(path: str | Path) -> np.ndarray:
    return AUDIO.read(Path(path))


def test_a_recording_becomes_the_clip_that_the_data_set_has_of_it(fusion: Predictor, tmp_path: Path) -> None:
    for row in (0, 3, 24):
        soundfile.write(tmp_path / "x.wav", WAVES[row], RATE, subtype="PCM_16")
        np.testing.assert_allclose(fusion.forms["audio"].read(tmp_path / "x.wav"), CLIPS[row], atol=1e-5)


def test_files_give_what_their_arrays_give_whatever_the_polarity(fusion: Predictor, files: dict[str, str]) -> None:
    light = fusion.predict(image=files["light"], audio=files["wav"])
    dark = fusion.predict(image=files["dark"], audio=files["wav"])
    assert light.label.shape == (1,)
    assert set(light.alone) == {"image", "audio"}
    np.testing.assert_allclose(light.probabilities, dark.probabilities, atol=1e-3)
    lines = describe(fusion, light).splitlines()
    assert [line.split()[0] for line in lines] == ["class", "image", "audio", "set", "not"]
    assert f"{light.names[0]}  probability {light.probability[0]:.4f}" in lines[0]
    assert f"{light.alone['audio'].names[0]}  probability {light.alone['audio'].probability[0]:.4f}" in lines[2]


def test_stereo_at_another_rate_is_nearly_the_same_clip(files: dict[str, str], tmp_path: Path) -> None:
    wide = voice(117, rate=44_100)
    soundfile.write(tmp_path / "wide.wav", np.stack([wide, wide], 1), 44_100, subtype="FLOAT")
    narrow, other = heard(files["wav"]), heard(tmp_path / "wide.wav")
    assert np.corrcoef(narrow.ravel(), other.ravel())[0, 1] > 0.95


def test_files_are_refused_where_nobody_knows_how_they_become_values(tmp_path: Path, files: dict[str, str]) -> None:
    ready = write_predictor(tmp_path, CONFIGS["audio"], {"audio": Ready(sides=(39, 13))})
    predictor = Predictor.load(ready)
    assert len(predictor.predict_values(audio=CLIPS).label) == len(CLIPS)
    with pytest.raises(InputError) as refusal:
        predictor.predict(audio=files["wav"])
    assert "buzz, whose audio came ready-made" in one_line(refusal)


def test_embeddings_are_those_of_the_models_output_one_for_each_row_given(
    fusion: Predictor, files: dict[str, str]
) -> None:
    with torch.no_grad():
        output = fusion.model(image=as_input(torch.from_numpy(IMAGES[:25])), audio=torch.from_numpy(CLIPS))
    found = fusion.embed(image=IMAGES[:25], audio=WAVES)
    np.testing.assert_allclose(found, output.embedding.numpy(), atol=1e-5)
    assert found.dtype == np.float32
    assert fusion.embed(image=files["light"], audio=files["wav"]).shape == (1, found.shape[1])
    with pytest.raises(InputError, match="takes image and audio, got image"):
        fusion.embed(image=IMAGES)


def test_samples_give_what_their_values_give(fusion: Predictor) -> None:
    found = fusion.predict(image=IMAGES[:25], audio=WAVES)
    expected = fusion.predict_values(image=IMAGES[:25], audio=CLIPS)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    assert repr(found).startswith(f"Prediction({found.names[0]} {found.probability[0]:.4f}, ")
    assert repr(found).endswith(", ... 25 rows)")
    assert len(found) == 25


def test_a_model_of_waveforms_hears_recordings(tmp_path: Path, files: dict[str, str], dataset: Dataset) -> None:
    ready = write_predictor(tmp_path, SpectrogramFusionConfig(filters=4, hidden=8))
    predictor = Predictor.load(ready)
    wave = to_int16(at_rate(*read_wav(Path(files["wav"])), RATE))
    found = predictor.predict(image=files["light"], audio=files["wav"])
    expected = predictor.predict_values(image=read_digit(Path(files["light"]))[None], waveform=wave[None])
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    served = _load_pyfunc(str(ready)).predict({"image": IMAGES[:2], "waveform": np.stack([wave] * 2)})
    assert list(served.columns) == ["class", "probability", *TRUST] == list(columns(predictor))
    for wrong in ([wave.tolist()] * 2, np.zeros((2, RATE), np.float32)):
        with pytest.raises(InputError, match=r"waveform must be an array \(B, 16000\) of int16"):
            _load_pyfunc(str(ready)).predict({"image": IMAGES[:2], "waveform": wrong})
    test = dataset.require_test()
    waves = Bank(values=WAVES, index=test.banks["audio"].index)
    with_waves = replace(test, banks={**test.banks, "waveform": waves})
    whole = predict_partition(predictor, replace(dataset, test=with_waves, forms=FORMS))
    rows = predictor.predict_values(image=IMAGES, waveform=WAVES[waves.index])
    np.testing.assert_array_equal(whole.probabilities, rows.probabilities)
    with pytest.raises(InputError, match="this model reads waveform, the data set has image, audio"):
        predict_partition(predictor, dataset)


def test_missing_extra_and_broken_files_are_refused(
    fusion: Predictor, folders: dict[str, Path], files: dict[str, str], tmp_path: Path
) -> None:
    silent, text = tmp_path / "silent.wav", tmp_path / "text.png"
    soundfile.write(silent, np.zeros(RATE), RATE)
    text.write_text("no picture")
    image = Predictor.load(folders["image"])
    light, wav = files["light"], files["wav"]
    wrong: list[tuple[Predictor, dict[str, Any], str]] = [
        (fusion, {}, "got nothing"),
        (image, {"image": light, "audio": wav}, "takes image (picture), got audio"),
        (fusion, {"image": tmp_path / "none.png", "audio": wav}, "none.png"),
        (fusion, {"image": text, "audio": wav}, "text.png"),
        (fusion, {"image": light, "audio": silent}, "silent"),
        (fusion, {"image": light, "audio": files["dark"]}, "dark.png"),
    ]
    for predictor, inputs, said in wrong:
        with pytest.raises(InputError) as refusal:
            predictor.predict(**inputs)
        assert said in one_line(refusal)


# ---- data sets and submissions


def test_a_partition_is_predicted_row_by_row(folders: dict[str, Path], dataset: Dataset) -> None:
    clips = CLIPS[dataset.require_test().banks["audio"].index]
    for name, inputs in {
        "image": {"image": IMAGES},
        "audio": {"audio": clips},
        "fusion": {"image": IMAGES, "audio": clips},
    }.items():
        predictor = Predictor.load(folders[name])
        found = predict_partition(predictor, dataset)
        np.testing.assert_array_equal(found.probabilities, predictor.predict_values(**inputs).probabilities)


def test_a_row_without_a_value_is_predicted_from_zeros(fusion: Predictor, dataset: Dataset) -> None:
    test = dataset.require_test()
    gaps = replace(test.banks["audio"], index=np.where(np.arange(40) < 5, -1, test.banks["audio"].index))
    found = predict_partition(fusion, replace(dataset, test=replace(test, banks={**test.banks, "audio": gaps})))
    clips = CLIPS[test.banks["audio"].index]
    clips[:5] = 0
    np.testing.assert_array_equal(found.probabilities, fusion.predict_values(image=IMAGES, audio=clips).probabilities)


def test_clips_on_another_scale_are_brought_to_the_models(fusion: Predictor, dataset: Dataset) -> None:
    others = Mfcc(mean=(1.0,) * 13, std=(3.0,) * 13, low=-9.0, high=2.0)
    elsewhere = with_audio(dataset, others, others.scaled(mfcc(WAVES)))
    found = predict_partition(fusion, elsewhere)
    np.testing.assert_allclose(found.probabilities, predict_partition(fusion, dataset).probabilities, atol=1e-4)


def test_values_of_another_kind_are_refused_by_models_that_read_them(
    folders: dict[str, Path], dataset: Dataset
) -> None:
    unknown = with_audio(dataset, Ready(sides=(39, 13)), CLIPS)
    with pytest.raises(InputError) as refusal:
        predict_partition(Predictor.load(folders["audio"]), unknown)
    assert "audio of buzz must be what the model was trained on, mfcc (39, 13) as in buzz" in one_line(refusal)
    assert len(predict_partition(Predictor.load(folders["image"]), unknown).label) == 40


def test_a_submission_reads_back(fusion: Predictor, dataset: Dataset, tmp_path: Path) -> None:
    found = predict_partition(fusion, dataset)
    path = tmp_path / "submission.csv"
    path.write_text("older and longer" * 1000)
    write_submission(path, found)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(40))
    assert [row["class"] for row in rows] == found.names == [DIGITS[number] for number in found.label]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], found.probability, atol=1e-6)
    assert set(rows[0]) == {"row", "class", "probability", "agree", "set"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["submission.csv"]


def test_a_submission_that_cannot_be_written_is_refused(fusion: Predictor, tmp_path: Path) -> None:
    found = fusion.predict_values(image=IMAGES[:2], audio=CLIPS[:2])
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "submission.csv", tmp_path / "folder"):
        with pytest.raises(InputError) as refusal:
            write_submission(path, found)
        assert str(path) in one_line(refusal)
    assert [entry.name for entry in tmp_path.rglob("*")] == ["folder"]


# ---- the folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_mean(path: Path) -> None:
    path.write_text(path.read_text().replace(repr(AUDIO.mean[0]), repr(AUDIO.mean[0] + 1)))


def other_class(path: Path) -> None:
    path.write_text(path.read_text().replace('"7"', '"seven"'))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model/weights.safetensors", flip),
        ("model/weights.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-9])),
        ("model/model.json", lambda path: path.write_text("{")),
        ("inputs.json", other_mean),
        ("inputs.json", other_class),
        ("inputs.json", lambda path: path.write_text("")),
        ("inputs.json", lambda path: path.write_text("[1]")),
        ("inputs.json", lambda path: path.write_text(json.dumps({"format": 1}))),
        ("inputs.json", lambda path: path.write_bytes(b"\xff\xfe")),
        ("inputs.json", Path.unlink),
        ("model/weights.safetensors", Path.unlink),
    ],
)
def test_a_changed_folder_is_refused(tmp_path: Path, name: str, damage: Any) -> None:
    folder = write_predictor(tmp_path, CONFIGS["audio"])
    before = (folder / name).read_bytes()
    damage(folder / name)
    assert not (folder / name).exists() or (folder / name).read_bytes() != before
    with pytest.raises(InputError) as refusal:
        Predictor.load(folder)
    assert Path(name).name in one_line(refusal)


# ---- behind MLflow


def test_served_dicts_of_arrays_become_a_frame(folders: dict[str, Path], fusion: Predictor) -> None:
    frame = _load_pyfunc(str(folders["fusion"])).predict({"image": IMAGES[:4], "audio": CLIPS[:4]})
    assert list(frame.columns) == list(columns(fusion))
    expected = fusion.predict_values(image=IMAGES[:4], audio=CLIPS[:4])
    assert frame["class"].tolist() == expected.names
    assert frame["audio_class"].tolist() == expected.alone["audio"].names
    alone = _load_pyfunc(str(folders["image"])).predict({"image": IMAGES[:4]})
    assert list(alone.columns) == list(columns(Predictor.load(folders["image"])))


def test_lists_that_come_to_mlflows_server_are_answered_as_arrays(
    folders: dict[str, Path], fusion: Predictor, tmp_path: Path
) -> None:
    from mlflow.pyfunc import load_model
    from mlflow.pyfunc.scoring_server import invocations

    write_pyfunc(tmp_path / "made", folders["fusion"] / "model", card_of(FORMS, "image", "audio"), "run")
    model = load_model(str(tmp_path / "made"))
    lists = {"image": IMAGES[:4].tolist(), "audio": CLIPS[:4].tolist()}
    rows = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    expected = fusion.predict_values(image=IMAGES[:4], audio=CLIPS[:4])
    for asked in ({"inputs": lists}, {"instances": rows}):
        answer = invocations(json.dumps(asked), "application/json", model, model.metadata.get_input_schema())
        said = json.loads(answer.response)["predictions"]
        assert [row["class"] for row in said] == expected.names
        assert [row["probability"] for row in said] == pytest.approx(expected.probability.tolist())


def test_served_rubbish_is_refused(folders: dict[str, Path]) -> None:
    served = _load_pyfunc(str(folders["fusion"]))
    image, audio = IMAGES[:2], CLIPS[:2]
    wrong: list[tuple[Any, str]] = [
        ({"image": image, "audio": audio, "video": image}, "got image and audio and video"),
        ({"video": image}, "got video"),
        ({}, "got nothing"),
        ([image, audio], "got list"),
        (
            {"image": image.tolist(), "audio": audio},
            "image must be an array (B, 28, 28) of uint8 with B >= 1",
        ),
        ({"image": "12", "audio": audio}, "got str"),
        ({"image": image, "audio": np.array([[["x"]]])}, "audio must be an array"),
        ({"image": image / 255, "audio": audio}, "of float64"),
        ({"image": image, "audio": audio * np.float32(np.nan)}, "row 0 holds NaN"),
        ({"image": image[:0], "audio": audio[:0]}, "B >= 1"),
        ({1: image, "audio": audio}, "got 1 and audio"),
    ]
    for rubbish, said in wrong:
        with pytest.raises(InputError) as refusal:
            served.predict(rubbish)
        assert said in one_line(refusal)
    with pytest.raises(InputError, match="takes no params"):
        served.predict({"image": image, "audio": audio}, {"temperature": 2})


def test_prediction_needs_neither_mlflow_nor_optuna_nor_pandas() -> None:
    code = "import sys, mmtune.serve.loader; print(*({'mlflow', 'optuna', 'pandas', 'scipy'} & set(sys.modules)))"
    source = str(Path(mmtune.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
