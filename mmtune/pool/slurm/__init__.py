"""Workers as jobs of SLURM, asked for by submitit: no other program runs on the cluster beside them.

What a worker does is `mmtune.pool.worker.live`, as on one machine. Nodes see the store and the data set under the paths
that the coordinator has for them, as SLURM clusters have it, so that what a training leaves is in staging at once; what
is said in between goes over a connection of its own (`mmtune.pool.slurm.tie`).
"""

from mmtune.pool.slurm.pool import SlurmPool, SlurmSession
from mmtune.pool.slurm.queue import Request, require_slurm, sbatch_words

__all__ = ["Request", "SlurmPool", "SlurmSession", "require_slurm", "sbatch_words"]
