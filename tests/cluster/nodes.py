"""A Ray cluster on this machine, whose nodes come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


class Cluster:
    """A head and nodes of one CPU each, which can be added, and killed without a word."""

    def __init__(self, nodes: int) -> None:
        cluster = pytest.importorskip("ray.cluster_utils", reason="needs Ray: pip install 'mmtune[ray]'")
        self.inner = cluster.Cluster()
        self.others: list[Any] = []
        self.head = self.add(head=True)
        for _ in range(nodes - 1):
            self.add()

    @property
    def address(self) -> str:
        return str(self.inner.address)

    def add(self, head: bool = False, **more: Any) -> Any:
        """One more node."""
        node = self.inner.add_node(num_cpus=1, object_store_memory=100 * 2**20, **more)
        if not head:
            self.others.append(node)
        return node

    def kill(self, node: Any) -> None:
        """The end of a node and all of its actors, at once."""
        self.others.remove(node)
        self.inner.remove_node(node, allow_graceful=False)

    def resize(self, nodes: int) -> None:
        """So many nodes as there were at first, whatever a test has done to them."""
        while len(self.others) > nodes - 1:
            self.kill(self.others[-1])
        while len(self.others) < nodes - 1:
            self.add()
        self.inner.wait_for_nodes()


def actors() -> list[int]:
    """The processes of actors on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [int(path.parent.name)] if b"ray::Trainer" in path.read_bytes() else []
        except OSError:
            continue
    return found
