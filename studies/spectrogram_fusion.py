"""Subrahmanya's network: a CNN on the picture and one over time on the spectrogram, tuned in three phases.

Paper: Subrahmanya, "Final Homework Write-up", sections 2.1 to 2.4. The phases are the report's three strategies: a
grid over learning rate and batch size (9 trials), a random search over the number of layers and dropout around the
best of it (12), and refinements by hand around the best of both (4). The report prints no values: those around its
final ones stand here. The spectrograms need recordings; for data that came as features only, `FIX=view=mfcc` reads
those. A promoted trial leaves `submission.csv`.

Command: make study NAME=spectrogram_fusion
Time, 2 cores: about 15 minutes on the bundled sample, a day on 60,000 pairs; `EPOCHS=2` is a first look.
Reported: no number.
"""

from mmtune.networks.config import SpectrogramFusionConfig
from mmtune.study import Study, under
from mmtune.study.catalogue import SPECTROGRAM_FUSION, SPECTROGRAM_OPTIMISER
from mmtune.study.schedule import GridPhase, RandomPhase, RefinePhase
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="spectrogram_fusion",
    paper="Subrahmanya",
    title="Image CNN and spectrogram CNN, joined",
    reported={},
    base=TrialConfig(
        model=SpectrogramFusionConfig(),
        train=Train(epochs=20, batch_size=32, learning_rate=0.0005, class_weights=True),
    ),
    space=under("model", SPECTROGRAM_FUSION) + under("train", SPECTROGRAM_OPTIMISER),
    phases=(
        GridPhase(values={"train.learning_rate": (0.0005, 0.0001, 0.001), "train.batch_size": (32, 64, 128)}),
        RandomPhase(paths=("model.layers", "model.fc_layers", "model.dropout"), trials=12),
        RefinePhase(
            factors=(
                {"train.learning_rate": 0.5},
                {"train.learning_rate": 2.0},
                {"model.hidden": 2.0},
                {"model.filters": 0.5},
            )
        ),
    ),
    reduced=5,
    doc=__doc__,
)
