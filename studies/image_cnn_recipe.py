"""Joshi's image CNN with a recipe that is searched too: optimiser, schedule, penalties, averages and augmentation.

Paper: none; the network is image_cnn's, and its epochs. What that is worth against the paper's Adam at one rate is in
studies/RESULTS.md.

Command: make study NAME=image_cnn_recipe
Time, 2 cores: about 2 minutes on the bundled sample.
Reported: no number.
"""

from mmtune.networks.config import ImageCNNConfig
from mmtune.study import Study, under
from mmtune.study.catalogue import IMAGE_CNN, PICTURE_AUGMENTATION, RECIPE
from mmtune.train.augmentations import PictureAugmentation
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="image_cnn_recipe",
    title="Image CNN, its recipe searched",
    base=TrialConfig(
        model=ImageCNNConfig(),
        train=Train(epochs=10, batch_size=64, learning_rate=0.001, augment={"image": PictureAugmentation()}),
    ),
    space=under("model", IMAGE_CNN) + under("train", RECIPE) + under("train.augment.image", PICTURE_AUGMENTATION),
    trials=30,
    reduced=10,
    doc=__doc__,
)
