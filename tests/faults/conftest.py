"""What undisturbed studies give, for disturbed ones to be held against."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from checks import check_whole, command, run, scores

from mmtune.data.dataset import Dataset


@pytest.fixture(scope="session")
def calm(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Path:
    """The store of a study that nobody interrupted; not to be written."""
    store = Path(shutil.copytree(store_template, tmp_path_factory.mktemp("calm") / "mlruns"))
    run(command(tiny, store))
    return store


@pytest.fixture(scope="session")
def undisturbed(calm: Path) -> list[tuple[float, float]]:
    """The scores of a study that nobody interrupted."""
    return scores(check_whole(calm))


@pytest.fixture
def finished(calm: Path) -> Iterator[Path]:
    """The store of a finished study to be damaged, in the place that its runs name, and mended afterwards."""
    kept = calm.with_name("kept")
    shutil.copytree(calm, kept)
    yield calm
    shutil.rmtree(calm)
    kept.rename(calm)
