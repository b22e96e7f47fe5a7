"""The gate: a version becomes champion only if it is not significantly worse than the one there is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.statistics import McNemar, mcnemar_exact
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.serve.predictor import Predictor, predict_partition
from mmtune.serve.versions import Registry, predictor_folder


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a version passes the gate, and why."""

    passes: bool
    reason: str
    mcnemar: McNemar | None = None
    forced: bool = False


def verdict(
    registry: Registry,
    version: str,
    champion: str | None,
    predictions: NDArray[np.int64],
    dataset: Dataset,
    alpha: float,
) -> Verdict:
    """Hold a version's predictions of the test partition against the champion's."""
    if champion is None:
        return Verdict(passes=True, reason=f"version {version} is champion, as there was none before")
    if champion == version:
        return Verdict(passes=True, reason=f"version {version} is champion already")
    try:
        theirs = champion_predictions(registry, champion, dataset)
    except InputError as error:
        return Verdict(passes=False, reason=f"champion version {champion} cannot be compared: {error}")
    labels = dataset.require_test().labels
    result = mcnemar_exact(predictions == labels, theirs == labels)
    worse = result.a_is_worse(alpha)
    p_value = f"p = {result.p_value:.3g}" if result.p_value >= 1e-9 else "p < 1e-9"
    numbers = f"alone right on {result.only_a} test rows against {result.only_b}, exact McNemar {p_value}"
    how = "significantly worse" if worse else "not significantly worse"
    reason = f"version {version} is {how} than champion version {champion} ({numbers})"
    return Verdict(passes=not worse, reason=reason, mcnemar=result)


def champion_predictions(registry: Registry, champion: str, dataset: Dataset) -> NDArray[np.int64]:
    """What the champion says of this test partition, (N,) int64."""
    version = next(v for v in registry.versions() if str(v.version) == champion)
    predictor = Predictor.load(predictor_folder(registry.tracker, version))
    return predict_partition(predictor, dataset).digit
