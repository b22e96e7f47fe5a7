"""What a network makes of each bank comes from that bank alone, and asking for it changes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.config.encoders import MLP, SmallCNN, SmallResNet, SmallTransformer
from mmtune.networks.config.ensemble import Ensemble
from mmtune.networks.config.late import EarlyFusion, LateFusion
from mmtune.networks.config.log_mel import LogMelResNet
from mmtune.networks.output import Output, answer
from mmtune.networks.shapes import Shapes
from mmtune.networks.vectors import TOGETHER, bank_vector, bank_vectors
from mmtune.study.template import Net

SHAPES = Shapes(banks={"image": (1, 28, 28), "audio": (39, 13)}, classes=4)
ENCODERS = {"image": SmallCNN(width=8), "audio": SmallTransformer(width=8)}


def inputs(seed: int = 0, rows: int = 3) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return {bank: torch.rand((rows, *shape), generator=drawn) for bank, shape in SHAPES.banks.items()}


@pytest.mark.parametrize(
    ("config", "banks"),
    [
        (ImageCNNConfig(), ("image",)),
        (AudioRNNConfig(), ("audio",)),
        (LatentFusionConfig(), ("image", "audio")),
        (LateFusion(encoders=ENCODERS), ("image", "audio")),
        (LateFusion(encoders={"audio": MLP(width=8)}), ("audio",)),
    ],
    ids=lambda own: type(own).__name__,
)
def test_a_banks_vectors_are_its_own(config: LateFusion, banks: tuple[str, ...]) -> None:
    model = config.build(SHAPES).eval()
    given = {bank: inputs()[bank] for bank in banks}
    found = bank_vectors(model, given)
    assert found.keys() == set(banks)
    for bank in banks:
        torch.testing.assert_close(bank_vector(model, given, bank), found[bank])
        changed = bank_vectors(model, {**given, bank: inputs(1)[bank]})
        assert not torch.equal(changed[bank], found[bank])
        assert all(torch.equal(changed[other], found[other]) for other in banks if other != bank)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "config",
    [
        EarlyFusion(reads=("image", "audio"), hidden=8),
        LateFusion(
            encoders={"image": SmallResNet(width=8, channels=4), "audio": LogMelResNet(width=8, channels=4, parts=1)},
            crossed=True,
            alone=False,
        ),
        LateFusion(encoders={"image": SmallCNN(width=8)}),
    ],
    ids=["joined at once", "crossed", "of one bank"],
)
def test_an_ensembles_vectors_are_one_members(config: LateFusion) -> None:
    """Of all members side by side some would know rows that others never saw."""
    model = Ensemble(
        members={"a": config, "b": config},
        weights={"a": 0.5, "b": 0.5},
        temperatures={"a": 1.0, "b": 1.0},
    ).build(SHAPES)
    model.eval()
    given = {bank: inputs()[bank] for bank in config.reads}
    found, own = bank_vectors(model, given), bank_vectors(model.get_submodule("members.a"), given)
    assert found.keys() == own.keys()
    assert all(torch.equal(found[bank], own[bank]) for bank in own)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_banks_that_hear_of_each_other_have_one_vector_together() -> None:
    """Or a row would look strange for whatever stands beside its own values."""
    encoders = {"image": SmallResNet(width=8, channels=4), "audio": LogMelResNet(width=8, channels=4, parts=1)}
    model = LateFusion(encoders=encoders, crossed=True, alone=False).build(SHAPES).eval()
    found = bank_vectors(model, inputs())
    assert list(found) == [TOGETHER]
    assert torch.equal(found[TOGETHER], bank_vector(model, inputs(), TOGETHER))
    assert torch.equal(found[TOGETHER], answer(model, inputs()).embedding)


def test_so_has_an_ensemble_of_which_one_does() -> None:
    encoders = {"image": SmallResNet(width=8, channels=4), "audio": LogMelResNet(width=8, channels=4, parts=1)}
    crossed, apart = (LateFusion(encoders=encoders, crossed=own, alone=False) for own in (True, False))
    for members, together in (((apart, crossed), True), ((apart, apart), False)):
        model = Ensemble(
            members=dict(zip("ab", members, strict=True)), weights={"a": 0.75, "b": 0.25}, temperatures={"a": 1, "b": 1}
        )
        found = bank_vectors(model.build(SHAPES).eval(), inputs())
        assert list(found) == ([TOGETHER] if together else ["image", "audio"])


def test_a_network_may_change_values_before_its_encoders_are_given_them() -> None:
    """As that of `mmtune init` does, which lays pictures flat."""
    model, given = Net().build(SHAPES).eval(), inputs()
    found = bank_vectors(model, given)
    for bank in given:
        torch.testing.assert_close(bank_vector(model, given, bank), found[bank])


def test_the_direction_of_what_the_first_linear_layer_is_given_comes_first() -> None:
    model = ImageCNNConfig().build(SHAPES).eval()
    pictures = inputs()["image"]
    given = model.convolutions(pictures).detach()
    found = bank_vectors(model, {"image": pictures})["image"]
    torch.testing.assert_close(found[:, : given.shape[1]], given / given.norm(dim=1, keepdim=True))


def test_beside_it_are_those_of_the_last_maps_in_sixteen_parts_and_of_means_and_maxima_of_all() -> None:
    class Own(nn.Module):
        """2 channels, 3 and again 2, a pooled vector, and maps after the linear layer that do not count."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 1)
            self.classify, self.later = nn.Linear(2, 4), nn.Conv2d(1, 5, 1)

        def forward(self, image: Tensor) -> Tensor:
            found: Tensor = self.classify(self.third(self.second(self.first(image))).mean((2, 3)))
            return found + self.later(image).mean()

    model, pictures = Own().eval(), inputs()["image"]
    three = model.second(model.first(pictures)).detach()
    two = model.third(three).detach()
    coarse = two.unflatten(3, (4, 7)).unflatten(2, (4, 7)).mean((3, 5)).flatten(1)
    sizes = [own for maps in (three, two) for own in (maps.mean((2, 3)), maps.amax((2, 3)))]
    parts = (two.mean((2, 3)), coarse, torch.cat(sizes, dim=1))
    expected = torch.cat([own / own.norm(dim=1, keepdim=True) for own in parts], dim=1)
    torch.testing.assert_close(bank_vectors(model, {"image": pictures})["image"], expected)


def test_maps_of_frames_and_complex_ones_are_left_out() -> None:
    class Own(nn.Module):
        """Frames that are seen one by one, and a spectrum."""

        def __init__(self) -> None:
            super().__init__()
            self.see, self.hear, self.classify = nn.Conv2d(1, 3, 3), Spectrum(), nn.Linear(3, 4)

        def forward(self, frames: Tensor) -> Tensor:
            self.hear(frames)
            made = self.see(frames.flatten(0, 1).unsqueeze(1)).mean((2, 3))
            found: Tensor = self.classify(made.unflatten(0, frames.shape[:2]).mean(1))
            return found

    class Spectrum(nn.Module):
        def forward(self, frames: Tensor) -> Tensor:
            return torch.fft.rfft(frames)

    frames = torch.rand(2, 5, 8, 8)
    assert bank_vectors(Own().eval(), {"frames": frames})["frames"].shape == (2, 3)


def test_an_encoder_without_such_a_layer_has_its_part_of_the_embedding() -> None:
    model = LateFusion(encoders=ENCODERS).build(SHAPES).eval()
    found = bank_vectors(model, inputs())
    assert torch.equal(found["audio"], answer(model, inputs()).embedding[:, 8:])


def test_banks_that_meet_at_once_are_told_together() -> None:
    model = EarlyFusion(reads=("image", "audio")).build(SHAPES).eval()
    found = bank_vectors(model, inputs())
    assert torch.equal(found[TOGETHER], answer(model, inputs()).embedding)


def test_a_users_network_with_nothing_but_logits_has_those() -> None:
    class Own(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.flatten(1)[:, :4]

    found = bank_vectors(Own(), {"image": inputs()["image"]})
    assert torch.equal(found["image"], inputs()["image"].flatten(1)[:, :4])


def test_hooks_go_where_a_network_fails() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, image: Tensor) -> Output:
            raise RuntimeError("no")

    model = Failing()
    with pytest.raises(RuntimeError, match="no"):
        bank_vectors(model, {"image": torch.zeros(2, 4)})
    assert not model.layer._forward_pre_hooks
    assert not model._forward_hooks


def test_several_threads_ask_one_model_and_each_has_its_own_vectors() -> None:
    """As a server's do: what hooks see belongs to who asks, and is nobody else's."""
    torch.manual_seed(0)
    model = ImageCNNConfig().build(Shapes(banks={"image": (1, 28, 28)}, classes=10)).eval()
    batches = [torch.rand(1, 1, 28, 28) for _ in range(80)]
    expected = [bank_vectors(model, {"image": batch})["image"] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: bank_vectors(model, {"image": batch})["image"], batches))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
