"""XFlow's networks: an image and an audio stream that exchange features while they are being made (section 2).

Both networks read a picture and a sound with one `Extractor`: CNN x MLP once, {CNN x MLP}-LSTM at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.compiler import is_exporting

from mmtune.base.errors import InputError
from mmtune.networks.config.xflow import XFlowLSTMConfig, XFlowMLPConfig
from mmtune.networks.inputs import Training, channels_last, evenly, one_channel, valid_steps
from mmtune.networks.layers import Dropout, FlattenPlaces
from mmtune.networks.output import Output
from mmtune.networks.papers.crossing import CrossTo1D, CrossTo2D, Junction, ResidualTo1D, ResidualTo2D, Shape, repeat
from mmtune.networks.papers.keras import LSTM, BatchNormOverTime, WarmNorm1d, WarmNorm2d, glorot
from mmtune.networks.shapes import Shapes

POOLS = ((4, (4, 4)), (8, (8, 4)))
AT_ONCE = 64
"""Sequences whose maps are in memory together while nothing is trained: a thousand of them would take gigabytes."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What tells the extractors of the two networks apart (figure 4).

    vectors: widths of the two 2D-to-1D cross-connections. norm: whether there is batch norm, and dropout, inside.
    picture: (C, H, W) of what the image stream reads; values: numbers that the audio stream reads.
    """

    filters: tuple[int, int]
    convolutions: int
    units: int
    vectors: tuple[int, int]
    image_units: int
    norm: bool
    picture: Shape
    values: int
    pool_dropout: float = 0.0
    dense_dropout: float = 0.0

    def map_shape(self, level: int) -> Shape:
        """(C, H, W) of the image stream after the block of `level`."""
        _, height, width = self.picture
        return self.filters[level], height // 2 ** (level + 1), width // 2 ** (level + 1)


mlp_sizes = partial(Sizes, filters=(16, 32), convolutions=2, units=128, vectors=(64, 128), image_units=256, norm=True)
lstm_sizes = partial(Sizes, filters=(8, 16), convolutions=1, units=32, vectors=(32, 64), image_units=64, norm=False)


def junction(config: XFlowMLPConfig | XFlowLSTMConfig, sizes: Sizes, level: int) -> Junction:
    """The connections after the blocks of `level`, as far as the configuration has them."""
    s, shape, kernel = sizes, sizes.map_shape(level), (config.kernel1, config.kernel2)[level]
    made: dict[str, nn.Module] = {}
    if config.cross:
        made["cross_to_audio"] = CrossTo1D(shape, s.vectors[level], norm=s.norm)
        made["cross_to_image"] = CrossTo2D(s.units, shape, kernel, norm=s.norm, dropout=s.dense_dropout)
    if config.residual:
        # The authors normalise the first residual map alone, and drop less of what it is made from.
        first, dropout = level == 0, (s.pool_dropout, s.dense_dropout)[level]
        made["residual_to_audio"] = ResidualTo1D(s.picture, s.units, *POOLS[level], dropout=s.pool_dropout)
        made["residual_to_image"] = ResidualTo2D(
            s.values, shape, kernel, norm=s.norm, norm_map=s.norm and first, dropout=dropout
        )
    return Junction(made)


class Extractor(nn.Module):
    """A picture (P, C, H, W), normalised, and a sound (N, values) to named features (N, width) and maps (N, C, H, W).

    N is a multiple of P: N / P sounds in a row share a picture. What depends on the picture alone is computed P times.
    """

    def __init__(self, config: XFlowMLPConfig | XFlowLSTMConfig, sizes: Sizes) -> None:
        super().__init__()
        s, (first, second) = sizes, sizes.filters
        connected, both = config.cross or config.residual, 2 if config.cross else 1
        extra = s.vectors[0] if config.cross else 0
        normed = s.norm and connected
        self.image1 = image_block(s.picture[0], first, s)
        self.audio1 = audio_block(s.values, s.units, s.norm, s.dense_dropout)
        self.junction1 = junction(config, s, 0)
        self.join_image1 = joint(WarmNorm2d(both * first), s.dense_dropout) if normed else nn.Identity()
        self.join_audio1 = joint(WarmNorm1d(s.units + extra), s.dense_dropout) if normed else nn.Identity()
        self.image2 = image_block(both * first, second, s)
        self.audio2 = audio_block(s.units + extra, s.units, normed, s.dense_dropout if connected else 0.0)
        self.junction2 = junction(config, s, 1)
        self.join_image2 = joint(WarmNorm2d(both * second), s.dense_dropout) if normed else nn.Identity()
        size = both * s.map_shape(1)[1] * s.map_shape(1)[2] * second
        self.image3 = nn.Sequential(FlattenPlaces(), glorot(nn.Linear(size, s.image_units)), nn.ReLU())
        crossing = {"cross": s.vectors[1]} if config.cross else {}
        self.parts = {**crossing, "image": s.image_units, "audio": s.units}

    def forward(self, picture: Tensor, sound: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        first = self.junction1(picture, sound, self.image1(picture), self.audio1(sound))
        audio = first.audio
        if first.vector is not None:
            audio = torch.cat([repeat(first.vector, audio.shape[0]), audio], dim=1)
        image = self.image2(self.join_image1(first.image))
        second = self.junction2(picture, sound, image, self.audio2(self.join_audio1(audio)))
        crossing = {} if second.vector is None else {"cross": second.vector}
        features = {**crossing, "image": self.image3(self.join_image2(second.image)), "audio": second.audio}
        maps = {f"{name}{n}": made for n, level in ((1, first), (2, second)) for name, made in level.maps.items()}
        return {name: repeat(feature, sound.shape[0]) for name, feature in features.items()}, maps


def joint(norm: nn.Module, dropout: float) -> nn.Sequential:
    return nn.Sequential(norm, Dropout(dropout))


def image_block(before: int, after: int, sizes: Sizes) -> nn.Sequential:
    """3x3 convolutions with ReLU, batch norm where the network has it, 2x2 max pool, dropout."""
    inputs = [before] + [after] * (sizes.convolutions - 1)
    convolutions = [glorot(nn.Conv2d(channels, after, 3, padding=1)) for channels in inputs]
    between = [layer for conv in convolutions for layer in (conv, nn.ReLU(inplace=True))]
    # Pooling commutes with a monotone activation, which then sees a quarter of the elements.
    ending = [WarmNorm2d(after), nn.MaxPool2d(2)] if sizes.norm else [nn.MaxPool2d(2), between.pop()]
    return nn.Sequential(*between, *ending, Dropout(sizes.pool_dropout))


def audio_block(before: int, after: int, norm: bool, dropout: float) -> nn.Sequential:
    """A dense layer with ReLU, batch norm if `norm`, dropout."""
    norms = [WarmNorm1d(after)] if norm else []
    return nn.Sequential(glorot(nn.Linear(before, after)), nn.ReLU(inplace=True), *norms, Dropout(dropout))


class XFlowMLP(nn.Module):
    """CNN x MLP, and its baseline where the configuration has no connections (section 2.1, figures 1a and 4a).

    image (B, C, H, W) with audio (B, T, K): a still picture, and all MFCCs as one vector.
    image (B, T, H, W) with audio (B, T, K): `frames` evenly spaced ones of a sequence's valid steps become the
        channels, and the MFCCs of the same steps the vector.
    """

    def __init__(self, config: XFlowMLPConfig, shapes: Shapes) -> None:
        super().__init__()
        c = config
        (channels, height, width), (steps, features), sequences = c.sizes(shapes)
        self.frames = (c.frames or steps) if sequences else 0
        picture, values = (self.frames or channels, height, width), (self.frames or steps) * features
        sizes = mlp_sizes(picture=picture, values=values, pool_dropout=c.pool_dropout, dense_dropout=c.dense_dropout)
        self.norm = WarmNorm2d(picture[0])
        self.extractor = Extractor(c, sizes)
        self.parts = self.extractor.parts
        merged = sum(self.parts.values())
        hidden, last = glorot(nn.Linear(merged, 512)), glorot(nn.Linear(512, shapes.classes))
        joined = joint(WarmNorm1d(merged), c.merge_dropout)
        self.head = nn.Sequential(*joined, hidden, nn.ReLU(), Dropout(c.merge_dropout), last)

    def extract(self, image: Tensor, audio: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        if self.frames:
            chosen = evenly(valid_steps(audio).sum(1), self.frames)
            rows = torch.arange(audio.shape[0], device=audio.device).unsqueeze(1)
            image, audio = image[rows, chosen], audio[rows, chosen]
        return self.extractor(self.norm(channels_last(image)), audio.flatten(1))

    def forward(self, image: Tensor, audio: Tensor) -> Output:
        features, _ = self.extract(image, audio)
        merged = torch.cat(list(features.values()), dim=1)
        return Output(self.head(merged), merged)

    @torch.no_grad()
    def maps(self, image: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """The maps (B, H', W') that the 1D-to-2D connections make of the audio, their channels averaged; in eval mode.

        cross1, cross2, residual1, residual2: by kind and level, as far as the network has them.
        """
        return {name: made.mean(1) for name, made in self.extract(image, audio)[1].items()}


class XFlowLSTM(nn.Module):
    """{CNN x MLP}-LSTM, and its baseline where the configuration has no connections (figures 1c and 4b).

    image (B, T, H, W) with audio (B, T, K): a sequence; T may differ from batch to batch, up to as many valid ones as
        the data set's sequences have.
    image (B, C, H, W) with audio (B, T, K): a still picture, normalised once and shown at every step, while the
        MFCC frames are heard in time.
    Padding (`valid_steps`) has no influence: batch norm leaves it out, and the last valid step is classified.
    The embedding is the mean of the merge layer's parts over a sequence's valid steps, and the LSTM's last output.
    """

    state = 64

    def __init__(self, config: XFlowLSTMConfig, shapes: Shapes) -> None:
        super().__init__()
        (channels, height, width), (self.steps, features), self.sequences = config.sizes(shapes)
        sizes = lstm_sizes(picture=(1 if self.sequences else channels, height, width), values=features)
        self.norm = BatchNormOverTime(channels)
        self.extractor = Extractor(config, sizes)
        self.parts = {**self.extractor.parts, "lstm": self.state}
        self.merge_norm = BatchNormOverTime(self.steps)
        self.dropout = Dropout(config.merge_dropout)
        self.lstm = LSTM(sum(self.extractor.parts.values()), self.state)
        self.classify = glorot(nn.Linear(self.state, shapes.classes))

    def extract(self, image: Tensor, audio: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Features (B, T, width) and maps (B, T, C, H', W') by name, and which steps are valid (B, T)."""
        if not self.training:
            self.require_short(audio)
        audio = audio[:, : self.steps]
        valid = valid_steps(audio)
        if self.sequences:
            seen = self.norm(image[:, : self.steps], valid)
            picture = one_channel(seen.flatten(0, 1))
        else:
            picture = channels_last(self.norm(image, valid.new_ones(image.shape[:2])))
        features, maps = self.extractor(picture, audio.flatten(0, 1))
        features, maps = ({k: x.unflatten(0, valid.shape) for k, x in named.items()} for named in (features, maps))
        return features, maps, valid

    def prepare(self, training: Training) -> None:
        """Check the training rows' sequences; looking at every batch would make a GPU wait."""
        self.require_short(training["audio"][0])

    def require_short(self, audio: Tensor) -> None:
        """InputError where a step after the first `steps` is no padding."""
        if audio.shape[1] > self.steps and audio[:, self.steps :].any():
            raise InputError(f"a sequence must have at most {self.steps} steps for this model, one has more")

    def forward(self, image: Tensor, audio: Tensor) -> Output:
        if self.training or is_exporting() or len(audio) <= AT_ONCE:
            return self.classified(image, audio)
        parts = zip(image.split(AT_ONCE), audio.split(AT_ONCE), strict=True)
        logits, embeddings = zip(*(self.classified(*part)[:2] for part in parts), strict=True)
        return Output(torch.cat(logits), torch.cat(embeddings))

    def classified(self, image: Tensor, audio: Tensor) -> Output:
        features, _, valid = self.extract(image, audio)
        merged = torch.cat(list(features.values()), dim=2)
        last = self.lstm(self.dropout(self.merge_norm(merged, valid)), valid)
        share = valid / valid.sum(1, keepdim=True)
        mean = torch.einsum("btf,bt->bf", merged, share)
        return Output(self.classify(last), torch.cat([mean, last], dim=1))

    @torch.no_grad()
    def maps(self, image: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """The maps (B, T, H', W') that the 1D-to-2D connections make of each step's MFCCs; zero where padded.

        To be asked in eval mode. Their channels are averaged; T is at most `steps`; names as in `XFlowMLP.maps`.
        """
        _, maps, valid = self.extract(image, audio)
        return {name: made.mean(2) * valid[:, :, None, None] for name, made in maps.items()}
