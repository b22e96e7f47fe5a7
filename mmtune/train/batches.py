"""A partition as tensors that stay where training happens; a batch is an index into them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmtune.data.checks import require_modalities
from mmtune.data.dataset import Partition


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """N rows over a bank of images and a bank of clips, all on one device.

    images (I, 28, 28) or (I, T, H, W) uint8, or (I, E) float32 embeddings; clips (M, 39, 13) or (M, E) float32, or
    waveforms (M, 16000) int16, whichever the model hears; image_index and clip_index (N,) int64; labels (N,) int64.
    A bank that the model does not read may be None.
    """

    images: Tensor | None
    clips: Tensor | None
    image_index: Tensor
    clip_index: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Rows:
        """The given rows, in the given order, over the same banks."""
        return replace(
            self, image_index=self.image_index[rows], clip_index=self.clip_index[rows], labels=self.labels[rows]
        )

    def batch(self, rows: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """The model's image input, its audio input and the labels of the given rows."""
        image = None if self.images is None else as_input(self.images[self.image_index[rows]])
        audio = None if self.clips is None else self.clips[self.clip_index[rows]]
        return image, audio, self.labels[rows]


def as_input(images: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1], one picture (B, 28, 28) as (B, 1, 28, 28); embeddings pass as they are."""
    if images.dtype != torch.uint8:
        return images
    return (images.unsqueeze(1) if images.ndim == 3 else images).float().div_(255)


class Resident:
    """A partition whose banks are put on `device` when they are first needed, and stay there."""

    def __init__(self, partition: Partition, device: torch.device) -> None:
        self.partition, self.device = partition, device
        self.tensors: dict[str, Tensor] = {}

    def tensor(self, name: str) -> Tensor:
        """The partition's array of that name."""
        if name not in self.tensors:
            self.tensors[name] = torch.from_numpy(getattr(self.partition, name)).to(self.device)
        return self.tensors[name]

    def rows(self, modalities: tuple[str, ...]) -> Rows:
        """All rows, with the banks that the modalities need.

        Raises InputError where the model hears waveforms and the partition has none.
        """
        require_modalities(self.partition, modalities)
        heard = {"waveform": "waveforms", "audio": "clips"}
        bank = next((heard[modality] for modality in heard if modality in modalities), None)
        return Rows(
            images=self.tensor("images") if "image" in modalities else None,
            clips=None if bank is None else self.tensor(bank),
            image_index=torch.arange(len(self.partition), device=self.device),
            clip_index=self.tensor("clip_index"),
            labels=self.tensor("labels"),
        )


def rows_of(partition: Partition, modalities: tuple[str, ...], device: torch.device) -> Rows:
    """`Resident.rows` of a partition that is needed once."""
    return Resident(partition, device).rows(modalities)


def batch_sizes(count: int, size: int) -> list[int]:
    """How `count` rows are divided into batches of `size`.

    A last batch of a single row joins the one before it, because batch norm has no variance to divide by.
    """
    sizes = [size] * (count // size) + ([count % size] if count % size else [])
    if len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [size + 1]
    return sizes
