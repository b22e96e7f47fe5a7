"""Joshi's audio RNN: the size of the hidden layer and the number of layers.

Paper: Joshi, "Multi-Modal framework for classification of handwritten digits using Images and Audio",
sections 2.2 to 2.4. The grid is the report's: 3 x 2 = 6 trials of 25 epochs.

Command: make study NAME=audio_rnn
Time, 2 cores: about half a minute on the bundled sample, about 5 minutes on 60,000 pairs.
Reported: 92.9 % accuracy (320 hidden units, one layer).
"""

from mmtune.networks.config import AudioRNNConfig
from mmtune.study import Study, under
from mmtune.study.catalogue import AUDIO_RNN, OPTIMISER
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="audio_rnn",
    paper="Joshi",
    title="RNN on the spoken name",
    reported={"accuracy": 0.929},
    base=TrialConfig(model=AudioRNNConfig(), train=Train(epochs=25, batch_size=64, learning_rate=0.0001)),
    space=under("model", AUDIO_RNN) + under("train", OPTIMISER),
    grid={"model.hidden": (320, 350, 400), "model.layers": (1, 2)},
    reduced=25,
    doc=__doc__,
)
