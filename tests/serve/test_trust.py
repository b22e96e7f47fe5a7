"""What a prediction says beside its class: who disagrees, what is missing, when it abstains, which classes are left."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmtune import cli
from mmtune.base.errors import InputError
from mmtune.data.forms import Digit, Form, Mfcc, Ready, Vector
from mmtune.networks.output import Output
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import Loaded
from mmtune.serve.answer.prediction import Caution, as_prediction, read_share
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.answer.telling import describe
from mmtune.serve.loader import ServedPredictor, columns
from mmtune.train.calibration import Calibration, calibrate
from mmtune.train.evaluate import Evaluation

CLASSES = ("one", "two", "three", "four")
FORMS: dict[str, Form] = {"image": Ready(sides=(4,)), "audio": Ready(sides=(4,))}
SHAPES = Shapes(banks={"image": (4,), "audio": (4,)}, classes=4)


class Sum(nn.Module):
    """Logits are a bank's own values, and those of both their sum."""

    def __init__(self, alone: bool = True) -> None:
        super().__init__()
        self.alone = alone

    def forward(self, image: Tensor, audio: Tensor) -> Output:
        return Output(image + audio, image, {"image": image, "audio": audio} if self.alone else {})


@dataclass(frozen=True)
class SumConfig:
    reads: tuple[str, ...] = ("image", "audio")


def said(labels: NDArray[np.int64], wrong: float, seed: int) -> NDArray[np.float32]:
    """Logits (B, 4) of a bank that is sure of the label, but of so many rows leans to another class."""
    rng = np.random.default_rng(seed)
    errs = rng.random(len(labels)) < wrong
    named, sure = np.where(errs, (labels + 1) % 4, labels), np.where(errs, 2, 10)
    return (rng.normal(size=(len(labels), 4)) + sure[:, None] * np.eye(4)[named]).astype(np.float32)


def rows(count: int, wrong: float = 0.02, seed: int = 0) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    labels = np.random.default_rng(seed).integers(0, 4, count)
    return {bank: said(labels, wrong, 10 * seed + n) for n, bank in enumerate(FORMS)}, labels


def measured(alone: bool = True, count: int = 2000) -> Calibration:
    given, labels = rows(count)
    model = Sum(alone)
    out = model(**{bank: torch.from_numpy(values) for bank, values in given.items()})
    found = Evaluation(
        logits=out.logits, embedding=out.logits, alone=dict(out.alone), labels=torch.from_numpy(labels), parts={}
    )
    return calibrate(found, np.arange(count), dict.fromkeys(FORMS, np.ones(count, np.bool_)))


def predictor_of(alone: bool = True, missing: tuple[str, ...] = ()) -> Predictor:
    return Predictor(
        loaded=Loaded(model=Sum(alone).eval(), config=SumConfig(), shapes=SHAPES),
        card={"data": {"name": "made"}},
        classes=CLASSES,
        forms=FORMS,
        missing=missing,
        calibration=measured(alone),
    )


@pytest.fixture(scope="module")
def model() -> Predictor:
    return predictor_of()


ONE, TWO = (np.eye(4, dtype=np.float32)[[n]] * 10 for n in range(2))


# ---- who disagrees


def test_conflicts_are_told_and_good_rows_are_left_alone(model: Predictor) -> None:
    given, labels = rows(2000, seed=1)
    order = np.random.default_rng(2).permutation(len(labels))
    good = model.predict(**given)
    mixed = model.predict(image=given["image"], audio=given["audio"][order])
    apart = labels != labels[order]
    assert (~good.agree).mean() <= 0.02
    assert (~mixed.agree[apart]).mean() >= 0.95
    assert good.abstained.tolist() == (~good.agree).tolist()


def test_a_conflict_is_one_line_with_both_answers(model: Predictor) -> None:
    found = model.predict(image=ONE, audio=TWO)
    assert (found.agree.tolist(), found.abstained.tolist(), found.comparable) == ([False], [True], True)
    lines = describe(model, found).splitlines()
    sure = f"{found.alone['image'].probability[0]:.2f}".removeprefix("0")
    assert f"image says one ({sure}), audio says two ({sure})" in lines
    assert lines[-1] == "abstains: image and audio contradict each other"
    together = model.predict(image=ONE, audio=ONE)
    assert together.agree.all()
    assert not together.abstained.any()


def test_of_two_that_contradict_each_other_the_nearer_one_to_training_answers(model: Predictor) -> None:
    given = {"image": np.concatenate([ONE, ONE, ONE]), "audio": np.concatenate([TWO, TWO, ONE])}
    found = model.predict(**given)
    far = {"image": np.array([0.5, 2.0, 2.0], np.float32), "audio": np.array([1.0, 0.5, 0.5], np.float32)}
    decided = found.decided(far)
    assert decided.names == ["one", "two", "one"]
    assert decided.probability[:2].tolist() == [found.alone[b].probability[n] for n, b in enumerate(FORMS)]
    assert decided.probability[2] == found.probability[2]
    assert decided.members[np.arange(3), decided.label].all()
    assert np.array_equal(decided.abstained, found.abstained)
    assert (found.decider, decided.decider) == ([], ["image", "audio", ""])
    assert decided.at(1).decider == ["audio"]
    assert found.decided({"image": far["image"]}) is found


def test_a_third_one_that_contradicts_nobody_does_not_answer_for_two_that_do() -> None:
    """Also where both of them are infinitely far from training."""
    shares = {"a": [0.0, 0.0, 0.99, 0.01], "b": [0.99, 0.01, 0.0, 0.0], "c": [0.24, 0.26, 0.25, 0.25]}
    logits = {bank: torch.tensor([own] * 2).clamp(min=1e-6).log() for bank, own in shares.items()}
    scale = measured().fused
    known = Calibration(fused=scale, alone=dict.fromkeys(logits, replace(scale, temperature=1.0)), agreement=0.05)
    found = as_prediction(logits["c"], logits, CLASSES, known, Caution())
    assert {bank: rows.tolist() for bank, rows in found.opposed.items()} == {
        "a": [True, True],
        "b": [True, True],
        "c": [False, False],
    }
    far = {"a": [2.0, np.inf], "b": [1.0, np.inf], "c": [0.1, 0.1]}
    decided = found.decided({bank: np.array(own, np.float32) for bank, own in far.items()})
    assert decided.decider == ["b", "a"]
    assert decided.label.tolist() == [0, 2]


def test_names_that_differ_are_no_conflict_where_one_is_unsure(model: Predictor) -> None:
    unsure = np.array([[1.0, 1.1, 0.9, 1.0]], np.float32)
    assert model.predict(image=ONE, audio=unsure).agree.all()


def test_a_picture_and_a_recording_are_called_that(model: Predictor) -> None:
    forms: dict[str, Form] = {"image": Digit(), "audio": Mfcc()}
    found = model.predict(image=ONE, audio=TWO)
    assert "picture says one (" in describe(replace(model, forms=forms), found)
    assert "the recording is missing" in describe(replace(model, forms=forms), model.predict(image=ONE))
    forms["audio"] = Vector(columns=("a", "b"))
    assert ", numbers say two (" in describe(replace(model, forms=forms), found)
    assert "the numbers are missing" in describe(replace(model, forms=forms), model.predict(image=ONE))


def test_the_most_probable_classes_are_told(model: Predictor) -> None:
    found = model.predict(image=ONE, audio=ONE)
    order = np.argsort(-found.probabilities[0])
    told = describe(model, found, top=2).splitlines()[1]
    assert told.split()[:2] == ["top", found.classes[order[0]]]
    assert [part.split()[-2] for part in told.split(", ")] == [found.classes[own] for own in order[:2]]


def test_thresholds_do_not_turn_on_what_they_were_made_of() -> None:
    """Rows that calibrated are in sets as often as asked, and of so few the least that agree contradict nobody."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        # As numbers in categories have it: many rows say the very same.
        kinds = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
        kind, labels = rng.integers(4, size=60), torch.from_numpy(rng.integers(3, size=60))
        one, other = (torch.from_numpy(own[kind]) for own in kinds)
        evaluation = Evaluation(logits=one, embedding=one, alone={"a": one, "b": other}, labels=labels, parts={})
        found = calibrate(evaluation, np.arange(60), {bank: np.ones(60, bool) for bank in ("a", "b")})
        said = as_prediction(one, {"a": one, "b": other}, ("x", "y", "z"), found, Caution(coverage=0.8))
        assert said.members[np.arange(60), labels].mean() >= 0.8
        assert said.agree.all()


def test_a_network_without_answers_of_each_bank_cannot_be_compared() -> None:
    model = predictor_of(alone=False)
    found = model.predict(image=ONE, audio=TWO)
    assert (found.comparable, found.agree.tolist()) == (False, [True])
    assert "its parts cannot be compared" in describe(model, found)


def test_what_is_said_of_no_value_contradicts_nothing(model: Predictor) -> None:
    banks = {"image": np.concatenate([ONE, ONE]), "audio": np.concatenate([TWO, TWO])}
    present = {"image": np.array([True, True]), "audio": np.array([True, False])}
    assert model.predict_rows(banks, present).agree.tolist() == [False, True]


# ---- one bank alone


def test_a_bank_alone_is_answered_by_its_own_head_and_marked(model: Predictor) -> None:
    given, _ = rows(50, seed=3)
    found, both = model.predict(image=given["image"]), model.predict(**given)
    np.testing.assert_array_equal(found.probabilities, both.alone["image"].probabilities)
    assert (found.by, found.missing, list(found.alone)) == ("image", ("audio",), ["image"])
    assert "answered by the image alone: the audio is missing" in describe(model, found)
    with pytest.raises(InputError, match="takes image and audio, got nothing"):
        model.predict()


def test_without_a_head_a_bank_is_left_out_only_where_that_was_learnt() -> None:
    with pytest.raises(InputError, match="takes image and audio, got image"):
        predictor_of(alone=False).predict(image=ONE)
    learnt = predictor_of(alone=False, missing=("image", "audio"))
    found = learnt.predict(image=ONE)
    assert (found.by, found.missing) == ("", ("audio",))
    assert "answered as learnt without it: the audio is missing" in describe(learnt, found)


# ---- abstaining, and sets


def test_what_is_answered_keeps_to_the_error_that_was_asked_for(model: Predictor) -> None:
    given, labels = rows(4000, wrong=0.15, seed=4)
    hard = replace(model, calibration=calibration_of(*rows(4000, wrong=0.15, seed=5)))
    every = hard.predict(**given)
    assert (every.label != labels).mean() > 0.01
    kept = [hard.cautious(abstain_at=error).predict(**given) for error in (0.01, 0.004)]
    for error, found in zip((0.01, 0.004), kept, strict=True):
        answered = found.probability >= np.float32(found.threshold)
        assert answered.any()
        assert (found.label != labels)[answered].mean() <= error
        np.testing.assert_array_equal(found.abstained, ~answered | ~found.agree)
        np.testing.assert_array_equal(found.probabilities, every.probabilities)
    assert kept[1].abstained.sum() >= kept[0].abstained.sum()


def calibration_of(given: dict[str, NDArray[np.float32]], labels: NDArray[np.int64]) -> Calibration:
    out = Sum()(**{bank: torch.from_numpy(values) for bank, values in given.items()})
    told = {"logits": out.logits, "embedding": out.logits, "alone": dict(out.alone), "parts": {}}
    there = dict.fromkeys(FORMS, np.ones(len(labels), np.bool_))
    return calibrate(Evaluation(**told, labels=torch.from_numpy(labels)), np.arange(len(labels)), there)


def test_where_no_probability_keeps_to_an_error_everything_abstains_and_it_is_said(model: Predictor) -> None:
    careful = model.cautious(abstain_at=1e-6)
    found = careful.predict(image=ONE, audio=ONE)
    assert found.threshold == np.inf
    assert found.abstained.all()
    line = describe(careful, found).splitlines()[-1]
    assert line.startswith("abstains: no probability is known to keep errors to 0.0001 %")
    assert line.endswith("(90 % sure, by 2,000 validation rows of 2,000 independent units)")


def test_sets_hold_the_true_class_as_often_as_asked_and_never_nothing(model: Predictor) -> None:
    given, labels = rows(4000, seed=6)
    sizes = []
    for coverage in (0.5, 0.95, 0.999):
        found = model.cautious(coverage=coverage).predict(**given)
        held = found.members[np.arange(len(labels)), labels]
        assert held.mean() >= coverage - 0.01
        assert found.members[np.arange(len(labels)), found.label].all()
        assert [own[0] for own in found.set] == found.names
        assert [len(own) for own in found.set] == found.members.sum(1).tolist()
        sizes.append(found.members.sum())
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("share", [0, 1, -0.1, 2, True, "1%", float("nan")])
def test_what_is_no_share_is_refused(share: Any) -> None:
    with pytest.raises(InputError, match="abstain_at must be a share between 0 and 1"):
        Caution(abstain_at=share)
    with pytest.raises(InputError, match="coverage must be a share between 0 and 1"):
        Caution(coverage=share)


def test_shares_are_read_as_they_are_written() -> None:
    assert read_share("--coverage", "95%") == read_share("--coverage", "0.95") == read_share("--coverage", " 95 %")
    with pytest.raises(InputError, match=r"--abstain-at must be a share such as 1% or 0\.01, got 'few'"):
        read_share("--abstain-at", "few")


# ---- served, and by command


def test_served_rows_say_whether_to_believe_them(model: Predictor) -> None:
    served = ServedPredictor(model)
    frame = served.predict({"image": np.concatenate([ONE, ONE]), "audio": np.concatenate([ONE, TWO])})
    assert list(frame.columns) == list(columns(model))
    assert frame["agree"].tolist() == [True, False]
    assert frame["abstained"].tolist() == [False, True]
    assert frame["set"].str.split(", ").str[0].tolist() == frame["class"].tolist()
    alone = served.predict({"image": ONE})
    assert list(alone.columns) == list(columns(model))
    assert alone["audio_class"].isna().all()
    json.dumps(frame.to_dict("records"))


def test_the_command_ends_with_3_where_it_abstains(
    model: Predictor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("mmtune.api.loading.load", lambda *_, **__: model)
    monkeypatch.setattr(Predictor, "_values", lambda self, given: {name: np.load(own) for name, own in given.items()})
    for name, values in (("one", ONE), ("two", TWO)):
        np.save(tmp_path / f"{name}.npy", values)

    def command(*words: str) -> tuple[int | str | None, str]:
        monkeypatch.setattr("sys.argv", ["mmtune", "predict", "--model", "made", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().out

    one, two = (str(tmp_path / f"{name}.npy") for name in ("one", "two"))
    assert command("--image", one, "--audio", one)[0] == 0
    code, said = command("--image", one, "--audio", two)
    assert code == 3
    assert "image says one" in said
    assert command("--image", one, "--audio", one, "--abstain-at", "0.0001%")[0] == 3
    assert command("--image", one, "--audio", one, "--coverage", "all")[0] == 2


def test_a_row_by_itself_says_what_it_said_among_others(model: Predictor) -> None:
    found = model.predict(image=np.concatenate([ONE, TWO]), audio=np.concatenate([ONE, ONE]))
    found = found.doubted({"image": ["", "odd"]})
    for row in range(2):
        alone = found.at(row)
        assert len(alone) == 1
        assert (alone.names[0], alone.set[0]) == (found.names[row], found.set[row])
        assert (alone.familiar[0], alone.agree[0], alone.abstained[0]) == (
            found.familiar[row],
            found.agree[row],
            found.abstained[row],
        )
        assert describe(model, alone) == describe(model, found, row)
