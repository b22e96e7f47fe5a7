"""Alarms told by their sound alone: a shipped encoder, and how its recordings are changed in training.

Data: samples/alarms.py makes 240 recordings of four alarms by ten devices, which are kept apart.
Commands, where `mmtune` is on the path:

    python docs/examples/samples/alarms.py data/alarms_files
    mmtune data build --audio data/alarms_files/sounds --audio-form logmel --group 'device=(device[0-9]+)_' \
        --keep-apart device --out data/alarms
    mmtune study docs/examples/alarms.py --data data/alarms
    mmtune promote docs/examples/alarms.py
    mmtune predict --model alarms --audio data/alarms_files/new.wav

Time, 2 cores: half a minute.
"""

from mmtune import Categorical, Real, SoundAugmentation, Study, Train, TrialConfig
from mmtune.networks import Conv1dEncoder, LateFusion

STUDY = Study(
    name="alarms",
    base=TrialConfig(
        model=LateFusion(encoders={"audio": Conv1dEncoder()}, alone=False),
        train=Train(
            epochs=15,
            weights="last",
            batch_size=16,
            learning_rate=0.003,
            schedule="one-cycle",
            augment={"audio": SoundAugmentation(shift=0.1, mel_shift=0.1)},
        ),
    ),
    space=(
        Categorical(path="model.encoders.audio.channels", values=(8, 16, 32)),
        Categorical(path="train.augment.audio.mel_shift", values=(0.0, 0.1, 0.2)),
        Real(path="train.learning_rate", low=1e-3, high=1e-2, log=True),
    ),
    trials=6,
)
