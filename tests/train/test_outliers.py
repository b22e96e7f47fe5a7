"""Outliers: each kind is what it says, whatever the shape; a network that met them says nothing of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from mmtune.data.dataset import Dataset
from mmtune.networks import LateFusion, SmallCNN
from mmtune.networks.output import Output
from mmtune.networks.shapes import Shapes
from mmtune.train.augment import Changed
from mmtune.train.batches import Held, Rows, rows_of
from mmtune.train.learner import Learner
from mmtune.train.objective import MACRO_F1
from mmtune.train.optimizers import make_optimizer
from mmtune.train.outliers import KINDS, bent, in_pieces, noise, outliers, scattered, together, waves
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.step import Step

SHAPES = [(1, 28, 28), (3, 8, 9), (4000,), (39, 13), (12,), (1,), (2, 3, 4, 5)]


def before(given: Tensor) -> Tensor:
    """The row before each."""
    return torch.cat([given[-1:], given[:-1]])


def values(*shape: int, rows: int = 6) -> Tensor:
    return torch.rand(rows, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outlier_has_its_values_shape_and_stays_between_its_extremes(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    given = values(*shape, rows=200) - 0.5
    kept = given.clone()
    found = outliers(given, before(given))
    assert torch.equal(given, kept)
    assert found.shape == given.shape
    assert found.isfinite().all()
    assert (found.flatten(1).amax(1) <= given.flatten(1).amax(1)).all()
    assert (found.flatten(1).amin(1) >= given.flatten(1).amin(1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_becomes_nothing(kind: Callable[[Tensor, Tensor], Tensor]) -> None:
    """What is missing stays missing, also beside a row that has something."""
    given = values(1, 8, 8)
    given[2] = 0
    torch.manual_seed(0)
    assert not outliers(given, before(given))[2].any()
    assert kind(torch.zeros(3, 1, 8, 8), torch.zeros(3, 1, 8, 8)).isfinite().all()


def test_pieces_are_of_the_value_and_of_the_one_before_it_and_many_change_places() -> None:
    torch.manual_seed(0)
    given = torch.arange(8 * 20 * 20, dtype=torch.float32).view(8, 1, 20, 20)
    found = in_pieces(given, before(given))
    for row in range(8):
        of_both = torch.cat([given[row].flatten(), given[row - 1].flatten()])
        assert torch.isin(found[row].flatten(), of_both).all()
        assert (found[row] != given[row]).float().mean() > 0.3


def test_pieces_of_a_waveform_begin_and_end_in_silence() -> None:
    """Where two meet, nothing jumps: of constant waves any step is one of a fade."""
    torch.manual_seed(0)
    found = in_pieces(*(2 * [torch.ones(50, 1, 1, 16_000)]))
    assert found.amin() < 0.02
    assert found.diff(dim=3).abs().amax() < 2 / 80
    assert (found == 1).float().mean() > 0.9


def test_what_is_bent_is_made_of_the_picture_alone() -> None:
    torch.manual_seed(0)
    assert torch.allclose(bent(*(2 * [torch.full((3, 2, 9, 9), 0.7)])), torch.tensor(0.7))
    given = values(1, 20, 20)
    assert (bent(given, given) - given).abs().mean() > 0.1


def test_two_together_are_their_sum() -> None:
    given = values(1, 5, 5)
    assert torch.equal(together(given, before(given)), given + before(given))


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 1, 4000)])
def test_what_is_scattered_keeps_its_spectrum(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    given = values(*shape)
    before, after = (torch.fft.rfft2(own).abs() for own in (given, scattered(given, given)))
    # What is its own mirror image in a spectrum has no phase to turn but its sign.
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_noise_falls_with_the_frequency_and_never_rises() -> None:
    torch.manual_seed(0)
    power = torch.fft.rfft(noise(*(2 * [values(1, 1, 4096, rows=64)]))[:, 0, 0]).abs().square()
    octaves = torch.stack([power[:, 2**n : 2 ** (n + 1)].mean(1).log() for n in range(5, 11)], 1)
    slope = octaves.diff(dim=1).mean(1) / torch.log(torch.tensor(2.0))
    assert slope.min() > -3.5
    assert slope.max() < 0.5
    assert slope.std() > 0.4


def test_a_wave_has_one_frequency() -> None:
    torch.manual_seed(0)
    made = waves(*(2 * [values(1, 1, 4096, rows=32)]))[:, 0, 0]
    spectrum = torch.fft.rfft((made - made.mean(1, keepdim=True)) * torch.hann_window(4096)).abs().square()
    top = spectrum.argmax(1, keepdim=True)
    near = (torch.arange(spectrum.shape[1]) - top).abs() <= 3
    assert ((spectrum * near).sum(1) / spectrum.sum(1)).min() > 0.98
    assert len(top.unique()) > 20


def test_a_lost_row_is_of_every_class_alike_in_the_loss_whatever_a_class_weighs() -> None:
    logits, labels = torch.randn(9, 4, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 4
    lost, none = torch.arange(9) % 3 == 0, torch.zeros(9, dtype=torch.bool)
    for weights, smoothing in ((None, 0.0), (torch.tensor([10.0, 1.0, 0.5, 0.1]), 0.0), (None, 0.1)):
        step = Step.__new__(Step)
        step.weights, step.recipe = weights, Train(label_smoothing=smoothing)
        usual = cross_entropy(logits, labels, weights, label_smoothing=smoothing)
        torch.testing.assert_close(step.entropy(logits, labels, none), usual)
        own = torch.ones(9) if weights is None else weights[labels]
        kept = cross_entropy(logits[~lost], labels[~lost], weights, label_smoothing=smoothing) * own[~lost].sum()
        alike = -log_softmax(logits[lost], 1).mean(1).sum()
        expected = (kept + alike) / (own[~lost].sum() + lost.sum())
        torch.testing.assert_close(step.entropy(logits, labels, lost), expected)
        # What a lost row alone is trained to: as sure of each class.
        free = torch.zeros(1, 4, requires_grad=True)
        step.entropy(free, labels[:1], none[:1] | True).backward()
        torch.testing.assert_close(free.grad, torch.zeros(1, 4))


def test_a_fusion_is_lost_where_all_its_banks_are_and_an_own_answer_where_its_bank_is() -> None:
    """By hand: three rows, of which one has two outliers, one has one, and one none."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(3, 4))

        def forward(self, a: Tensor, b: Tensor) -> Output:
            return Output(self.a + self.b, a, {"a": self.a, "b": self.b})

    torch.manual_seed(0)
    model, labels = Both(), torch.tensor([0, 1, 2])
    held = {bank: Held(torch.ones(3, 2), torch.arange(3)) for bank in "ab"}
    rows = Rows(banks=held, labels=labels, shapes=Shapes(banks={}, classes=4))
    lost = {"a": torch.tensor([True, True, False]), "b": torch.tensor([True, False, False])}
    recipe = Train(optimizer="sgd", learning_rate=1.0, momentum=0.0)
    optimizer = make_optimizer(recipe, model.parameters())
    step = Step(model, optimizer, rows, recipe, change=lambda inputs, *_: Changed(inputs, None, lost))
    before_it = {name: own.detach().clone().requires_grad_() for name, own in model.named_parameters()}
    step(torch.arange(3))

    def loss(logits: Tensor, gone: Tensor) -> Tensor:
        return torch.where(
            gone, -log_softmax(logits, 1).mean(1), cross_entropy(logits, labels, reduction="none")
        ).mean()

    a, b = before_it["a"], before_it["b"]
    (loss(a + b, lost["a"] & lost["b"]) + loss(a, lost["a"]) + loss(b, lost["b"])).backward()
    for name, own in before_it.items():
        torch.testing.assert_close(model.get_parameter(name), own - own.grad)


def test_a_network_that_met_outliers_is_less_sure_of_them_and_no_worse_on_what_is_none(tiny: Dataset) -> None:
    model = LateFusion(encoders={"image": SmallCNN()})
    rows = rows_of(tiny.train, len(tiny.classes), ("image",))
    sure = {}
    for rate in (0.0, 0.4):
        recipe = Train(epochs=12, batch_size=32, learning_rate=0.003, outliers=rate)
        learner = Learner(TrialConfig(model=model, train=recipe), rows, rows, 0, MACRO_F1.first, encoders={})
        while learner.has_budget():
            score = learner.epoch()["val_macro_f1"]
        assert score > 0.95
        torch.manual_seed(9)
        pictures = rows.batch(torch.arange(len(rows)))[0]["image"]
        strange = outliers(pictures, before(pictures))
        with torch.no_grad():
            sure[rate] = float(learner.model.eval()(image=strange).logits.softmax(1).amax(1).mean())
    assert sure[0.4] < sure[0.0] - 0.2
