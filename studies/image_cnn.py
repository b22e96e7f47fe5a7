"""Joshi's image CNN: which layers to batch-normalise, 3x3 or 5x5 filters, tanh or ReLU.

Paper: Joshi, "Multi-Modal framework for classification of handwritten digits using Images and Audio",
sections 2.2 to 2.4. The grid is the report's: 3 x 2 x 2 = 12 trials of 10 epochs.

Command: make study NAME=image_cnn
Time, 2 cores: about 1 minute on the bundled sample, about 15 minutes on 60,000 MNIST pairs.
Reported: 98.48 % accuracy (all layers normalised, 3x3, tanh).
"""

from mmtune.networks.config import NORM_CODES, ImageCNNConfig
from mmtune.study import Study, under
from mmtune.study.catalogue import IMAGE_CNN, OPTIMISER
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="image_cnn",
    paper="Joshi",
    title="Four-layer CNN on the picture",
    reported={"accuracy": 0.9848},
    base=TrialConfig(model=ImageCNNConfig(), train=Train(epochs=10, batch_size=64, learning_rate=0.01)),
    space=under("model", IMAGE_CNN) + under("train", OPTIMISER),
    grid={"model.norm": NORM_CODES, "model.kernel": (3, 5), "model.activation": ("tanh", "relu")},
    reduced=10,
    doc=__doc__,
)
