"""Each choice of a recipe does what torch, or a loop written by hand, does; and a training that goes on is the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.networks.config import LatentFusionConfig
from mmtune.networks.output import answer
from mmtune.networks.shapes import Shapes
from mmtune.train.augment import mixed
from mmtune.train.augmentations import PictureAugmentation, SoundAugmentation
from mmtune.train.average import Average, decay_at
from mmtune.train.batches import Resident, Rows, batch_sizes, rows_of
from mmtune.train.checkpoint import Moment, load_moment, save_moment
from mmtune.train.fit import FitResult, fit, require_trainable
from mmtune.train.learner import step_of
from mmtune.train.rates import share
from mmtune.train.recipe import OPTIMIZERS, SCHEDULES, Train, TrialConfig
from mmtune.train.step import DivergenceError


@dataclass(frozen=True, kw_only=True)
class Net:
    """No bias before a normalisation: its gradient is rounding alone, which Adam makes large."""

    reads: tuple[str, ...] = ("audio",)

    def build(self, shapes: Shapes) -> nn.Module:
        wide = nn.Linear(math.prod(shapes["audio"]), 8)
        return Flat(nn.Flatten(), wide, nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, shapes.classes))


class Flat(nn.Sequential):
    def forward(self, audio: Tensor) -> Tensor:
        return super().forward(audio)


NETWORK = Net()
RATE, BATCH, SEED = 0.01, 32, 3
OF_TORCH: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adamax": torch.optim.Adamax,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
    "sgd": lambda own, **more: torch.optim.SGD(own, momentum=0.9, **more),
}


def halves(tiny: Dataset) -> tuple[Rows, Rows]:
    rows = rows_of(tiny.train, 10, NETWORK.reads)
    return rows.take(torch.arange(0, 240)), rows.take(torch.arange(240, 300))


def trained(tiny: Dataset, recipe: Train, **more: Any) -> FitResult:
    return fit(TrialConfig(model=NETWORK, train=recipe), *halves(tiny), seed=SEED, **more)


def recipe(**fields: Any) -> Train:
    return Train(**{"epochs": 2, "batch_size": BATCH, "learning_rate": RATE, **fields})


def by_hand(
    tiny: Dataset,
    optimizer_of: Callable[[list[Tensor]], Iterable[torch.optim.Optimizer]],
    loss_of: Callable[[Tensor, Tensor, list[Tensor]], Tensor] = lambda logits, labels, _: nn.CrossEntropyLoss()(
        logits, labels
    ),
    before_step: Callable[[list[Tensor]], object] = lambda _: None,
    after_step: Callable[[nn.Module, int], object] = lambda *_: None,
) -> nn.Module:
    """Two epochs of the network of `fit`, its rows in the same order, with torch alone."""
    rows, _ = halves(tiny)
    torch.manual_seed(SEED)
    model = NETWORK.build(rows.shapes).train()
    own = list(model.parameters())
    optimizers = list(optimizer_of(own))
    generator, step = torch.Generator().manual_seed(SEED), 0
    for _ in range(2):
        for index in torch.randperm(len(rows), generator=generator).split(batch_sizes(len(rows), BATCH)):
            inputs, labels = rows.batch(index)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss_of(answer(model, inputs).logits, labels, own).backward()
            before_step(own)
            for optimizer in optimizers:
                optimizer.step()
            after_step(model, step)
            step += 1
    return model


def last(result: FitResult) -> dict[str, Tensor]:
    assert result.final is not None
    return dict(result.final.weights)


def assert_same(found: dict[str, Tensor], wanted: nn.Module) -> None:
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-5)


def test_every_optimizer_is_tried_here() -> None:
    assert {*OF_TORCH, "muon"} == set(OPTIMIZERS)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", OF_TORCH)
def test_an_optimizer_is_torchs_of_that_name_weight_decay_included(tiny: Dataset, name: str, decay: float) -> None:
    found = trained(tiny, recipe(optimizer=name, weight_decay=decay, keep_final=True))
    wanted = by_hand(tiny, lambda own: [OF_TORCH[name](own, lr=RATE, weight_decay=decay)])
    assert_same(last(found), wanted)


def test_muon_moves_matrices_and_adamw_the_rest(tiny: Dataset) -> None:
    def both(own: list[Tensor]) -> list[torch.optim.Optimizer]:
        shared = {"lr": RATE, "weight_decay": 0.1}
        matrices = torch.optim.Muon(  # type: ignore[arg-type]
            [p for p in own if p.ndim == 2], **shared, momentum=0.9, adjust_lr_fn="match_rms_adamw"
        )
        return [matrices, torch.optim.AdamW([p for p in own if p.ndim != 2], **shared)]  # type: ignore[arg-type]

    found = trained(tiny, recipe(optimizer="muon", weight_decay=0.1, keep_final=True))
    assert_same(last(found), by_hand(tiny, both))


def adam(own: list[Tensor]) -> list[torch.optim.Optimizer]:
    return [torch.optim.Adam(own, lr=RATE)]


def test_label_smoothing_is_torchs(tiny: Dataset) -> None:
    found = trained(tiny, recipe(label_smoothing=0.2, keep_final=True))
    smooth = nn.CrossEntropyLoss(label_smoothing=0.2)
    assert_same(last(found), by_hand(tiny, adam, lambda logits, labels, _: smooth(logits, labels)))


def test_l1_is_a_term_of_the_loss(tiny: Dataset) -> None:
    def penalised(logits: Tensor, labels: Tensor, own: list[Tensor]) -> Tensor:
        sizes = torch.stack([parameter.abs().sum() for parameter in own])
        return nn.CrossEntropyLoss()(logits, labels) + 0.01 * sizes.sum()

    assert_same(last(trained(tiny, recipe(l1=0.01, keep_final=True))), by_hand(tiny, adam, penalised))


def test_clipping_is_torchs(tiny: Dataset) -> None:
    found = trained(tiny, recipe(clip=0.05, optimizer="sgd", keep_final=True))
    wanted = by_hand(
        tiny,
        lambda own: [torch.optim.SGD(own, lr=RATE, momentum=0.9)],
        before_step=lambda own: nn.utils.clip_grad_norm_(own, 0.05),
    )
    assert_same(last(found), wanted)


def test_an_average_is_that_of_a_loop_by_hand_and_is_what_counts(tiny: Dataset) -> None:
    own: dict[str, Tensor] = {}

    def follow(model: nn.Module, step: int) -> None:
        kept = decay_at(step, 0.9)
        for name, value in model.named_parameters():
            own[name] = kept * own[name] + (1 - kept) * value.detach()

    rows, _ = halves(tiny)
    torch.manual_seed(SEED)
    own |= {name: value.detach().clone() for name, value in NETWORK.build(rows.shapes).named_parameters()}
    by_hand(tiny, adam, after_step=follow)
    found = trained(tiny, recipe(ema=0.9, keep_final=True))
    averages = dict(found.model.named_parameters())
    assert found.best_epoch == 2, "the second epoch is the better one, or the comparison means nothing"
    for name, value in own.items():
        torch.testing.assert_close(averages[name].detach(), value, rtol=1e-3, atol=2e-5)
    assert_same(last(found), by_hand(tiny, adam))


def test_an_average_hurries_at_first_and_then_keeps_its_pace() -> None:
    paces = [decay_at(step, 0.99) for step in range(2000)]
    assert paces == sorted(paces)
    assert paces[0] == 0.1
    assert paces[-1] == 0.99


def test_what_does_not_train_is_not_averaged() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model[0].requires_grad_(False)
    average = Average(model, 0.5)
    average.prepare(10_000)
    with torch.no_grad():
        model[1].weight.add_(1.0)
        model[1].running_mean.add_(5.0)
    average.follow()
    torch.testing.assert_close(average.current()[1].weight, torch.full((3,), 1.5))
    torch.testing.assert_close(average.current()[1].running_mean, model[1].running_mean)


# ---- rates


def torchs(schedule: str, steps: int, warmup: float = 0.0) -> list[float]:
    """The shares of the highest rate that torch's schedulers give."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rising = round(warmup * steps)
    left = steps - rising
    makers: dict[str, Callable[[], lr_scheduler.LRScheduler]] = {
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, T_max=left),
        "step": lambda: lr_scheduler.MultiStepLR(optimizer, [left // 2, 3 * left // 4], 0.1),
        "one-cycle": lambda: lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=steps, pct_start=warmup or 0.3, cycle_momentum=False
        ),
    }
    own = makers[schedule]()
    if rising and schedule != "one-cycle":
        rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / rising, total_iters=rising - 1)
        own = lr_scheduler.SequentialLR(optimizer, [rise, own], milestones=[rising])
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        own.step()
    return found


@pytest.mark.parametrize("warmup", [0.0, 0.2])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_is_torchs(schedule: str, warmup: float) -> None:
    own = recipe(schedule=schedule, warmup=warmup)
    assert [share(own, step, 100) for step in range(100)] == pytest.approx(torchs(schedule, 100, warmup), abs=1e-9)


@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_a_rate_is_never_more_than_the_highest_however_few_steps(schedule: str, warmup: float, steps: int) -> None:
    shares = [share(recipe(schedule=schedule, warmup=warmup), step, steps) for step in range(steps)]
    assert all(0 <= own <= 1 and math.isfinite(own) for own in shares)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_the_rate_of_each_step_is_the_schedules(tiny: Dataset, optimizer: str) -> None:
    found = trained(tiny, recipe(schedule="one-cycle", optimizer=optimizer, keep_final=True))
    made: list[torch.optim.Optimizer] = []

    def optimizers(own: list[Tensor]) -> list[torch.optim.Optimizer]:
        made.append(OF_TORCH[optimizer](own, lr=RATE))
        rates.append(lr_scheduler.OneCycleLR(made[0], RATE, total_steps=16, cycle_momentum=False))
        return made

    rates: list[lr_scheduler.OneCycleLR] = []
    wanted = by_hand(tiny, optimizers, after_step=lambda _, step: rates[0].step() if step < 15 else None)
    assert_same(last(found), wanted)


# ---- when it ends


def test_a_patient_training_ends_after_so_many_epochs_that_were_no_better(tiny: Dataset) -> None:
    found = trained(tiny, recipe(epochs=200, patience=3))
    assert len(found.history) == found.best_epoch + 3 < 200
    assert not found.pruned


def test_a_training_of_so_many_seconds_ends(tiny: Dataset) -> None:
    found = trained(tiny, recipe(epochs=100_000, seconds=0.3, schedule="cosine"))
    assert 1 <= len(found.history) < 100_000
    assert not found.pruned
    assert sum(epoch["epoch_seconds"] for epoch in found.history[:-1]) < 0.3


# ---- it goes on as if nothing had been

RECIPES = [
    *(recipe(epochs=6, optimizer=name, weight_decay=0.01) for name in OPTIMIZERS),
    recipe(epochs=6, ema=0.95, schedule="cosine", warmup=0.2, label_smoothing=0.1, clip=1.0, l1=1e-4),
    recipe(epochs=6, schedule="one-cycle", optimizer="sgd", ema=0.9),
    recipe(epochs=6, mixup=0.4, augment={"audio": SoundAugmentation(shift=0.2, noise=0.2, time_mask=0.2)}),
]


@pytest.mark.parametrize("own", RECIPES, ids=lambda own: f"{own.optimizer}-{own.schedule}-{own.ema}-{own.mixup}")
def test_a_training_that_was_cut_goes_on_to_the_same_weights(tiny: Dataset, own: Train, tmp_path: Any) -> None:
    whole = trained(tiny, replace(own, keep_final=True))
    moments: list[Moment] = []

    def keep(moment: Moment) -> None:
        save_moment(tmp_path / f"{len(moments)}", moment)
        read = load_moment(tmp_path / f"{len(moments)}")
        assert read is not None
        moments.append(read)

    trained(tiny, own, on_moment=keep, every=0.0)
    assert len(moments) == 5
    on = trained(tiny, replace(own, keep_final=True), moment=moments[2])
    assert on.best_epoch == whole.best_epoch
    for mine, theirs in ((last(on), last(whole)), (on.model.state_dict(), whole.model.state_dict())):
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("field", "value"),
    [("optimizer", "Adam"), ("schedule", "linear"), ("ema", 1.0), ("clip", -1), ("warmup", 1.0), ("patience", -1)],
)
def test_a_field_that_breaks_its_rule_is_refused_in_a_line(field: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"^{field} must be .*, got") as error:
        recipe(**{field: value})
    assert len(str(error.value).splitlines()) == 1


# ---- what is done to batches


@dataclass(frozen=True, kw_only=True)
class Louder:
    """An augmentation of somebody's own: everything twice as large."""

    times: float = 2.0

    def build(self, shape: tuple[int, ...], values: Any) -> Callable[[Tensor], Tensor]:
        return lambda given: self.times * given


def test_a_step_trains_on_what_an_augmentation_makes(tiny: Dataset) -> None:
    class Twice(Flat):
        def forward(self, audio: Tensor) -> Tensor:
            return super().forward(2 * audio)

    found = trained(tiny, recipe(augment={"audio": Louder()}, keep_final=True))
    rows, _ = halves(tiny)
    torch.manual_seed(SEED)
    model = Twice(*NETWORK.build(rows.shapes)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(2):
        for index in torch.randperm(len(rows), generator=generator).split(batch_sizes(len(rows), BATCH)):
            inputs, labels = rows.batch(index)
            optimizer.zero_grad()
            nn.CrossEntropyLoss()(model(**inputs), labels).backward()
            optimizer.step()
    assert_same(last(found), model)


def test_mixed_rows_pay_for_both_labels(tiny: Dataset) -> None:
    """The loss of a step is that of either row's label, in shares."""
    rows, _ = halves(tiny)
    torch.manual_seed(SEED)
    model = NETWORK.build(rows.shapes)
    step = step_of(recipe(mixup=1.0), model, rows)
    index = torch.arange(BATCH)
    generator = torch.get_rng_state()
    step.start_epoch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step(index)
    torch.set_rng_state(generator)
    model.load_state_dict(before)
    inputs, labels = rows.batch(index)
    mixture, (others, share) = mixed(inputs, labels, 1.0)
    logits = model.train()(**mixture)
    both = [nn.functional.cross_entropy(logits, own) for own in (labels, others)]
    assert float(step.total) / BATCH == pytest.approx(
        float((share * both[0] + (1 - share) * both[1]).detach()), rel=1e-5
    )
    assert 0.5 <= float(share) < 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"augment": {"image": SoundAugmentation()}},
            "augment must name banks that the network reads, audio, got 'image'",
        ),
        ({"augment": {"audio": 3}}, "augment of audio must have a build, such as PictureAugmentation(), got 3"),
        ({"modality_dropout": 0.2}, "modality_dropout must be 0 for a network that reads audio alone, got 0.2"),
    ],
)
def test_what_cannot_be_done_to_a_batch_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        TrialConfig(model=NETWORK, train=recipe(**fields))
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("fields", "rule"),
    [({"augment": {"audio": SoundAugmentation()}}, "augment must be empty"), ({"outliers": 0.1}, "outliers must be 0")],
)
def test_encoders_that_stay_as_they_are_take_no_augmentation(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=f"^{rule} where encoders stay as they are"):
        TrialConfig(model=LatentFusionConfig(), train=Train(**fields))


def test_an_augmentation_that_does_not_fit_the_data_is_refused_before_it_trains(tiny: Dataset) -> None:
    data = Resident(tiny.train, 10, torch.device("cpu"))
    picture = TrialConfig(model=NETWORK, train=Train(augment={"audio": PictureAugmentation(shift=0.1)}))
    with pytest.raises(InputError, match=r"^augment.audio: ") as error:
        require_trainable(picture, data)
    assert len(str(error.value).splitlines()) == 1


def test_a_training_without_time_makes_one_epoch(tiny: Dataset) -> None:
    found = trained(tiny, recipe(epochs=5, seconds=1e-6, schedule="cosine", warmup=0.9))
    assert (len(found.history), found.best_epoch, found.pruned) == (1, 1, False)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_rate_whose_time_is_over_is_a_rate(schedule: str, steps: int) -> None:
    assert 0 <= share(recipe(schedule=schedule, warmup=0.9), steps, steps) <= 1


def test_a_model_whose_answers_are_no_numbers_has_diverged(tiny: Dataset) -> None:
    class Lost(Flat):
        def forward(self, audio: Tensor) -> Tensor:
            found = super().forward(audio)
            return found if self.training else found * float("nan")

    @dataclass(frozen=True, kw_only=True)
    class LostNet(Net):
        def build(self, shapes: Shapes) -> nn.Module:
            return Lost(*super().build(shapes))  # type: ignore[arg-type,misc]

    with pytest.raises(DivergenceError, match="val_loss must be a number, got nan"):
        fit(TrialConfig(model=LostNet(), train=recipe()), *halves(tiny), seed=SEED)
