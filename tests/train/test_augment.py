"""A batch while a model is trained: banks are changed by name, rows mixed whole, banks left out but never all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from scipy.stats import beta
from torch import Tensor
from torch.autograd.profiler import profile
from torch.nn.functional import one_hot

from mmtune.base.errors import InputError
from mmtune.base.fields import replace_path
from mmtune.networks.inputs import valid_steps
from mmtune.networks.shapes import Shapes
from mmtune.study import catalogue
from mmtune.study.space import Real, Space
from mmtune.train.augment import augmenter, change_of, dropped, exposed, larger_share, mixed
from mmtune.train.augmentations import (
    Augmentation,
    PictureAugmentation,
    SoundAugmentation,
    SpeechAugmentation,
    VectorAugmentation,
)
from mmtune.train.batches import Held, Rows
from mmtune.train.recipe import Train

CLASSES, ROWS = 5, 64
AUGMENT: Mapping[str, Augmentation] = {
    "image": PictureAugmentation(shift=0.1, rotate=15, scale=0.2, erase=0.3),
    "clip": SoundAugmentation(shift=0.2, mel_shift=0.2, gain=0.5, noise=0.2, frequency_mask=0.3, time_mask=0.3),
    "wave": SoundAugmentation(shift=0.1, gain=6, noise=0.2, time_mask=0.2),
    "speech": SpeechAugmentation(speed=0.3, shift=0.001, tilt=6, room=0.1, noise=0.8),
    "body": VectorAugmentation(noise=0.3),
}


def rows_on(device: str = "cpu") -> Rows:
    """A bank of each kind; every other clip is padded, and every third row has no body."""
    make = torch.Generator().manual_seed(4)
    clips = torch.randn(ROWS, 12, 5, generator=make)
    clips[::2, 7:] = 0
    values = {
        "image": torch.randint(0, 256, (ROWS, 8, 9), dtype=torch.uint8, generator=make),
        "clip": clips,
        "wave": torch.randint(-9000, 9000, (ROWS, 100), dtype=torch.int16, generator=make),
        "speech": torch.randint(-9000, 9000, (ROWS, 800), dtype=torch.int16, generator=make),
        "body": 100 * torch.randn(ROWS, 3, generator=make),
    }
    index = torch.arange(ROWS, device=device)
    banks = {name: Held(own.to(device), index) for name, own in values.items()}
    banks["body"] = Held(banks["body"].values, index.where(index % 3 > 0, -1), gaps=True)
    return Rows(banks=banks, labels=index % CLASSES, shapes=Shapes(banks={}, classes=CLASSES))


def batch_on(rows: Rows) -> dict[str, Tensor]:
    return rows.batch(torch.arange(ROWS, device=rows.labels.device))[0]


def test_the_named_banks_are_changed_and_no_others() -> None:
    rows = rows_on()
    given = batch_on(rows)
    found = augmenter({"wave": AUGMENT["wave"]}, rows)(given, {})
    assert list(found) == list(given)
    assert not torch.equal(found.pop("wave"), given["wave"])
    assert all(found[bank] is given[bank] for bank in found)


def test_a_row_without_a_value_keeps_its_zeros_and_padding_stays() -> None:
    rows = rows_on()
    given = batch_on(rows)
    found = augmenter(AUGMENT, rows)(given, rows.absent(torch.arange(ROWS)))
    missing = torch.arange(ROWS) % 3 == 0
    assert not found["body"][missing].any()
    assert (found["body"] != given["body"])[~missing].all()
    assert torch.equal(valid_steps(found["clip"]), valid_steps(given["clip"]))


def test_means_and_deviations_are_of_the_rows_that_are_trained_on() -> None:
    rows = rows_on()
    few = torch.tensor([1, 2, 4])
    body = VectorAugmentation(noise=1.0)
    change = augmenter({"body": body}, rows.take(few))
    alone = body.build((3,), lambda: rows.banks["body"].values[few])
    found = []
    for augment in (lambda given: change({"body": given}, {})["body"], alone):
        torch.manual_seed(2)
        found.append(augment(torch.ones(4, 3)))
    assert torch.equal(*found)


def test_a_bank_that_only_another_option_reads_is_left_as_it_is() -> None:
    rows = rows_on()
    inputs, _ = rows.batch(torch.arange(4))
    changed = augmenter({"photo": PictureAugmentation()}, rows)(inputs, {})
    assert changed.keys() == inputs.keys()
    assert all(torch.equal(changed[bank], inputs[bank]) for bank in inputs)


@pytest.mark.parametrize(
    ("bank", "own", "rule"),
    [
        ("clip", PictureAugmentation(), r"augment\.clip: PictureAugmentation must be given a picture .*\(12, 5\)"),
        ("wave", SoundAugmentation(mel_shift=0.1), r"augment\.wave: mel_shift must be 0 for a waveform .*got 0\.1"),
        ("body", SoundAugmentation(gain=1.0), r"augment\.body: a waveform must lie in \[-1, 1\) for gain and noise"),
    ],
)
def test_a_bank_of_another_kind_is_one_line(bank: str, own: Augmentation, rule: str) -> None:
    with pytest.raises(InputError, match=rule) as refused:
        augmenter({bank: own}, rows_on())
    assert "\n" not in str(refused.value)


def test_mixed_rows_are_as_much_of_two_as_their_labels_are() -> None:
    labels = torch.arange(ROWS) % CLASSES
    told = one_hot(labels, CLASSES).float()
    given = {"vector": told, "picture": told.view(ROWS, 1, CLASSES, 1).expand(-1, 3, -1, 4)}
    torch.manual_seed(1)
    found, (others, share) = mixed(given, labels, 1.0)
    expected = share * told + (1 - share) * one_hot(others, CLASSES)
    torch.testing.assert_close(found["vector"], expected)
    torch.testing.assert_close(found["picture"], expected.view(ROWS, 1, CLASSES, 1).expand(-1, 3, -1, 4))
    assert torch.equal(others.bincount(), labels.bincount())
    assert not (others == labels).any()
    assert 0.5 <= float(share) <= 1
    assert torch.equal(given["vector"], told)
    torch.manual_seed(1)
    again, _ = mixed(given, labels, 1.0)
    assert torch.equal(again["vector"], found["vector"])


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 20.0])
def test_shares_are_of_the_beta_distribution_folded_at_a_half(alpha: float) -> None:
    torch.manual_seed(1)
    drawn = torch.stack([larger_share(alpha, torch.device("cpu")) for _ in range(2000)])
    assert drawn.min() >= 0.5
    for share in (0.55, 0.7, 0.9, 0.99):
        expected = beta.cdf(share, alpha, alpha) - beta.cdf(1 - share, alpha, alpha)
        five_sigma = 5 * math.sqrt(0.25 / len(drawn))
        assert float((drawn < share).float().mean()) == pytest.approx(expected, abs=five_sigma)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.95])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_banks_are_lost_at_their_rate_but_never_all(count: int, rate: float) -> None:
    rows = 20_000
    given = {f"bank{n}": torch.ones(rows, *(1,) * n) * (n + 2) for n in range(count)}
    torch.manual_seed(1)
    found, without = dropped(given, rate)
    kept = torch.stack([found[bank].flatten() != 0 for bank in given])
    for bank, value in found.items():
        assert torch.equal(value[value != 0], given[bank][value != 0])
    assert kept.any(0).all()
    assert torch.equal(torch.stack(list(without.values())), ~kept)
    lost = (~kept).float().mean(1)
    expected = rate - rate**count / count
    torch.testing.assert_close(lost, torch.full_like(lost, expected), rtol=0, atol=5 * math.sqrt(0.25 / rows))
    everything = kept.all(0).float().mean()
    assert float(everything) == pytest.approx((1 - rate) ** count if count > 1 else 1, abs=5 * math.sqrt(0.25 / rows))


@pytest.mark.parametrize("rate", [0.02, 0.25, 0.9])
def test_rows_are_outliers_at_their_rate_and_no_others_change(rate: float) -> None:
    """Lost is where something changed, and where nothing is: three numbers in pieces may come back in their order."""
    rows = rows_on()
    given = batch_on(rows)
    torch.manual_seed(2)
    counts, absent = dict.fromkeys(given, 0), rows.absent(torch.arange(ROWS))
    for _ in range(50):
        found, lost = exposed(given, rate, absent)
        for bank, values in given.items():
            differ, gone = (found[bank] != values).flatten(1).any(1), absent.get(bank, torch.zeros(ROWS, dtype=bool))
            assert torch.equal(lost[bank], differ | gone)
            assert not differ[gone].any()
            counts[bank] += int(differ.sum())
    for bank in ("image", "clip", "wave", "speech"):
        assert counts[bank] / 50 == pytest.approx(rate * ROWS, abs=max(0.5, 0.02 * rate * ROWS))


def test_each_bank_has_its_own_outliers() -> None:
    rows = rows_on()
    torch.manual_seed(2)
    _, lost = exposed(batch_on(rows), 0.5)
    assert not torch.equal(lost["image"], lost["wave"])


def test_a_bank_is_lost_where_it_is_an_outlier_or_left_out_and_else_is_as_it_was() -> None:
    rows = rows_on()
    given = batch_on(rows)
    torch.manual_seed(3)
    absent = rows.absent(torch.arange(ROWS))
    found = change_of(Train(outliers=0.3, modality_dropout=0.3), rows)(given, rows.labels, absent)
    for bank, own in found.lost.items():
        assert torch.equal(found.inputs[bank][~own], given[bank][~own])
        assert 0.3 < float(own.float().mean()) < 0.8
    assert not change_of(Train(modality_dropout=0.3), rows)(given, rows.labels, absent).lost


CATALOGUE: list[tuple[Any, Space]] = [
    (PictureAugmentation(), catalogue.PICTURE_AUGMENTATION),
    (SoundAugmentation(), catalogue.WAVEFORM_AUGMENTATION),
    (SoundAugmentation(), catalogue.FEATURE_AUGMENTATION),
    (SoundAugmentation(), catalogue.MEL_AUGMENTATION),
    (VectorAugmentation(), catalogue.VECTOR_AUGMENTATION),
]


@pytest.mark.parametrize(("own", "space"), CATALOGUE)
def test_the_catalogue_begins_at_nothing_and_ends_where_a_field_does_or_before(own: Any, space: Space) -> None:
    for choice in space:
        assert isinstance(choice, Real)
        assert choice.source
        assert replace_path(own, choice.path, choice.low) == own
        assert replace_path(own, choice.path, choice.high) != own


def test_the_catalogue_has_every_field() -> None:
    for kind in (PictureAugmentation, SoundAugmentation, VectorAugmentation):
        listed = {choice.path for own, space in CATALOGUE if type(own) is kind for choice in space}
        assert listed == set(vars(kind()))


def step(rows: Rows) -> Any:
    """Everything that a step does to its batch, as a function of it."""
    recipe = Train(augment=AUGMENT, mixup=0.3, outliers=0.4, modality_dropout=0.3)
    change = change_of(recipe, rows)
    return lambda given: change(given, rows.labels, rows.absent(torch.arange(len(rows), device=rows.labels.device)))


HOST = {"_local_scalar_dense", "nonzero", "scalar_tensor", "lift_fresh"}
"""What brings a number from a device to the host, or one from there to it, or has a shape that depends on numbers."""


def ops(function: Callable[[], Any]) -> set[str]:
    """The names of torch's own functions that are called."""
    with profile(use_cpu=True) as found:
        function()
    return {event.name.removeprefix("aten::") for event in found.function_events}


def test_no_number_goes_between_host_and_device() -> None:
    rows = rows_on()
    given, changed = batch_on(rows), step(rows)
    called = ops(lambda: changed(given))
    assert "grid_sampler_2d" in called
    assert not called & HOST


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: float(x.sum()),
        lambda x: x[x > 0],
        lambda x: torch.where(x > 0, 0.0, x),
        lambda x: torch.tensor([1.0, 2.0]),
    ],
)
def test_one_that_does_is_noticed(wrong: Callable[[Tensor], Any]) -> None:
    assert ops(lambda: wrong(torch.ones(3))) & HOST


@pytest.mark.cuda
def test_a_cuda_graph_of_everything_is_what_eager_steps_make_of_the_same_generator() -> None:
    rows = rows_on("cuda")
    given, changed = batch_on(rows), step(rows)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            changed(given)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = changed(given)
    for _ in range(3):
        before = torch.cuda.get_rng_state()
        graph.replay()
        after = torch.cuda.get_rng_state()
        torch.cuda.set_rng_state(before)
        torch.testing.assert_close(captured, changed(given))
        torch.cuda.set_rng_state(after)


@pytest.mark.cuda
def test_nothing_of_it_waits_for_the_gpu() -> None:
    rows = rows_on("cuda")
    given, changed = batch_on(rows), step(rows)
    changed(given)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = changed(given).inputs
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(values.isfinite().all() for values in found.values())
