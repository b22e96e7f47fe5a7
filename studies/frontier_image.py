"""The picture alone, as far as two cores take it: a small residual network, and what each part of its recipe is worth.

Paper: none. The recipe is that of the best small networks on MNIST: rotation, shift and scale, decayed learning rate,
averaged weights, an ensemble in the end (An et al., "An ensemble of simple convolutional neural network models for
MNIST digit recognition", 2020: .9991 as an ensemble). Its own trials leave out one part each, so that cross-validated
they are the ablation; the base alone, repeated, is what the number comes from. Numbers are in studies/RESULTS.md.

Command: make study NAME=frontier_image SAMPLER=reported REPEATS=2, then make ensemble NAME=frontier_image
The ablation: make study NAME=frontier_image FOLDS=5 EPOCHS=12
Then: make compare NAMES=frontier_image FOLDS=5
Time, 2 cores: an hour and a half on MNIST's 60,000 pictures for two trainings, half an hour for the ablation on the
bundled sample.
Reported: no number.
"""

from mmtune.networks import LateFusion, SmallResNet
from mmtune.study import Study, under
from mmtune.study.catalogue import PICTURE_AUGMENTATION, SMALL_RESNET
from mmtune.train.augmentations import PictureAugmentation
from mmtune.train.recipe import Train, TrialConfig

AUGMENT = "train.augment.image"

STUDY = Study(
    name="frontier_image",
    title="The picture alone: residual network, ablated",
    base=TrialConfig(
        model=LateFusion(encoders={"image": SmallResNet()}, alone=False),
        train=Train(
            epochs=30,
            weights="last",
            batch_size=128,
            optimizer="adamw",
            learning_rate=0.003,
            schedule="one-cycle",
            warmup=0.2,
            weight_decay=0.01,
            label_smoothing=0.1,
            ema=0.995,
            augment={"image": PictureAugmentation(shift=0.1, rotate=15.0, scale=0.15)},
        ),
    ),
    space=under("model.encoders.image", SMALL_RESNET) + under(AUGMENT, PICTURE_AUGMENTATION),
    tries={
        "whole": {},
        "no_shift": {f"{AUGMENT}.shift": 0.0},
        "no_rotation": {f"{AUGMENT}.rotate": 0.0},
        "no_scale": {f"{AUGMENT}.scale": 0.0},
        "no_augmentation": {f"{AUGMENT}.shift": 0.0, f"{AUGMENT}.rotate": 0.0, f"{AUGMENT}.scale": 0.0},
        "erasing": {f"{AUGMENT}.erase": 0.2},
        "no_average": {"train.ema": 0.0},
        "no_smoothing": {"train.label_smoothing": 0.0},
        "constant_rate": {"train.schedule": "constant", "train.warmup": 0.0, "train.learning_rate": 0.001},
    },
    trials=30,
    reduced=10,
    doc=__doc__,
)
