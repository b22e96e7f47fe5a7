"""The spoken name alone: which features a network should hear, on equal terms.

Paper: none; their wishes were MFCCs, chroma and spectrograms. Each of its own trials gives the same convolutions other
features of the same waveforms, by the same recipe: mel bands, MFCCs without and with how they change (Furui, 1986), the
plain spectrogram, chroma (Fujishima, 1999); or the waveform itself goes through convolutions over time (Dai et al.,
"Very deep convolutional neural networks for raw waveforms", 2017). Cross-validated over speakers they can be compared;
the base, which they are held against, is audio_mel's network, made smaller. Numbers are in studies/RESULTS.md.

Command: make study NAME=frontier_audio FOLDS=5 PROTOCOL=speaker_disjoint
Then: make compare NAMES=frontier_audio FOLDS=5
Time, 2 cores: half an hour on the bundled sample.
Reported: no number.
"""

from mmtune.networks import Conv1dEncoder, Head, LateFusion, LogMelResNet, OneOf, SpectrogramCNN
from mmtune.study import Study, one_of
from mmtune.study.catalogue import CONV1D, LOG_MEL_RESNET, SPECTROGRAM_CNN
from mmtune.train.augmentations import SpeechAugmentation
from mmtune.train.recipe import Train, TrialConfig

ENCODER = "model.encoders.speech"
CNN = f"{ENCODER}.options.convolutions"


def heard(**changes: str | int) -> dict[str, str | int]:
    """The same convolutions, with other features."""
    return {f"{ENCODER}.chosen": "convolutions", **{f"{CNN}.{name}": value for name, value in changes.items()}}


STUDY = Study(
    name="frontier_audio",
    title="The spoken name alone: features on equal terms",
    base=TrialConfig(
        model=LateFusion(
            encoders={
                "speech": OneOf(
                    chosen="residual",
                    options={
                        "residual": LogMelResNet(channels=16),
                        "convolutions": SpectrogramCNN(hop=320, norm="batch", input_norm="batch"),
                        "waveform": Conv1dEncoder(blocks=4, kernel=9, stride=4, norm="batch"),
                    },
                )
            },
            head=Head(dropout=0.2),
            alone=False,
        ),
        train=Train(
            epochs=12,
            weights="last",
            batch_size=64,
            optimizer="adamw",
            learning_rate=0.003,
            schedule="one-cycle",
            warmup=0.2,
            weight_decay=0.01,
            label_smoothing=0.1,
            ema=0.99,
            augment={"speech": SpeechAugmentation(speed=0.25, shift=0.05, tilt=6.0, room=0.4, noise=0.8)},
        ),
    ),
    space=one_of(ENCODER, {"residual": LOG_MEL_RESNET, "convolutions": SPECTROGRAM_CNN, "waveform": CONV1D}),
    tries={
        "residual": {},
        "mel_bands": heard(),
        "mel_bands_deltas": heard(deltas=2),
        "mfcc": heard(features="cepstra"),
        "mfcc_deltas": heard(features="cepstra", deltas=2),
        "spectrogram": heard(mels=0),
        "chroma": heard(features="chroma"),
        "waveform": {f"{ENCODER}.chosen": "waveform"},
        "no_augmentation": {
            f"train.augment.speech.{name}": 0.0 for name in ("speed", "shift", "tilt", "room", "noise")
        },
    },
    reduced=6,
    doc=__doc__,
)
