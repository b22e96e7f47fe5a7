"""Whether workers elsewhere train with what this machine would train with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import mmtune
from mmtune.base.provenance import installed

SAME = "every node must have this machine's mmtune and torch"


@cache
def made_with() -> dict[str, str]:
    """What decides a training's result on the same hardware: versions, and mmtune's source."""
    source = hashlib.sha256()
    root = Path(mmtune.__file__).parent
    for path in sorted(root.rglob("*.py")):
        source.update(str(path.relative_to(root)).encode() + path.read_bytes())
    # The builds of one version of torch for CPUs and for GPUs differ in what follows the plus.
    versions = {name: installed(name).partition("+")[0] for name in ("torch", "numpy", "scikit-learn")}
    return {"mmtune": f"{mmtune.__version__} ({source.hexdigest()[:8]})", **versions}


def differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """What they have otherwise than we, in words."""
    return [f"{name} {theirs.get(name)} instead of {own}" for name, own in ours.items() if theirs.get(name) != own]
