"""Every tunable choice of the reports, with its range and where it comes from; paths are below the part they tune."""

from __future__ import annotations

from mmtune.config import NORM_CODES
from mmtune.space import Categorical, Real, Space

IMAGE_CNN: Space = (
    Categorical(path="norm", values=NORM_CODES, source="Joshi 2.4"),
    Categorical(path="kernel", values=(3, 5), source="Joshi 2.4"),
    Categorical(path="activation", values=("tanh", "relu"), source="Joshi 2.4"),
    Categorical(path="pools", values=("2-4", "3-4"), source="Joshi figure 9, both readings"),
    Categorical(path="l5", values=("absent", "fc1"), source="Joshi 2.4, both readings", when=("norm", NORM_CODES[0])),
    Real(path="dropout", low=0.0, high=0.5, source="Joshi 2.2 (.05); Bajaj 2.4 varies it up to .5"),
)
AUDIO_RNN: Space = (
    Categorical(path="hidden", values=(320, 350, 400), source="Joshi 2.4"),
    Categorical(path="layers", values=(1, 2), source="Joshi 2.4"),
    Categorical(path="view", values=("step", "sequence"), source="Joshi 2.2; the sequence is its obvious extension"),
)
LATENT_FUSION: Space = (
    Categorical(path="layers", values=(1, 2), source="Joshi 2.4"),
    Categorical(path="embedding", values=(10, 64), source="Joshi 2.2", when=("encoders", "frozen")),
)
OPTIMISER: Space = (Real(path="learning_rate", low=1e-4, high=1e-1, log=True, source="Joshi 2.3 (.1 .01 .001 .0001)"),)
