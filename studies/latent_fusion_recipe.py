"""Joshi's latent fusion, trained as one network, with a recipe that is searched too.

Paper: none; the network is latent_fusion's with `encoders=joint`, and its epochs. What that is worth against the
paper's Adam at one rate is in studies/RESULTS.md.

Command: make study NAME=latent_fusion_recipe
Time, 2 cores: about 3 minutes on the bundled sample.
Reported: no number.
"""

from mmtune.networks.config import LatentFusionConfig
from mmtune.study import Study, under
from mmtune.study.catalogue import (
    FEATURE_AUGMENTATION,
    LATENT_FUSION,
    MIXUP,
    MODALITY_DROPOUT,
    PICTURE_AUGMENTATION,
    RECIPE,
)
from mmtune.train.augmentations import PictureAugmentation, SoundAugmentation
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="latent_fusion_recipe",
    title="Latent fusion, its recipe searched",
    base=TrialConfig(
        model=LatentFusionConfig(encoders="joint"),
        train=Train(
            epochs=10,
            batch_size=64,
            learning_rate=0.001,
            augment={"image": PictureAugmentation(), "audio": SoundAugmentation()},
        ),
    ),
    space=under("model", LATENT_FUSION)
    + under("train", RECIPE + MIXUP + MODALITY_DROPOUT)
    + under("train.augment.image", PICTURE_AUGMENTATION)
    + under("train.augment.audio", FEATURE_AUGMENTATION),
    trials=30,
    reduced=10,
    doc=__doc__,
)
