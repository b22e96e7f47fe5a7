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
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from scipy.special import softmax

import mmtune
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.features import FeatureStats, mfcc
from mmtune.data.pictures import read_digit
from mmtune.data.recordings import one_second, read_wav, to_int16
from mmtune.networks.build import build_model
from mmtune.networks.config import (
    AudioRNNConfig,
    ImageCNNConfig,
    LatentFusionConfig,
    ModelConfig,
    SpectrogramFusionConfig,
)
from mmtune.networks.storage import save_model
from mmtune.serve.loader import _load_pyfunc, columns, write_pyfunc
from mmtune.serve.predictor import (
    Predictor,
    describe,
    predict_files,
    read_recording,
    save_predictor,
)
from mmtune.serve.scoring import predict_partition, unscaled, write_submission
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


WAVES = np.stack([one_second(voice(90 + 9 * n), RATE) for n in range(25)])
STATS = FeatureStats.fit(mfcc(WAVES))
CLIPS = STATS.apply(mfcc(WAVES))


def write_predictor(folder: Path, config: ModelConfig, features: dict[str, Any] | None) -> Path:
    torch.manual_seed(1)
    save_model(folder / "saved", build_model(config), config)
    save_predictor(folder / "ready", folder / "saved", {"features": features, "data": {"name": "buzz", "digest": "d"}})
    return folder / "ready"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    return {
        name: write_predictor(tmp_path_factory.mktemp(name), config, STATS.to_json())
        for name, config in CONFIGS.items()
    }


@pytest.fixture(scope="module")
def fusion(folders: dict[str, Path]) -> Predictor:
    return Predictor.load(folders["fusion"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """40 pairs over 25 clips."""
    part = Partition(
        images=IMAGES,
        clips=CLIPS,
        clip_index=np.concatenate([np.arange(25), np.arange(15)]),
        labels=np.arange(40) % 10,
        speaker=np.array([""] * 25),
        clip_id=np.array([str(n) for n in range(25)]),
    )
    folder = tmp_path_factory.mktemp("data")
    return Dataset(
        name="buzz", folder=folder, train=part, test=part, digest="d", provenance={}, features=STATS.to_json()
    )


def one_line(refusal: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


# ---- arrays


def test_probabilities_are_the_softmax_of_the_models_logits(fusion: Predictor) -> None:
    found = fusion.predict(IMAGES[:25], CLIPS)
    with torch.no_grad():
        output = fusion.model(as_input(torch.from_numpy(IMAGES[:25])), torch.from_numpy(CLIPS))
    expected = softmax(output.logits.numpy(), axis=1)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
    np.testing.assert_array_equal(found.digit, expected.argmax(1))
    np.testing.assert_allclose(found.probability, expected.max(1), rtol=1e-5)
    for name in ("image", "audio"):
        alone = softmax(output.alone[name].numpy(), axis=1)
        np.testing.assert_array_equal(found.alone[name].digit, alone.argmax(1))
        np.testing.assert_allclose(found.alone[name].probability, alone.max(1), rtol=1e-5)
    assert found.digit.dtype == np.int64
    assert found.probability.dtype == found.probabilities.dtype == np.float32


def test_a_model_of_one_modality_takes_just_its_own_and_says_nothing_of_others(folders: dict[str, Path]) -> None:
    image, audio = Predictor.load(folders["image"]), Predictor.load(folders["audio"])
    assert image.predict(images=IMAGES).alone == audio.predict(recordings=CLIPS).alone == {}
    for predictor, wrong in (
        (image, {"images": IMAGES[:25], "recordings": CLIPS}),
        (audio, {"images": IMAGES}),
        (image, {}),
    ):
        with pytest.raises(InputError) as refusal:
            predictor.predict(**wrong)
        assert f"this model takes {predictor.modalities[0]}, got" in one_line(refusal)


def test_rows_do_not_depend_on_their_batch(folders: dict[str, Path]) -> None:
    predictor = Predictor.load(folders["audio"])
    many = np.resize(CLIPS, (2500, 39, 13))
    whole = predictor.predict(recordings=many)
    assert len(whole.digit) == 2500
    for row in (0, 1023, 1024, 2499):
        single = predictor.predict(recordings=many[row : row + 1])
        np.testing.assert_allclose(single.probabilities[0], whole.probabilities[row], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(whole.probabilities, predictor.predict(recordings=many).probabilities)


def test_inputs_are_left_as_they_were_and_may_be_read_only_or_strided(fusion: Predictor) -> None:
    images, clips = IMAGES[:20].copy(), CLIPS[:20].copy()
    images.flags.writeable = clips.flags.writeable = False
    found = fusion.predict(images, clips)
    np.testing.assert_array_equal(images, IMAGES[:20])
    reversed_rows = fusion.predict(images[::-1], clips[::-1])
    np.testing.assert_allclose(reversed_rows.probabilities[::-1], found.probabilities, rtol=1e-4, atol=1e-6)


KINDS = [np.uint8, np.int64, np.float16, np.float32, np.float64, np.bool_, np.complex64]
SIDES = st.sampled_from([(28, 28), (39, 13), (28, 28, 1), (1, 28, 28), (784,), (507,), (13, 39), ()])
SHAPES = st.one_of(
    array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
    st.tuples(st.integers(0, 2), SIDES).map(lambda pair: (pair[0], *pair[1])),
)


@settings(max_examples=60, deadline=None)
@given(shape=SHAPES, kind=st.sampled_from(KINDS), name=st.sampled_from(["image", "audio"]))
def test_any_other_shape_or_type_is_refused(
    folders: dict[str, Path], shape: tuple[int, ...], kind: type[np.generic], name: str
) -> None:
    rows, side = {"image": (np.uint8, (28, 28)), "audio": (np.float32, (39, 13))}[name]
    array = np.zeros(shape, kind)
    sound = np.dtype(kind) == rows and len(shape) == 3 and shape[1:] == side and shape[0] > 0
    predictor = Predictor.load(folders[name])
    given_input = {"images" if name == "image" else "recordings": array}
    if sound:
        assert len(predictor.predict(**given_input).digit) == shape[0]
        return
    with pytest.raises(InputError) as refusal:
        predictor.predict(**given_input)
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
        Predictor.load(folders["audio"]).predict(recordings=clips)
    assert f"row {int(mask.any(axis=(1, 2)).argmax())} holds NaN or infinity" in one_line(refusal)


def test_unequal_batches_and_values_that_overflow_are_refused(fusion: Predictor) -> None:
    with pytest.raises(InputError) as refusal:
        fusion.predict(IMAGES[:3], CLIPS[:2])
    assert "3 of image and 2 of audio" in one_line(refusal)


def test_scores_that_overflow_are_refused(folders: dict[str, Path]) -> None:
    predictor = Predictor.load(folders["audio"])
    with torch.no_grad():
        predictor.model.get_parameter("fc3.weight").fill_(torch.finfo(torch.float32).max)
    with pytest.raises(InputError) as refusal:
        predictor.predict(recordings=CLIPS)
    assert "scores must be finite" in one_line(refusal)


# ---- files


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    picture = np.zeros((90, 70), np.uint8)
    picture[20:70, 30:38] = 255
    paths = {"light": tmp_path / "light.png", "dark": tmp_path / "dark.png", "wav": tmp_path / "one.wav"}
    Image.fromarray(picture).save(paths["light"])
    Image.fromarray(255 - picture).convert("RGB").save(paths["dark"])
    soundfile.write(paths["wav"], voice(117), RATE, subtype="PCM_16")
    return paths


def test_a_recording_becomes_the_clip_that_the_data_set_has_of_it(fusion: Predictor, tmp_path: Path) -> None:
    for row in (0, 3, 24):
        soundfile.write(tmp_path / "x.wav", WAVES[row], RATE, subtype="PCM_16")
        np.testing.assert_allclose(read_recording(fusion, tmp_path / "x.wav"), CLIPS[row], atol=1e-5)


def test_files_give_what_their_arrays_give_whatever_the_polarity(fusion: Predictor, files: dict[str, Path]) -> None:
    light = predict_files(fusion, files["light"], files["wav"])
    dark = predict_files(fusion, files["dark"], files["wav"])
    assert light.digit.shape == (1,)
    assert set(light.alone) == {"image", "audio"}
    np.testing.assert_allclose(light.probabilities, dark.probabilities, atol=1e-3)
    lines = describe(light).splitlines()
    assert [line.split()[0] for line in lines] == ["digit", "image", "audio"]
    assert f"{light.digit[0]}  probability {light.probability[0]:.4f}" in lines[0]
    assert f"{light.alone['audio'].digit[0]}  probability {light.alone['audio'].probability[0]:.4f}" in lines[2]


def test_stereo_at_another_rate_is_nearly_the_same_clip(fusion: Predictor, files: dict[str, Path]) -> None:
    wide = voice(117, rate=44_100)
    soundfile.write(files["wav"].with_name("wide.wav"), np.stack([wide, wide], 1), 44_100, subtype="FLOAT")
    narrow, other = (read_recording(fusion, files["wav"].with_name(name)) for name in ("one.wav", "wide.wav"))
    assert np.corrcoef(narrow.ravel(), other.ravel())[0, 1] > 0.95


def test_recordings_are_refused_where_their_features_are_unknown(tmp_path: Path, files: dict[str, Path]) -> None:
    predictor = Predictor.load(write_predictor(tmp_path, CONFIGS["audio"], None))
    assert len(predictor.predict(recordings=CLIPS).digit) == len(CLIPS)
    with pytest.raises(InputError) as refusal:
        predict_files(predictor, audio=files["wav"])
    assert "buzz" in one_line(refusal)
    assert "features" in str(refusal.value)


def test_a_model_of_waveforms_hears_recordings_and_needs_no_features(
    tmp_path: Path, files: dict[str, Path], dataset: Dataset
) -> None:
    config = SpectrogramFusionConfig(filters=4, hidden=8)
    ready = write_predictor(tmp_path, config, None)
    predictor = Predictor.load(ready)
    heard = to_int16(one_second(*read_wav(files["wav"])))
    found = predict_files(predictor, files["light"], files["wav"])
    expected = predictor.predict(read_digit(files["light"])[None], heard[None])
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    served = _load_pyfunc(str(ready)).predict({"image": IMAGES[:2], "waveform": np.stack([heard] * 2)})
    assert list(served.columns) == ["digit", "probability"] == list(columns(config))
    for wrong in ([heard.tolist()] * 2, np.zeros((2, RATE), np.float32)):
        with pytest.raises(InputError, match=r"waveform must be an array \(B, 16000\) of int16"):
            _load_pyfunc(str(ready)).predict({"image": IMAGES[:2], "waveform": wrong})
    waves = np.stack([to_int16(wave) for wave in WAVES])
    test = replace(dataset.require_test(), waveforms=waves)
    whole = predict_partition(predictor, replace(dataset, test=test))
    rows = predictor.predict(IMAGES, waves[test.clip_index])
    np.testing.assert_array_equal(whole.probabilities, rows.probabilities)
    with pytest.raises(InputError, match="this model hears waveforms, and the data set came as features only"):
        predict_partition(predictor, dataset)


def test_missing_extra_and_broken_files_are_refused(
    fusion: Predictor, folders: dict[str, Path], files: dict[str, Path], tmp_path: Path
) -> None:
    silent, text = tmp_path / "silent.wav", tmp_path / "text.png"
    soundfile.write(silent, np.zeros(RATE), RATE)
    text.write_text("no picture")
    image = Predictor.load(folders["image"])
    wrong = [
        (fusion, files["light"], None, "takes image and audio, got image"),
        (fusion, None, None, "got nothing"),
        (image, files["light"], files["wav"], "takes image, got image and audio"),
        (fusion, tmp_path / "none.png", files["wav"], "none.png"),
        (fusion, text, files["wav"], "text.png"),
        (fusion, files["light"], silent, "silent"),
        (fusion, files["light"], files["dark"], "dark.png"),
    ]
    for predictor, picture, sound, said in wrong:
        with pytest.raises(InputError) as refusal:
            predict_files(predictor, picture, sound)
        assert said in one_line(refusal)


# ---- data sets and submissions


def test_a_partition_is_predicted_pair_by_pair(folders: dict[str, Path], dataset: Dataset) -> None:
    clips = CLIPS[dataset.test.clip_index]
    inputs = {"image": (IMAGES, None), "audio": (None, clips), "fusion": (IMAGES, clips)}
    for name, (images, heard) in inputs.items():
        predictor = Predictor.load(folders[name])
        found = predict_partition(predictor, dataset)
        np.testing.assert_array_equal(found.probabilities, predictor.predict(images, heard).probabilities)


def test_clips_on_another_scale_are_brought_to_the_models(fusion: Predictor, dataset: Dataset) -> None:
    others = FeatureStats(mean=(1.0,) * 13, std=(3.0,) * 13, low=-9.0, high=2.0)
    elsewhere = replace(dataset.test, clips=others.apply(mfcc(WAVES)))
    found = predict_partition(fusion, replace(dataset, test=elsewhere, features=others.to_json()))
    np.testing.assert_allclose(found.probabilities, predict_partition(fusion, dataset).probabilities, atol=1e-4)
    np.testing.assert_allclose(unscaled(others, elsewhere.clips), mfcc(WAVES), atol=1e-4)


def test_clips_on_an_unknown_scale_are_refused_by_models_that_hear(folders: dict[str, Path], dataset: Dataset) -> None:
    unknown = replace(dataset, name="bare", features=None)
    with pytest.raises(InputError) as refusal:
        predict_partition(Predictor.load(folders["audio"]), unknown)
    assert "bare is unknown" in one_line(refusal)
    assert len(predict_partition(Predictor.load(folders["image"]), unknown).digit) == 40


def test_a_submission_reads_back(fusion: Predictor, dataset: Dataset, tmp_path: Path) -> None:
    found = predict_partition(fusion, dataset)
    path = tmp_path / "submission.csv"
    path.write_text("older and longer" * 1000)
    write_submission(path, found)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(40))
    assert [int(row["digit"]) for row in rows] == found.digit.tolist()
    np.testing.assert_allclose([float(row["probability"]) for row in rows], found.probability, atol=1e-6)
    assert [entry.name for entry in tmp_path.iterdir()] == ["submission.csv"]


def test_a_submission_that_cannot_be_written_is_refused(fusion: Predictor, tmp_path: Path) -> None:
    found = fusion.predict(IMAGES[:2], CLIPS[:2])
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
    path.write_text(path.read_text().replace(repr(STATS.mean[0]), repr(STATS.mean[0] + 1)))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model/weights.safetensors", flip),
        ("model/weights.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-9])),
        ("model/model.json", lambda path: path.write_text("{")),
        ("features.json", other_mean),
        ("features.json", lambda path: path.write_text("")),
        ("features.json", lambda path: path.write_text("[1]")),
        ("features.json", lambda path: path.write_text(json.dumps({"format": 1}))),
        ("features.json", lambda path: path.write_bytes(b"\xff\xfe")),
        ("features.json", Path.unlink),
        ("model/weights.safetensors", Path.unlink),
    ],
)
def test_a_changed_folder_is_refused(tmp_path: Path, name: str, damage: Any) -> None:
    folder = write_predictor(tmp_path, CONFIGS["audio"], STATS.to_json())
    before = (folder / name).read_bytes()
    damage(folder / name)
    assert not (folder / name).exists() or (folder / name).read_bytes() != before
    with pytest.raises(InputError) as refusal:
        Predictor.load(folder)
    assert Path(name).name in one_line(refusal)


# ---- behind MLflow


def test_served_dicts_of_arrays_become_a_frame(folders: dict[str, Path], fusion: Predictor) -> None:
    frame = _load_pyfunc(str(folders["fusion"])).predict({"image": IMAGES[:4], "audio": CLIPS[:4]})
    assert list(frame.columns) == list(columns(CONFIGS["fusion"]))
    expected = fusion.predict(IMAGES[:4], CLIPS[:4])
    assert frame["digit"].tolist() == expected.digit.tolist()
    assert frame["audio_digit"].tolist() == expected.alone["audio"].digit.tolist()
    assert list(_load_pyfunc(str(folders["image"])).predict({"image": IMAGES[:4]}).columns) == list(
        columns(CONFIGS["image"])
    )


def test_lists_that_come_to_mlflows_server_are_answered_as_arrays(
    folders: dict[str, Path], fusion: Predictor, tmp_path: Path
) -> None:
    from mlflow.pyfunc import load_model
    from mlflow.pyfunc.scoring_server import invocations

    card = {name: fusion.card[name] for name in ("features", "data")}
    write_pyfunc(tmp_path / "made", folders["fusion"] / "model", CONFIGS["fusion"], card, "run")
    model = load_model(str(tmp_path / "made"))
    lists = {"image": IMAGES[:4].tolist(), "audio": CLIPS[:4].tolist()}
    rows = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    expected = fusion.predict(IMAGES[:4], CLIPS[:4])
    for asked in ({"inputs": lists}, {"instances": rows}):
        answer = invocations(json.dumps(asked), "application/json", model, model.metadata.get_input_schema())
        said = json.loads(answer.response)["predictions"]
        assert [row["digit"] for row in said] == expected.digit.tolist()
        assert [row["probability"] for row in said] == pytest.approx(expected.probability.tolist())


def test_served_rubbish_is_refused(folders: dict[str, Path]) -> None:
    served = _load_pyfunc(str(folders["fusion"]))
    image, audio = IMAGES[:2], CLIPS[:2]
    wrong: list[tuple[Any, str]] = [
        ({"image": image, "audio": audio, "video": image}, "got image and audio and video"),
        ({"image": image}, "got image"),
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
    code = "import sys, mmtune.serve.loader; print(*({'mlflow', 'optuna', 'pandas', 'librosa'} & set(sys.modules)))"
    source = str(Path(mmtune.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
