"""Temperatures, thresholds and sets from validation rows, held against scipy, brute force and their own promises."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import beta, binom
from torch import Tensor

from mmtune.base.errors import InputError
from mmtune.base.sealed import read_sealed, write_sealed
from mmtune.train import temperature as module
from mmtune.train.calibration import FALSE_ALARMS, Calibration, agreement, calibrate
from mmtune.train.calibration_file import FORMAT, calibration_from, read_calibration, write_calibration
from mmtune.train.evaluate import Evaluation
from mmtune.train.metrics import calibration_error, confidence_of
from mmtune.train.scale import LEAST_KEPT, POINTS, SURE, bins_of, ranks_of, risk_of
from mmtune.train.temperature import LIMIT, at_limit, cross_fitted, fit_temperature

ROWS, CLASSES = 2000, 5


def drawn(rows: int = ROWS, sharpness: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (N, C), and labels drawn from their softmax, so that they are calibrated if sharpness is 1."""
    rng = np.random.default_rng(seed)
    logits = 2.5 * rng.normal(size=(rows, CLASSES))
    shares = softmax(logits, axis=1)
    labels = (shares.cumsum(1) > rng.random((rows, 1))).argmax(1)
    return torch.from_numpy(logits * sharpness), torch.from_numpy(labels)


def evaluation(sharpness: float = 2.0, rows: int = ROWS) -> Evaluation:
    logits, labels = drawn(rows, sharpness)
    alone = {bank: drawn(rows, sharpness, seed)[0] + 3 * logits for seed, bank in enumerate(("image", "audio"), 1)}
    return Evaluation(logits=logits, embedding=logits, alone=alone, labels=labels, parts={})


def everywhere(rows: int = ROWS) -> dict[str, NDArray[np.bool_]]:
    return {bank: np.ones(rows, np.bool_) for bank in ("image", "audio")}


@pytest.fixture(scope="module")
def made() -> Calibration:
    return calibrate(evaluation(), np.arange(ROWS) // 4, everywhere())


# ---- temperatures


def test_a_temperature_minimises_the_cross_entropy_as_scipy_does() -> None:
    for sharpness in (0.3, 1.0, 4.0):
        logits, labels = drawn(sharpness=sharpness)

        def loss(log: float, logits: Tensor = logits, labels: Tensor = labels) -> float:
            return -log_softmax(logits.numpy() / math.exp(log), axis=1)[np.arange(ROWS), labels].mean()

        expected = minimize_scalar(loss, bounds=(-LIMIT, LIMIT), method="bounded", options={"xatol": 1e-7}).x
        assert math.log(fit_temperature(logits, labels)) == pytest.approx(expected, abs=1e-4)
        assert fit_temperature(logits, labels) == pytest.approx(sharpness, rel=0.08)


def test_logits_times_a_number_have_that_many_times_the_temperature() -> None:
    logits, labels = drawn()
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * fit_temperature(logits, labels), rel=1e-4)


def test_a_temperature_is_kept_within_its_limits_and_says_so() -> None:
    logits, labels = drawn()
    for factor, end in ((1e-6, -LIMIT), (1e6, LIMIT)):
        found = fit_temperature(factor * logits, labels)
        assert math.log(found) == pytest.approx(end)
        assert at_limit(found)
    assert not at_limit(fit_temperature(logits, labels))
    worse_than_chance = fit_temperature(-logits, labels)
    assert math.log(worse_than_chance) == pytest.approx(LIMIT)


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 20.0])
def test_rows_that_are_all_right_are_as_sure_as_so_many_allow(sharpness: float) -> None:
    """By the cross-entropy against Platt's targets, which scipy minimises."""
    gap = torch.rand(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 2
    logits = sharpness * torch.stack([gap / 2, -gap / 2], dim=1)
    labels = torch.zeros(len(logits), dtype=torch.int64)
    target = (len(logits) + 1) / (len(logits) + 2)

    def loss(sharper: float) -> float:
        shares = log_softmax(sharper * logits.numpy(), axis=1)
        return -float((target * shares[:, 0] + (1 - target) * shares[:, 1]).mean())

    found = fit_temperature(logits, labels)
    expected = minimize_scalar(lambda log: loss(math.exp(log)), bounds=(-LIMIT, LIMIT), method="bounded").x
    assert -math.log(found) == pytest.approx(expected, abs=1e-3)
    assert float(confidence_of(logits / found).mean()) == pytest.approx(target, abs=2e-3)


def test_no_rows_have_a_temperature_of_one() -> None:
    logits, labels = drawn()
    assert fit_temperature(logits[:0], labels[:0]) == 1.0


def test_many_classes_and_rows_are_asked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = drawn(sharpness=2.0)
    whole = fit_temperature(logits, labels)
    monkeypatch.setattr(module, "CELLS", 7 * CLASSES)
    assert fit_temperature(logits, labels) == pytest.approx(whole, rel=1e-6)


def test_rows_are_measured_by_a_temperature_that_others_gave() -> None:
    logits, labels = drawn(sharpness=3.0)
    units = torch.arange(ROWS) // 10
    found = cross_fitted(logits, labels, units)
    assert found is not None
    told = cross_fitted(torch.where(units[:, None] == 0, 9 * logits, logits), labels, units)
    assert told is not None
    # What unit 0 says changes what is made of the other half alone.
    others = set(units[(told != found) & (units != 0)].tolist())
    assert len(others) == ROWS // 10 // 2
    assert not bool((told != found)[~torch.isin(units, torch.tensor([0, *others]))].any())
    assert cross_fitted(logits, labels, torch.zeros_like(units)) is None
    right = logits.argmax(1) == labels
    assert calibration_error(found, right) < calibration_error(confidence_of(logits), right) / 4


def test_each_half_has_of_every_class_alike_whatever_the_order_of_rows() -> None:
    logits, labels = drawn()
    for order in (torch.arange(ROWS), labels.argsort(stable=True)):
        rows, own = logits[order], labels[order]
        found, told = (
            cross_fitted(given, own, torch.arange(ROWS)) for given in (rows, torch.cat([9 * rows[:1], rows[1:]]))
        )
        assert found is not None
        assert told is not None
        half = torch.bincount(own[1:][(told != found)[1:]], minlength=CLASSES)
        assert bool(((half - torch.bincount(own, minlength=CLASSES) / 2).abs() <= 1).all())


# ---- reliability, risk, ranks


def test_bins_have_the_calibration_error() -> None:
    logits, labels = drawn(sharpness=2.0)
    confidence, right = confidence_of(logits), logits.argmax(1) == labels
    assert bins_of(confidence.numpy(), right.numpy()).error == pytest.approx(calibration_error(confidence, right))


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Confidence (N,) with equal values, whether rows are right, units."""
    rng = np.random.default_rng(1)
    confidence = rng.random(ROWS).round(2) / 2 + 0.5
    return confidence, rng.random(ROWS) < confidence, rng.integers(0, 300, ROWS)


Told = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]


def test_risk_counts_what_is_at_or_above_a_confidence(rows: Told) -> None:
    confidence, right, units = rows
    found = risk_of(confidence, right, units)
    assert len(found.confidence) <= POINTS
    for n, least in enumerate(found.confidence):
        above = confidence >= least
        told = (above.sum(), (~right[above]).sum(), len(np.unique(units[above])))
        assert (found.rows[n], found.wrong[n], found.units[n]) == told
    assert found.rows[0] == ROWS


def test_a_threshold_is_the_least_down_to_which_all_bounds_keep_to_the_error(rows: Told) -> None:
    found = risk_of(*rows)
    for error in (0.02, 0.05, 0.1, 0.2):
        least = math.inf
        for confidence, count, wrong, units in reversed(
            list(zip(found.confidence, found.rows, found.wrong, found.units, strict=True))
        ):
            if beta.ppf(SURE, 1, units) > error or count < LEAST_KEPT * ROWS:
                continue  # too few to say so of anything
            if beta.ppf(SURE, units * wrong / count + 1, units - units * wrong / count) > error:
                break
            least = confidence
        assert found.threshold(error) == least
    assert found.threshold(1e-6) == math.inf


def test_where_confidence_says_nothing_looking_for_a_threshold_finds_none_as_surely_as_promised() -> None:
    """All answers are wrong a little more often than asked: what is found is found by chance, once in ten."""
    rng, draws = np.random.default_rng(0), 400
    found = sum(
        risk_of(rng.random(1000), rng.random(1000) >= 0.052, np.arange(1000)).threshold(0.05) < math.inf
        for _ in range(draws)
    )
    assert found <= binom.ppf(0.999, draws, 1 - SURE)


def test_rows_of_a_unit_make_no_surer(rows: Told) -> None:
    """Thirty pairs with one recording are no thirty answers."""
    confidence, right, _ = rows
    few = risk_of(confidence, right, np.arange(ROWS))
    many = risk_of(*(np.repeat(own, 30) for own in (confidence, right, np.arange(ROWS))))
    for error in (0.05, 0.1):
        assert many.threshold(error) == few.threshold(error)


def test_what_was_never_wrong_is_known_to_be_right_as_far_as_its_units_reach() -> None:
    """The rule of three, by 90 %: the upper bound of none of n is 1 - 0.1^(1/n)."""
    found = risk_of(np.linspace(0.5, 1, 100), np.ones(100, np.bool_), np.arange(100))
    bound = 1 - 0.1 ** (1 / 100)
    assert found.threshold(bound * 1.001) == 0.5
    assert found.threshold(bound * 0.999) == math.inf


def test_a_set_holds_the_true_class_as_often_as_asked_on_average() -> None:
    held = {0.8: [], 0.95: []}  # type: dict[float, list[float]]
    for seed in range(30):
        logits, labels = drawn(400, sharpness=3.0, seed=seed)
        half = Evaluation(logits=logits[:200], embedding=logits, alone={}, labels=labels[:200], parts={})
        scale = calibrate(half, np.arange(200), {}).fused
        shares = (logits[200:] / scale.temperature).softmax(1).gather(1, labels[200:, None])
        for coverage, own in held.items():
            own.append(float((shares >= scale.least(coverage)).double().mean()))
    for coverage, own in held.items():
        assert coverage - 0.01 < np.mean(own) < coverage + 0.03


def test_a_sets_least_probability_is_the_conformal_quantile() -> None:
    logits, labels = drawn(99)
    found = calibrate(
        Evaluation(logits=logits, embedding=logits, alone={}, labels=labels, parts={}), np.arange(99), {}
    ).fused
    scores = np.sort(1 - softmax(logits.numpy() / found.temperature, axis=1)[np.arange(99), labels])
    for coverage in (0.5, 0.9, 0.95, 0.99):
        assert found.least(coverage) == pytest.approx(1 - scores[math.ceil(100 * coverage) - 1], abs=1e-9)
    assert found.least(0.995) == 0.0


def test_ranks_keep_the_greatest_score() -> None:
    scores = np.random.default_rng(0).random(10 * POINTS)
    found = ranks_of(scores)
    assert len(found.score) <= POINTS
    assert (found.score[-1], found.rows[-1]) == (scores.max(), len(scores))
    assert [int((scores <= score).sum()) for score in found.score] == list(found.rows)


# ---- banks that contradict each other


def test_so_few_validation_rows_are_taken_for_contradictions(made: Calibration) -> None:
    said = [own / made.alone[bank].temperature for bank, own in evaluation().alone.items()]
    reached = agreement([own.softmax(1) for own in said])
    assert made.agreement is not None
    assert 0 < float((reached < made.agreement).double().mean()) <= FALSE_ALARMS + 1 / ROWS


def test_what_a_bank_says_of_no_value_counts_for_nothing() -> None:
    found, there = evaluation(), everywhere()
    there["audio"][::2] = False
    gaps = calibrate(found, np.arange(ROWS), there)
    assert gaps.alone["audio"].rows == ROWS / 2
    found.alone["audio"][::2] = -found.alone["audio"][::2]
    assert calibrate(found, np.arange(ROWS), there) == gaps
    there["audio"][:] = False
    without = calibrate(found, np.arange(ROWS), there)
    assert (list(without.alone), without.agreement) == (["image"], None)


def test_metrics_are_both_errors_and_the_temperatures(made: Calibration) -> None:
    found = made.metrics()
    names = ("temperature", "val_calibration_error_scaled")
    assert found.keys() == {*names, "val_calibration_error_image", "val_calibration_error_audio"} | {
        f"{name}_{bank}" for name in names for bank in ("image", "audio")
    }
    assert found["val_calibration_error_scaled"] < made.fused.before.error


# ---- the file


def test_a_calibration_reads_back(made: Calibration, tmp_path: Path) -> None:
    write_calibration(tmp_path / "calibration.json", made)
    assert read_calibration(tmp_path / "calibration.json") == made
    (tmp_path / "calibration.json").write_text((tmp_path / "calibration.json").read_text().replace("0.", "1.", 1))
    with pytest.raises(InputError, match="changed or cut"):
        read_calibration(tmp_path / "calibration.json")


def put(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(told: Any) -> None:
        for key in path[:-1]:
            told = told[key]
        told[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("more", value=1), "must have fused, alone, agreement"),
        (put("fused", value=None), "fused must have temperature"),
        (put("fused", "temperature", value=0), "temperature must be numbers from"),
        (put("fused", "temperature", value=math.nan), "temperature must be numbers from"),
        (put("fused", "temperature", value="1"), "temperature must be numbers from"),
        (put("fused", "units", value=True), "units must be whole numbers"),
        (put("fused", "units", value=3), "risk must be of"),
        (put("fused", "risk", "confidence", value=[]), "confidence must be 1 to"),
        (put("fused", "risk", "confidence", value=[0.5] * 5000), "confidence must be 1 to"),
        (put("fused", "risk", "confidence", value=[0.5]), "as many values of each kind"),
        (put("fused", "risk", "confidence", 0, value=1.0), "the more confidence they have"),
        (put("fused", "risk", "rows", 1, value=10**6), "the more confidence they have"),
        (put("fused", "risk", "wrong", -1, value=10**6), "the more confidence they have"),
        (put("fused", "ranks", "score", 0, value=math.inf), "score must be numbers from 0 to 1"),
        (put("fused", "ranks", "rows", 0, value=10**6), "more rows the higher the score"),
        (put("fused", "before", value=None), "bins must hold"),
        (put("fused", "before", "rows", 3, value=10**6), "bins must"),
        (put("fused", "after", "right", value=[0]), "as many values of each kind"),
        (put("alone", value=[]), "alone must have a scale by bank"),
        (put("alone", "image", value={}), "image alone must have temperature"),
        (put("agreement", value=1.5), "agreement must be numbers from 0 to 1"),
    ],
)
def test_what_is_no_calibration_is_refused(
    made: Calibration, change: Callable[[Any], None], said: str, tmp_path: Path
) -> None:
    told = json.loads(json.dumps(made.told()))
    change(told)
    with pytest.raises(InputError, match=said) as refusal:
        calibration_from(told, "here")
    assert str(refusal.value).startswith("here")
    write_sealed(tmp_path / "calibration.json", FORMAT, told)
    with pytest.raises(InputError):
        read_calibration(tmp_path / "calibration.json")
    assert read_sealed(tmp_path / "calibration.json", FORMAT)["format"] == FORMAT
