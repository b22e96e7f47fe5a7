"""Venkatachalam's ladder: 13 tries at an image CNN and an audio CNN, fused.

Paper: Venkatachalam, "CNN Model for Multimodal Data", sections 2.2 and 2.4. The trials are the report's 13 tries by
name, each self-contained, of 20 to 100 epochs; Try 6 goes on from Try 5's last epoch. The weights of the best epoch
and of the last one are both evaluated and kept. The report chose its tries by test-set F1; here validation chooses.
With another sampler the same choices are one searchable space.

Command: make study NAME=multihead_fusion
Time, 2 cores: about half an hour on the bundled sample, days on 60,000 pairs; `EPOCHS=2` is a first look.
Reported: 99.76 % accuracy, 99.8 % macro-F1 (Try 10, final weights).
"""

from mmtune.networks.config import MultiheadFusionConfig
from mmtune.networks.config.venkatachalam import RESUMES, TRIES
from mmtune.study import Study, under
from mmtune.study.catalogue import MULTIHEAD_FUSION, OPTIMISER
from mmtune.train.recipe import TrainConfig, TrialConfig

STUDY = Study(
    name="multihead_fusion",
    paper="Venkatachalam",
    title="Multi-head audio CNN and image CNN, fused",
    reported={"accuracy": 0.9976, "macro_f1": 0.998},
    base=TrialConfig(
        model=MultiheadFusionConfig(),
        train=TrainConfig(epochs=100, batch_size=32, learning_rate=0.001, class_weights=True, keep_final=True),
    ),
    space=under("model", MULTIHEAD_FUSION) + under("train", OPTIMISER),
    tries=TRIES,
    going_on=RESUMES,
    published={
        "VGG-5 (Spinal FC), image only": 0.9915,
        "CAMNet3, image only": 0.9905,
        "VGG8B(2x), image only": 0.9901,
        "CN(d=32), image only": 0.9884,
        "NSRL(log D), image only": 0.9881,
        "ResNet-152, image only": 0.9879,
        "ResNet-14, image only": 0.9875,
        "Venkatachalam's own": 0.9976,
    },
    published_source="Venkatachalam, table 2, which does not say on which data the others were measured",
    reduced=3,
    doc=__doc__,
)
