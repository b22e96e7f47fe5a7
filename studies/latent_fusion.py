"""Joshi's latent fusion: one or two linear layers over the embeddings of the best image and audio networks.

Paper: Joshi, "Multi-Modal framework for classification of handwritten digits using Images and Audio",
sections 2.2 to 2.4. The grid is the report's: 2 trials; its epochs are not given, 10 are assumed.
The encoders are the best tracked trials of image_cnn and audio_rnn for the same data, protocol and seed, and
stay as they are; where those studies have not run, they run first. `--fix encoders=joint` trains everything
together from fresh weights instead.

Command: make study NAME=latent_fusion
Time, 2 cores, with the encoders there: seconds on the bundled sample, under a minute on 60,000 pairs.
Reported: 99.0 % accuracy (one layer).
"""

from mmtune.networks.config import LatentFusionConfig
from mmtune.study import Study, under
from mmtune.study.catalogue import LATENT_FUSION, OPTIMISER
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="latent_fusion",
    paper="Joshi",
    title="Linear fusion of both embeddings",
    reported={"accuracy": 0.99},
    base=TrialConfig(model=LatentFusionConfig(), train=Train(epochs=10, batch_size=64, learning_rate=0.001)),
    space=under("model", LATENT_FUSION) + under("train", OPTIMISER),
    grid={"model.layers": (1, 2)},
    encoders={"image": "image_cnn", "audio": "audio_rnn"},
    reduced=10,
    doc=__doc__,
)
