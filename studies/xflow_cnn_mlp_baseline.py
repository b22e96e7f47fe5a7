"""The baseline of XFlow's CNN x MLP: two streams with nothing between them.

Paper: XFlow (Cangea, Velickovic and Lio, "XFlow: Cross-modal deep neural networks for audiovisual classification"),
section 2 and figure 4. One trial of 300 epochs, to be compared
with its partner fold by fold.
The still picture and the 39 x 13 clip enter once, as one channel and one vector of 507;
an audiovisual sequence file (`DATA=mine.npz`) enters as the report has it, with padding masked.

Command: make study NAME=xflow_cnn_mlp_baseline
Time, 2 cores: 3 to 5 minutes on the bundled sample; `EPOCHS=2` is a first look at 60,000 pairs.
With few batches an epoch its validation jumps, as batch norms have Keras' momentum:
`mmtune study xflow_cnn_mlp_baseline --fix statistics=anew`.
Reported: no number on these data; on AVletters and CUAVE the connections lower the error significantly.
"""

from mmtune.networks.config import XFlowMLPConfig
from mmtune.study import Study, under
from mmtune.study.catalogue import OPTIMISER, XFLOW_MLP_STREAMS
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="xflow_cnn_mlp_baseline",
    paper="XFlow",
    title="CNN x MLP, nothing crosses",
    reported={},
    base=TrialConfig(
        model=XFlowMLPConfig(cross=False, residual=False),
        train=Train(epochs=300, batch_size=128, learning_rate=0.001),
    ),
    space=under("model", XFLOW_MLP_STREAMS) + under("train", OPTIMISER),
    grid={},
    repeats="best",
    reduced=4,
    doc=__doc__,
)
