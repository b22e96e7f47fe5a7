"""Workers as Ray actors, on this machine or on every node of a cluster.

Placement, shares of GPUs and lost nodes are Ray's; what a worker does is `mmtune.pool.worker.live`, as on one machine.
A node needs mmtune installed and nothing else: the data set, trained encoders and checkpoints reach it through Ray's
object store, once a node, and what a job leaves comes back the same way.
"""

from mmtune.pool.ray.engine import Engine
from mmtune.pool.ray.pool import RayPool, RaySession

__all__ = ["Engine", "RayPool", "RaySession"]
