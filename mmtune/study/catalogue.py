"""Every choice there is to tune, with a range to start from and where it comes from: draw from it, or write your own.

Paths are below the part that they tune: `under("model.encoders.photo", SMALL_CNN) + under("train", RECIPE)`. Nothing
here binds a study, whose own values are its own. First the papers', then those of parts and of the recipe.
"""

from __future__ import annotations

from mmtune.networks.config import NORM_CODES
from mmtune.study.space import Categorical, Integer, Real, Space

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

LADDER = "Venkatachalam 2.4"
IMAGE_DROPOUTS = ("none", "conv2", "fc1", "conv2-fc1", "conv2-last-fc1")
AUDIO_DROPOUTS = ("none", "conv1", "fc1", "conv1-fc1", "conv1-last-fc1")
HEADS, IN_TURN = ("audio_net", "multihead"), ("audio_net", "sequential")
MULTIHEAD_FUSION: Space = (
    Categorical(path="image_kernels", values=("3-3", "5-3-3", "7-5-3-3", "5-5-3-3"), source=LADDER),
    Categorical(path="image_pools", values=(2, 3), source=LADDER),
    Categorical(path="image_dropouts", values=IMAGE_DROPOUTS, source=LADDER),
    Categorical(path="image_fc", values=(1, 2), source=LADDER),
    Categorical(path="audio_net", values=("multihead", "sequential"), source=LADDER),
    Categorical(path="heads", values=("7-5-3", "5-3", "9-7-5-3"), source="Venkatachalam 2.2; wishes, 4", when=HEADS),
    Categorical(path="extra_conv", values=(False, True), source=LADDER, when=HEADS),
    Categorical(path="audio_kernels", values=("5-3", "7-3", "7-5", "3-3", "5-5"), source=LADDER, when=IN_TURN),
    Categorical(path="audio_pool", values=(2, 3), source=LADDER, when=IN_TURN),
    Categorical(path="audio_dropouts", values=AUDIO_DROPOUTS, source=LADDER),
    Categorical(path="audio_fc", values=(1, 2, 3), source=LADDER),
    Categorical(path="width", values=(64, 128), source=LADDER),
    Categorical(path="fusion_norm", values=(True, False), source=LADDER),
    Categorical(path="fusion_fc", values=(1, 2), source=LADDER),
    Categorical(path="softmax", values=(True, False), source="Venkatachalam 2.4, Try 3"),
    Real(path="dropout", low=0.0, high=0.6, source="Venkatachalam 2.4 (.3 throughout)"),
)
DUAL_CNN_FUSION: Space = (
    Categorical(path="kernel", values=(3, 5, 7), source="Bajaj 2.4 (5; no range printed)"),
    Categorical(path="stride", values=(1, 2), source="Bajaj 2.4 (1; no range printed)"),
    Real(path="dropout", low=0.0, high=0.7, source="Bajaj 2.4 (.5; no range printed)"),
)
SPECTROGRAM_FUSION: Space = (
    Integer(path="layers", low=1, high=3, source="Subrahmanya 2.4, random search"),
    Integer(path="fc_layers", low=1, high=3, source="Subrahmanya 2.4, random search"),
    Real(path="dropout", low=0.1, high=0.7, source="Subrahmanya 2.4, random search"),
    Integer(path="filters", low=8, high=64, log=True, source="Subrahmanya 2.4, manual tuning"),
    Integer(path="hidden", low=32, high=512, log=True, source="Subrahmanya 2.4, manual tuning"),
)
SPECTROGRAM_OPTIMISER: Space = (
    Real(path="learning_rate", low=1e-5, high=1e-2, log=True, source="Subrahmanya 2.4, grid search (.0005)"),
    Categorical(path="batch_size", values=(16, 32, 64, 128), source="Subrahmanya 2.4, grid search (32)"),
)
SLOW_OPTIMISER: Space = (Real(path="learning_rate", low=1e-5, high=1e-2, log=True, source="Bajaj 2.3 (.0001)"),)
XFLOW_MLP_STREAMS: Space = (
    Real(path="pool_dropout", low=0.0, high=0.5, source="XFlow, appendix A (.25)"),
    Real(path="dense_dropout", low=0.0, high=0.7, source="XFlow, appendix A (.5)"),
    Real(path="merge_dropout", low=0.0, high=0.7, source="XFlow, appendix A (.5)"),
)
XFLOW_LSTM_STREAMS: Space = (Real(path="merge_dropout", low=0.0, high=0.7, source="XFlow, appendix A (.5; .25)"),)
CROSSINGS: Space = (
    Categorical(path="cross", values=(True, False), source="XFlow 2.1"),
    Categorical(path="residual", values=(True, False), source="XFlow 2.1"),
    Categorical(path="kernel1", values=(4, 8, 11), source="XFlow, figure 4, for 14 x 14"),
    Categorical(path="kernel2", values=(2, 4, 6), source="XFlow, figure 4, for 7 x 7"),
)
XFLOW_MLP: Space = CROSSINGS + XFLOW_MLP_STREAMS
XFLOW_LSTM: Space = CROSSINGS + XFLOW_LSTM_STREAMS

# ---- parts for networks of one's own

DROPOUT = Real(path="dropout", low=0.0, high=0.6, source="Srivastava et al. 2014")
WIDTH = Categorical(path="width", values=(32, 64, 128, 256), source="powers of two around the papers' 64")
NORM = Categorical(path="norm", values=("batch", "none"), source="Ioffe and Szegedy 2015")
CONVOLUTIONS: Space = (
    Categorical(path="channels", values=(8, 16, 32, 64), source="powers of two around the papers' 6 to 64"),
    Integer(path="blocks", low=1, high=4, source="Bajaj 2.2 (2), Joshi 2.2 (4)"),
    Categorical(path="kernel", values=(3, 5, 7), source="Joshi 2.4, Bajaj 2.2"),
    Categorical(path="activation", values=("relu", "gelu", "silu", "tanh"), source="Joshi 2.4 (relu, tanh)"),
    NORM,
    WIDTH,
    DROPOUT,
)
SMALL_CNN: Space = CONVOLUTIONS
SPECTROGRAM_CNN: Space = (*CONVOLUTIONS, Categorical(path="mels", values=(40, 64, 80), source="of waveforms; usual"))
CONV1D: Space = (
    *CONVOLUTIONS,
    Categorical(path="summary", values=("mean", "flat"), source="Dai et al. 2017 (mean)"),
)
SMALL_RESNET: Space = (
    Categorical(path="channels", values=(8, 16, 32, 64), source="He et al. 2016, section 4.2 (16)"),
    Integer(path="stages", low=2, high=4, source="He et al. 2016, section 4.2 (3)"),
    Integer(path="blocks", low=1, high=3, source="He et al. 2016, section 4.2 (3 to 18)"),
    WIDTH,
    DROPOUT,
)
LOG_MEL_RESNET: Space = (
    Categorical(path="channels", values=(16, 24, 32), source="50 to 500 thousand weights"),
    Categorical(path="standardise", values=("clip", "band"), source="Atal 1974 (band)"),
    Categorical(path="hop", values=(160, 320), source="10 and 20 ms at 16 kHz"),
    Categorical(path="deltas", values=(0, 1, 2), source="Furui 1986"),
    Real(path="mask", low=0.0, high=0.35, source="SpecAugment, Park et al. 2019 (27 of 80 bands)"),
    DROPOUT,
)
RECURRENT: Space = (
    Categorical(path="cell", values=("rnn", "gru", "lstm"), source="Joshi 2.2 (rnn), XFlow (lstm)"),
    Categorical(path="hidden", values=(32, 64, 128, 256), source="Joshi 2.4 (320 to 400)"),
    Categorical(path="layers", values=(1, 2), source="Joshi 2.4"),
    Categorical(path="bidirectional", values=(False, True), source="Schuster and Paliwal 1997"),
    Categorical(path="summary", values=("last", "mean"), source="Joshi 2.2 (last)"),
    NORM,
    WIDTH,
    DROPOUT,
)
SMALL_TRANSFORMER: Space = (
    Categorical(path="width", values=(32, 64, 128), source="multiples of every number of heads"),
    Categorical(path="heads", values=(2, 4, 8), source="Vaswani et al. 2017 (8)"),
    Integer(path="layers", low=1, high=4, source="Vaswani et al. 2017 (6)"),
    Categorical(path="feed_forward", values=(2, 4), source="Vaswani et al. 2017 (4)"),
    Categorical(path="patch", values=(4, 7), source="of pictures; both divide 28"),
    DROPOUT,
)
PERCEPTRON: Space = (
    Categorical(path="hidden", values=(32, 64, 128, 256, 512), source="powers of two"),
    Integer(path="layers", low=1, high=3, source="Venkatachalam 2.4"),
    NORM,
    WIDTH,
    DROPOUT,
)
GATED: Space = (
    WIDTH,
    Categorical(path="gate", values=("softmax", "sigmoid"), source="Arevalo et al. 2017 (softmax)"),
)
CROSS_ATTENTION: Space = (
    Categorical(path="width", values=(32, 64, 128), source="multiples of every number of heads"),
    Categorical(path="heads", values=(1, 2, 4, 8), source="Vaswani et al. 2017 (8)"),
    Categorical(path="summary", values=("joined", "mean"), source="both usual"),
)
LOW_RANK: Space = (WIDTH, Integer(path="rank", low=1, high=16, log=True, source="Liu et al. 2018 (4 and more)"))
HEAD: Space = (
    Categorical(path="hidden", values=(0, 64, 128), source="Joshi 2.4 (one layer or two)"),
    DROPOUT,
)

# ---- the recipe

RECIPE: Space = (
    Categorical(path="optimizer", values=("adam", "adamw", "nadam", "sgd", "muon"), source="papers: adam alone"),
    Real(path="learning_rate", low=1e-4, high=3e-2, log=True, source="Joshi 2.3 (.1 .01 .001 .0001)"),
    Categorical(path="schedule", values=("constant", "cosine", "one-cycle", "step"), source="see mmtune.train.recipe"),
    Categorical(path="warmup", values=(0.0, 0.05, 0.2), source="Goyal et al. 2017"),
    Real(path="weight_decay", low=1e-6, high=1e-1, log=True, source="Loshchilov and Hutter 2019"),
    Categorical(path="batch_size", values=(32, 64, 128), source="Subrahmanya 2.4 (16 to 128)"),
    Real(path="label_smoothing", low=0.0, high=0.2, source="Szegedy et al. 2016 (.1)"),
    Categorical(path="ema", values=(0.0, 0.99, 0.999), source="Polyak and Juditsky 1992"),
    Categorical(path="clip", values=(0.0, 1.0), source="Pascanu et al. 2013"),
)
"""What is worth searching of `Train` before anything else."""
CLASS_WEIGHTS: Space = (
    Categorical(path="class_weights", values=(False, True), source="Venkatachalam 2.1; Subrahmanya 2.3"),
)
PENALTIES: Space = (
    Real(path="l1", low=1e-7, high=1e-4, log=True, source="wishes of the papers: L1"),
    *CLASS_WEIGHTS,
    Categorical(path="momentum", values=(0.8, 0.9, 0.95), source="Sutskever et al. 2013", when=("optimizer", "sgd")),
)
STATISTICS: Space = (
    Categorical(path="statistics", values=("running", "anew"), source="Wu and Johnson 2021, for few batches an epoch"),
)

# ---- augmentations: below one, as in under("train.augment.image", PICTURE_AUGMENTATION)

PICTURE_AUGMENTATION: Space = (
    Real(path="shift", low=0.0, high=0.2, source="An et al. 2020 (.2)"),
    Real(path="rotate", low=0.0, high=20.0, source="An et al. 2020 (20), Cireşan et al. 2010 (15)"),
    Real(path="scale", low=0.0, high=0.2, source="Cireşan et al. 2010 (.15 to .2)"),
    Real(path="erase", low=0.0, high=0.4, source="Random Erasing, Zhong et al. 2020 (.4)"),
)
SOUND_SHIFT = Real(path="shift", low=0.0, high=0.2, source="Speech Commands, TensorFlow's training script (.1)")
TIME_MASK = Real(path="time_mask", low=0.0, high=0.2, source="SpecAugment, Park et al. 2019 (.2, for Switchboard)")
WAVEFORM_AUGMENTATION: Space = (
    SOUND_SHIFT,
    Real(path="gain", low=0.0, high=12.0, source="audiomentations, Gain (12)"),
    Real(path="noise", low=0.0, high=0.5, source="audiomentations, AddGaussianSNR (.01 to .56)"),
    TIME_MASK,
)
SPEECH_AUGMENTATION: Space = (
    Real(path="speed", low=0.0, high=0.4, source="Ko et al. 2015 (.1)"),
    Real(path="tilt", low=0.0, high=9.0, source="dB an octave; voices and microphones differ by as much"),
    Real(path="room", low=0.05, high=0.8, source="Ko et al. 2017, small and medium rooms"),
    Real(path="snr", low=0.0, high=20.0, source="Ko et al. 2017 (0 to 20 dB)"),
)
NOISE = Real(path="noise", low=0.0, high=0.5, source="Bishop 1995; no range printed")
FEATURE_AUGMENTATION: Space = (
    SOUND_SHIFT,
    Real(path="gain", low=0.0, high=0.5, source="what a waveform's is in features; no range printed"),
    NOISE,
    Real(path="frequency_mask", low=0.0, high=0.35, source="SpecAugment, Park et al. 2019 (27 of 80 bands)"),
    TIME_MASK,
)
MEL_AUGMENTATION: Space = (
    *FEATURE_AUGMENTATION,
    Real(path="mel_shift", low=0.0, high=0.1, source="Jaitly and Hinton 2013 (10 % of a frequency, 2 of 40 bands)"),
)
VECTOR_AUGMENTATION: Space = (
    NOISE,
    Real(path="gaps", low=0.0, high=0.5, source="masking noise, Vincent et al. 2008 (.1 to .5)"),
)
MIXUP: Space = (Real(path="mixup", low=0.0, high=1.0, source="Zhang et al. 2018 (.1 to .4; 1 for CIFAR-10)"),)
MODALITY_DROPOUT: Space = (
    Real(path="modality_dropout", low=0.0, high=0.5, source="ModDrop, Neverova et al. 2016; no range printed"),
)
BALANCE: Space = (
    Real(path="balance", low=0.0, high=1.0, source="OGM-GE, Peng et al. 2022; of a LateFusion of several banks"),
)
OUTLIERS: Space = (Real(path="outliers", low=0.0, high=0.5, source="Hendrycks et al. 2019; no range printed"),)
