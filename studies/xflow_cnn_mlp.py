"""XFlow's CNN x MLP and what crosses between its streams: an ablation of both kinds of connections.

Paper: XFlow (Cangea, Velickovic and Lio, "XFlow: Cross-modal deep neural networks for audiovisual classification"),
section 2 and figure 4. The grid switches
cross-connections and residual ones on and off: 2 x 2 = 4 trials of 300 epochs.
The still picture and the 39 x 13 clip enter once, as one channel and one vector of 507;
an audiovisual sequence file (`DATA=mine.npz`) enters as the report has it, with padding masked.

Command: make study NAME=xflow_cnn_mlp
Time, 2 cores: about 20 minutes on the bundled sample; `EPOCHS=2` is a first look at 60,000 pairs.
With few batches an epoch its validation jumps, as batch norms have Keras' momentum:
`mmtune study xflow_cnn_mlp --fix statistics=anew`.
Reported: no number on these data; on AVletters and CUAVE the connections lower the error significantly.
"""

from mmtune.networks.config import XFlowMLPConfig
from mmtune.study import Study, under
from mmtune.study.catalogue import OPTIMISER, XFLOW_MLP
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="xflow_cnn_mlp",
    paper="XFlow",
    title="CNN x MLP, streams that cross",
    reported={},
    base=TrialConfig(
        model=XFlowMLPConfig(),
        train=Train(epochs=300, batch_size=128, learning_rate=0.001),
    ),
    space=under("model", XFLOW_MLP) + under("train", OPTIMISER),
    grid={"model.cross": (True, False), "model.residual": (True, False)},
    baseline="xflow_cnn_mlp_baseline",
    repeats="best",
    reduced=4,
    doc=__doc__,
)
