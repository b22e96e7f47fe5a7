"""Whatever comes in, arrays or files, gives a sound answer or one line of refusal, and nothing else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calibrated import never_wrong
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from valid import READERS, require_sound
from valid_data import Reader, heard

from mmtune.base.errors import LONGEST, InputError, one_line
from mmtune.base.sealed import write_sealed
from mmtune.data.digits import DIGITS
from mmtune.data.forms import FORMS, Digit, Form, Mfcc, Ready, Waveform, dtype_of, form_from_json, form_to_json
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig, SpectrogramFusionConfig
from mmtune.networks.kinds import model_from_json
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import Loaded, save_model
from mmtune.serve.answer.predictor import FORMAT, INPUTS, MODEL, Predictor
from mmtune.serve.loader import ServedPredictor
from mmtune.serve.versions import Event
from mmtune.train.familiarity import save_familiarity
from mmtune.train.staging import read_runs

CONFIGS = {
    "image": ImageCNNConfig(),
    "audio": AudioRNNConfig(hidden=4),
    "fusion": LatentFusionConfig(audio=AudioRNNConfig(hidden=4), encoders="joint"),
    "waveform": SpectrogramFusionConfig(filters=2, hidden=4),
}
GIVEN: dict[str, Form] = {"image": Digit(), "audio": Mfcc(), "waveform": Waveform()}
SHAPES = Shapes(banks={"image": (1, 28, 28), "audio": (39, 13), "waveform": (16_000,)}, classes=10)


def quick(examples: int) -> settings:
    """The same examples every time; nothing is kept between runs."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=checks)


@pytest.fixture(scope="module")
def predictors() -> dict[str, Predictor]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = {name: predictor(config) for name, config in CONFIGS.items()}
    return made | {"either": dataclasses.replace(made["fusion"], missing=("image", "audio"))}


def predictor(config: Any) -> Predictor:
    loaded = Loaded(model=config.build(SHAPES).eval(), config=config, shapes=SHAPES)
    forms = {name: GIVEN[name] for name in config.reads}
    calibration = never_wrong(*(config.reads if isinstance(config, LatentFusionConfig) else ()))
    card = {"data": {"name": "made"}}
    return Predictor(loaded=loaded, card=card, classes=DIGITS, forms=forms, missing=(), calibration=calibration)


def require_line(refusal: InputError) -> None:
    line = str(refusal)
    assert line
    assert line.isprintable()
    assert len(line) <= LONGEST


# ---- arrays

NO_CLIP = np.zeros((2, 39, 13), np.float32)
EXTREMES = [0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-45, 3e38, -3e38]
ODD = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=3),
    st.lists(st.floats(), max_size=3),
    arrays(scalar_dtypes(), array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)),
    arrays(object, (2,), elements=st.integers()),
    arrays([("a", "<f4")], (2,)),
)


@st.composite
def nearly(draw: st.DrawFn, name: str) -> Any:
    """An input `name` of the right type and shape, some of its values extreme; or of another type; or rows missing."""
    shape, kind = GIVEN[name].shape, dtype_of(GIVEN[name])
    rows = draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    made = (
        rng.integers(-(2**15), 2**15, (rows, *shape)).astype(kind)
        if kind != np.float32
        else rng.normal(size=(rows, *shape)).astype(kind)
    )
    if rows and kind == np.float32:
        for value in draw(st.lists(st.sampled_from(EXTREMES), max_size=3)):
            made.flat[draw(st.integers(0, made.size - 1))] = value
        made *= draw(st.sampled_from([1, 1e-30, 1e30, 3e38]))
    change = draw(
        st.sampled_from(["none", "none", "none", "type", "cut", "strided", "reversed", "big-endian", "masked"])
    )
    changed = {
        "none": lambda: made,
        "type": lambda: made.astype(draw(st.sampled_from([np.float64, np.int8, np.complex64, bool]))),
        "cut": lambda: made[..., :-1],
        "strided": lambda: np.repeat(made, 2, axis=0)[::2],
        "reversed": lambda: made[::-1],
        "big-endian": lambda: made.astype(made.dtype.newbyteorder(">")),
        "masked": lambda: np.ma.masked_array(made, mask=made > 0),
    }
    with np.errstate(all="ignore"):
        return changed[change]()


@pytest.mark.parametrize("name", [*CONFIGS, "either"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::numpy.exceptions.ComplexWarning")
def test_any_arrays_are_predicted_or_refused(name: str, predictors: dict[str, Predictor]) -> None:
    predictor = predictors[name]
    seen: list[bool] = []
    arrays_of = {bank: st.one_of(nearly(bank), nearly(bank), ODD) for bank in predictor.forms}

    @quick(60)
    @given(st.one_of(st.fixed_dictionaries(arrays_of), st.fixed_dictionaries({}, optional=arrays_of | {"other": ODD})))
    def predict(banks: dict[str, Any]) -> None:
        try:
            found = predictor.predict_values(**banks)
        except InputError as refusal:
            require_line(refusal)
        else:
            require_sound(found)
        seen.append(True)

    predict()
    assert len(seen) >= 50


def test_a_masked_array_is_refused(predictors: dict[str, Predictor]) -> None:
    """What it hides would count all the same, and numpy's own checks pass over it."""
    image = np.ma.masked_array(np.zeros((1, 28, 28), np.uint8), mask=True)
    with pytest.raises(InputError, match="got MaskedArray"):
        predictors["image"].predict_values(image=image)


@pytest.mark.parametrize("image", [np.uint8(1), np.array(1, np.uint8), np.zeros((2**62, 0), np.uint8)], ids=repr)
def test_what_may_be_missing_is_made_for_sound_rows_alone(image: Any, predictors: dict[str, Predictor]) -> None:
    """Not for as many as something else, which is refused, may say that it has."""
    with pytest.raises(InputError, match="image must be an array"):
        predictors["either"].predict_values(image=image)
    with pytest.raises(InputError, match="got nothing"):
        predictors["either"].predict_values()
    given = {"image": np.ones((2, 28, 28), np.uint8)}
    found = predictors["either"].predict_values(**given)
    served = ServedPredictor(predictors["either"]).predict(given)
    assert served["class"].tolist() == found.names
    assert found.names == predictors["fusion"].predict_values(**given, audio=NO_CLIP).alone["image"].names


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=2))
NESTED = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3), max_leaves=8)
KEYS = st.one_of(st.sampled_from(["image", "audio", "waveform"]), st.text(max_size=3), st.integers())


@quick(150)
@given(
    st.one_of(st.dictionaries(KEYS, st.one_of(NESTED, nearly("image"), nearly("audio")), max_size=3), NESTED), NESTED
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::numpy.exceptions.ComplexWarning")
def test_anything_served_is_predicted_or_refused(
    predictors: dict[str, Predictor], given_input: Any, params: Any
) -> None:
    for name, asked in product(("fusion", "either"), (None, params)):
        try:
            frame = ServedPredictor(predictors[name]).predict(given_input, asked)
        except InputError as refusal:
            require_line(refusal)
        else:
            assert set(frame["class"]) <= set(DIGITS)
            assert frame["probability"].between(0, 1).all()


def test_deep_and_endless_lists_are_refused(predictors: dict[str, Predictor]) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    endless: list[Any] = []
    endless.append(endless)
    for value in (deep, endless, [2**80], [[1], [2, 3]], ["a"], [{}], [object()], [[1e300] * 28] * 28):
        with pytest.raises(InputError) as caught:
            ServedPredictor(predictors["image"]).predict({"image": value})
        require_line(caught.value)
    while deep:
        deep = deep.pop()


# ---- files


@st.composite
def damage(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Changes to a file, each a kind, a place as a share of the file, and bytes."""
    kinds = st.sampled_from(["set", "set", "insert", "cut", "repeat", "digits"])
    edges = st.sampled_from([b"\0", b"\xff", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 8, b"[" * 50, b"1e999", b"-1"])
    content = st.one_of(st.binary(min_size=1, max_size=6), edges)
    # Most of what a reader trusts stands at the begin or at the end.
    places = st.one_of(st.floats(0, 1), st.floats(0, 0.02), st.floats(0.98, 1))
    return draw(st.lists(st.tuples(kinds, places, content), min_size=1, max_size=4))


def damaged(content: bytes, changes: Sequence[tuple[str, float, bytes]]) -> bytes:
    for kind, place, own in changes:
        at = int(place * len(content))
        if kind == "set":
            content = content[:at] + own + content[at + len(own) :]
        elif kind == "insert":
            content = content[:at] + own + content[at:]
        elif kind == "cut":
            content = content[:at]
        elif kind == "repeat":
            content = content[:at] + content[max(0, at - 40) : at] * 3 + content[at:]
        else:
            content = content[:at] + content[at:].translate(bytes.maketrans(b"12", b"97"))
    return content


def read_or_refuse(reader: Reader, folder: Path) -> None:
    try:
        reader.mend(folder)
        reader.read(folder)
    except InputError as refusal:
        require_line(refusal)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    folder = tmp_path / "made"
    folder.mkdir()
    reader.make(folder)
    reader.read(folder)
    path = folder / reader.file
    whole = path.read_bytes()

    @quick(40)
    @given(st.one_of(damage(), damage(), st.binary(max_size=200)))
    def read(changes: list[tuple[str, float, bytes]] | bytes) -> None:
        path.write_bytes(changes if isinstance(changes, bytes) else damaged(whole, changes))
        read_or_refuse(reader, folder)

    read()


LINE = b'{"epoch":%s,"time":1,"metrics":{"loss":%s}}\n'
FOUND = {
    "an endless epoch": ("epochs", LINE % (b"1e999", b"1")),
    "a metric beyond floats": ("epochs", LINE % (b"1", b"1" + b"0" * 400)),
    "a deep line": ("epochs", LINE % (b"1", b"[" * 100_000)),
    "a deep result": ("result", b"[" * 100_000),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_stays_refused(name: str, tmp_path: Path) -> None:
    place, content = FOUND[name]
    reader = READERS[place]
    reader.make(tmp_path)
    (tmp_path / reader.file).write_bytes(content)
    with pytest.raises(InputError) as refusal:
        reader.read(tmp_path)
    require_line(refusal.value)


def test_what_says_nothing_of_a_run_in_staging_is_no_run(tmp_path: Path) -> None:
    reader = READERS["staged"]
    reader.make(tmp_path)
    assert len(list(read_runs(tmp_path))) == 1
    (tmp_path / reader.file).write_bytes(b"[" * 100_000)
    assert list(read_runs(tmp_path)) == []


def test_a_flipped_bit_of_an_optimisers_state_is_refused(tmp_path: Path) -> None:
    reader = READERS["checkpoint"]
    reader.make(tmp_path)
    whole = (tmp_path / reader.file).read_bytes()
    for place in (-1, -len(whole) // 3):
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / reader.file).write_bytes(changed)
        with pytest.raises(InputError, match="SHA-256"):
            reader.read(tmp_path)


def test_a_model_of_other_inputs_or_classes_is_not_served(tmp_path: Path) -> None:
    """Whoever forges the inputs of a sound model changes what it would be given, or what its answers are called."""
    config = AudioRNNConfig(hidden=2)
    save_model(tmp_path / MODEL, config.build(SHAPES), config, SHAPES)
    card = {"forms": {"audio": form_to_json(Mfcc())}, "classes": list(DIGITS), "data": {"name": "made"}}
    sound = {**card, "calibration": never_wrong().told(), "usual": {}}
    save_familiarity(tmp_path, {})

    def told(**other: object) -> None:
        write_sealed(tmp_path / INPUTS, FORMAT, sound | other)

    told()
    assert Predictor.load(tmp_path).classes == DIGITS
    ready = [(39, 12), (13,), (1, 39, 13), (39 * 13,)]
    others: list[Any] = [{"audio": form_to_json(Ready(sides=sides))} for sides in ready]
    others += [{"image": form_to_json(Digit())}, {}, [], {"audio": None}, {"audio": {"kind": "vector"}}]
    for wrong in [{"forms": own} for own in others] + [{"classes": list("ab")}, {"classes": "0123456789"}, {"data": 3}]:
        told(**wrong)
        with pytest.raises(InputError) as caught:
            Predictor.load(tmp_path)
        require_line(caught.value)


@quick(60)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_for_files_to_predict_from_are_refused(
    predictors: dict[str, Predictor], tmp_path: Path, picture: bytes, sound: bytes
) -> None:
    (tmp_path / "x.png").write_bytes(picture)
    (tmp_path / "x.wav").write_bytes(sound)
    with pytest.raises(InputError) as caught:
        predictors["waveform"].predict(image=str(tmp_path / "x.png"), audio=str(tmp_path / "x.wav"))
    require_line(caught.value)


@pytest.mark.parametrize("level", [1e-30, 1.0, 1e5, 3e38])
def test_recordings_of_any_level_are_heard_or_refused(level: float, tmp_path: Path) -> None:
    import soundfile

    rng = np.random.default_rng(0)
    for rate in (1_000, 8_000, 44_100, 768_000):
        soundfile.write(tmp_path / "x.wav", rng.uniform(-level, level, 900), rate, subtype="FLOAT")
        try:
            heard(tmp_path / "x.wav")
        except InputError as refusal:
            require_line(refusal)


# ---- JSON

JSON = st.recursive(
    st.one_of(VALUES, st.sampled_from([1e999, 10**400, "image_cnn", "3", [], {}])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)
FIELDS = ["kind", "hidden", "layers", "view", "image", "audio", "kernel", "stride", "norm", "heads", "width", "steps"]
KINDS = [
    "ImageCNNConfig",
    "AudioRNNConfig",
    "LatentFusionConfig",
    "MultiheadFusionConfig",
    "DualCNNConfig",
    "SpectrogramFusionConfig",
    "XFlowLSTMConfig",
]


@quick(300)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), st.sampled_from(KINDS))
def test_any_card_describes_a_model_or_is_refused(fields: dict[str, Any], kind: str) -> None:
    try:
        assert set(model_from_json({"kind": kind, **fields}).reads) <= set(GIVEN)
    except InputError as refusal:
        require_line(refusal)


@quick(100)
@given(st.one_of(JSON, st.dictionaries(st.sampled_from(["kind", "image"]), st.one_of(JSON, st.sampled_from(KINDS)))))
def test_any_json_is_a_network_or_refused(found: Any) -> None:
    try:
        assert model_from_json(found).reads
    except InputError as refusal:
        require_line(refusal)


SCALE = st.one_of(JSON, st.lists(st.floats(), min_size=13, max_size=13), st.lists(st.floats(0.1, 2), min_size=3))
NUMBER = st.one_of(JSON, st.floats(), st.integers())
OF_FORMS = {
    **dict.fromkeys(("mean", "std"), SCALE),
    **dict.fromkeys(("low", "high", "seconds", "height", "width", "bands"), NUMBER),
    "sides": st.one_of(JSON, st.lists(st.integers(-2, 40), max_size=4)),
    "columns": st.one_of(JSON, st.lists(st.text(max_size=3), max_size=4)),
    "of": st.one_of(JSON, st.sampled_from(["float32", "uint8", "object"])),
    **dict.fromkeys(("colour", "filled"), st.one_of(JSON, st.booleans())),
}


@quick(150)
@given(st.data())
def test_any_form_is_a_form_or_refused(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([*FORMS]))
    known = {field.name: OF_FORMS[field.name] for field in dataclasses.fields(FORMS[kind])}
    own = data.draw(st.one_of(st.fixed_dictionaries(known), st.dictionaries(st.sampled_from([*OF_FORMS]), JSON), JSON))
    told = {"kind": data.draw(st.one_of(st.just(kind), JSON)), **own} if isinstance(own, dict) else own
    try:
        form = form_from_json(told, "x")
    except InputError as refusal:
        require_line(refusal)
    else:
        values = np.zeros((1, *form.shape), dtype_of(form))
        assert form_from_json(form_to_json(form), "x") == form
        assert form.scaled(values).shape == form.unscaled(values).shape == values.shape


@quick(200)
@given(st.one_of(st.text(), JSON.map(lambda value: json.dumps(value)), st.just("[" * 100_000)))
def test_any_tag_is_an_event_or_refused(text: str) -> None:
    try:
        event = Event.from_json(text)
    except InputError as refusal:
        require_line(refusal)
    else:
        assert isinstance(event.version, str)


@quick(100)
@given(st.text(max_size=50), st.integers(0, 100))
def test_every_refusal_is_one_printable_line(text: str, times: int) -> None:
    line = one_line(text * times)
    assert line.isprintable()
    assert "\n" not in line
    assert len(line) <= 10 * LONGEST
    if (text * times).isprintable() and len(text) * times <= LONGEST:
        assert line == text * times
