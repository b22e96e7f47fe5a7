"""A champion that hears and sees, in a store that nobody writes to."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from answering import answering, champion_of
from PIL import Image

from mmtune.data.dataset import Dataset
from mmtune.networks import MLP, LateFusion
from mmtune.serve.versions import champion_folder
from mmtune.study import Study
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="served",
    base=TrialConfig(model=LateFusion(encoders={"image": MLP(), "waveform": MLP(width=8)}), train=Train(epochs=2)),
    space=(),
)


@pytest.fixture(scope="session")
def served(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store, whose champion is called `served`."""
    return champion_of(STUDY, tiny.folder, tmp_path_factory.mktemp("served") / "mlruns")


@pytest.fixture(scope="session")
def address(served: Path) -> Iterator[str]:
    """Where the champion answers."""
    with answering(champion_folder(served, "served", None)) as found:
        yield found


@pytest.fixture
def files(tiny: Dataset, tmp_path: Path) -> tuple[Path, Path]:
    """A picture and a recording of the test partition."""
    test = tiny.require_test()
    Image.fromarray(test.banks["image"].of_rows(np.array([3]))[0]).save(tmp_path / "three.png")
    with wave.open(str(tmp_path / "three.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(test.banks["waveform"].of_rows(np.array([3]))[0].tobytes())
    return tmp_path / "three.png", tmp_path / "three.wav"
