"""Bajaj's dual CNN: learning rate, kernel, stride and dropout of two small CNNs whose outputs are joined.

Paper: Bajaj, "FusionModel", sections 2.1 to 2.4. Batches of 8, 50 epochs, audio through scikit-learn's StandardScaler
as part of the network. The report tuned by hand and prints no ranges: the grid puts one other value beside each
printed one, 2 x 2 x 2 x 2 = 16 trials.

Command: make study NAME=dual_cnn_fusion
Time, 2 cores: about 40 minutes on the bundled sample, days on 60,000 pairs; `EPOCHS=2` is a first look.
Reported: 99.9 % macro-F1 (kernel 5, stride 1, dropout .5, learning rate .0001).
"""

from mmtune.networks.config import DualCNNConfig
from mmtune.study import Study, under
from mmtune.study.catalogue import DUAL_CNN_FUSION, SLOW_OPTIMISER
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="dual_cnn_fusion",
    paper="Bajaj",
    title="Two small CNNs, joined",
    reported={"macro_f1": 0.999},
    base=TrialConfig(model=DualCNNConfig(), train=Train(epochs=50, batch_size=8, learning_rate=0.0001)),
    space=under("model", DUAL_CNN_FUSION) + under("train", SLOW_OPTIMISER),
    grid={
        "model.kernel": (5, 3),
        "model.stride": (1, 2),
        "model.dropout": (0.5, 0.25),
        "train.learning_rate": (0.0001, 0.001),
    },
    reduced=3,
    doc=__doc__,
)
