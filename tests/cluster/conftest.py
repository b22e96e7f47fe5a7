"""A Ray cluster of several nodes on this machine, on loopback; a CPU of theirs is what they are told, not a core."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports ray: its nodes then listen on loopback, and tell nobody that they are there.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# The check that every fault ends in is that of the other faults.
sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

from nodes import Cluster


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    made = Cluster(1)
    yield made
    made.inner.shutdown()


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """Three nodes."""
    shared_cluster.resize(3)
    return shared_cluster


@pytest.fixture
def lone_node(shared_cluster: Cluster) -> Cluster:
    """One node, to which others may be added."""
    shared_cluster.resize(1)
    return shared_cluster
