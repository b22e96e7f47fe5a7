"""A picture and its spoken name by encoders that are good alone, fused such that either may be bad or missing.

Paper: none. The picture goes through a small residual network, the recording through audio_mel's encoder; the sum of
both vectors goes through one linear layer, so that each adds what it has to say of every class. Trained with modality
dropout, after which the network answers for one of them alone as well, and with outliers, after which garbage in one of
them leads it no more astray than nothing would.

Command: make study NAME=mel_fusion
Time, 2 cores: 10 to 20 minutes on the bundled sample. Of 60,000 pairs each clip stands behind 20 pictures, so that 6
epochs are enough (EPOCHS=6): half an hour to an hour a trial.
Reported: no number.
"""

from mmtune.networks import LateFusion, LogMelResNet, SmallResNet, Sum
from mmtune.study import Study, under
from mmtune.study.catalogue import LOG_MEL_RESNET, MODALITY_DROPOUT, SMALL_RESNET
from mmtune.train.augmentations import PictureAugmentation, SpeechAugmentation
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="mel_fusion",
    title="Residual networks on picture and log-mels, fused",
    base=TrialConfig(
        model=LateFusion(encoders={"image": SmallResNet(), "speech": LogMelResNet(test_speed=0.08)}, fusion=Sum()),
        train=Train(
            epochs=40,
            weights="last",
            batch_size=128,
            optimizer="adamw",
            learning_rate=0.003,
            schedule="one-cycle",
            warmup=0.2,
            weight_decay=0.01,
            label_smoothing=0.1,
            ema=0.995,
            modality_dropout=0.3,
            outliers=0.1,
            augment={
                "image": PictureAugmentation(shift=0.1, rotate=10.0, scale=0.1),
                "speech": SpeechAugmentation(speed=0.25, shift=0.05, tilt=6.0, room=0.4, noise=0.8),
            },
        ),
    ),
    space=under("model.encoders.image", SMALL_RESNET)
    + under("model.encoders.speech", LOG_MEL_RESNET)
    + under("train", MODALITY_DROPOUT),
    trials=8,
    reduced=6,
    doc=__doc__,
)
