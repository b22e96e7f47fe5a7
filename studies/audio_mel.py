"""The spoken name by its log-mel spectrogram: an encoder that knows a voice it has never heard.

Paper: none. What it is worth against the papers' audio networks, on voices and microphones that were not trained on,
is in studies/RESULTS.md. It reads the bank `speech`, in which the word is found, trimmed and as loud as any other.

Command: make study NAME=audio_mel
Time, 2 cores: 10 to 20 minutes on the bundled sample. Of 60,000 pairs each clip stands behind 20 pictures, so that 6
epochs are enough (EPOCHS=6): half an hour to an hour a trial.
Reported: no number.
"""

from mmtune.networks import Head, LateFusion, LogMelResNet
from mmtune.study import Study, under
from mmtune.study.catalogue import LOG_MEL_RESNET, SPEECH_AUGMENTATION
from mmtune.train.augmentations import SpeechAugmentation
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="audio_mel",
    title="Residual network on log-mels of the spoken name",
    base=TrialConfig(
        model=LateFusion(encoders={"speech": LogMelResNet(test_speed=0.08)}, head=Head(dropout=0.2), alone=False),
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
            augment={"speech": SpeechAugmentation(speed=0.25, shift=0.05, tilt=6.0, room=0.4, noise=0.8)},
        ),
    ),
    space=under("model.encoders.speech", LOG_MEL_RESNET) + under("train.augment.speech", SPEECH_AUGMENTATION),
    trials=8,
    reduced=6,
    doc=__doc__,
)
