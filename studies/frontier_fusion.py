"""How picture and recording are best fused: a zoo on equal terms, and what each part of the recipe is worth.

Paper: none; their wishes were attention, gates and early fusion. The encoders, the recipe and the budget are the same
in all trials. The base adds the encoders' vectors; the others join them, gate them (Arevalo et al., 2017), attend
(Vaswani et al., 2017), multiply them at low rank (Liu et al., 2018), or join the values before any layer; `crossed`
joins the vectors of encoders that tell each other what they see (XFlow, Cangea et al., 2019). Then what is left out of
the base or put into it: modality dropout, outliers, a classifier of each bank that trains its encoder too (Wang et al.,
"What makes training multi-modal classification networks hard?", 2020), gradients that are held in balance (Peng et al.,
2022). Each epoch says how much of the accuracy each bank makes (`val_reliance_image`). Numbers are in
studies/RESULTS.md.

Command: make study NAME=frontier_fusion FOLDS=5 PROTOCOL=speaker_disjoint
Then: make compare NAMES=frontier_fusion FOLDS=5
Time, 2 cores: an hour on the bundled sample.
Reported: no number.
"""

from mmtune.networks import (
    Concatenation,
    CrossAttention,
    EarlyFusion,
    Gated,
    LateFusion,
    LogMelResNet,
    LowRank,
    OneOf,
    SmallResNet,
    Sum,
)
from mmtune.study import Study, one_of, under
from mmtune.study.catalogue import CROSS_ATTENTION, GATED, LOW_RANK, MODALITY_DROPOUT
from mmtune.train.augmentations import PictureAugmentation, SpeechAugmentation
from mmtune.train.recipe import Train, TrialConfig

LATE = "model.options.late"
FUSION = f"{LATE}.fusion"

STUDY = Study(
    name="frontier_fusion",
    title="Picture and recording: fusions on equal terms, ablated",
    base=TrialConfig(
        model=OneOf(
            chosen="late",
            options={
                "late": LateFusion(
                    encoders={"image": SmallResNet(channels=8), "speech": LogMelResNet(channels=16)},
                    fusion=OneOf(
                        chosen="sum",
                        options={
                            "sum": Sum(),
                            "concatenation": Concatenation(),
                            "gated": Gated(),
                            "attention": CrossAttention(),
                            "low_rank": LowRank(),
                        },
                    ),
                ),
                "early": EarlyFusion(reads=("image", "speech"), hidden=128, layers=2),
            },
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
            modality_dropout=0.3,
            outliers=0.1,
            augment={
                "image": PictureAugmentation(shift=0.1, rotate=10.0, scale=0.1),
                "speech": SpeechAugmentation(speed=0.25, shift=0.05, tilt=6.0, room=0.4, noise=0.8),
            },
            reliance=300,
        ),
    ),
    space=one_of(
        FUSION,
        {"sum": (), "concatenation": (), "gated": GATED, "attention": CROSS_ATTENTION, "low_rank": LOW_RANK},
    )
    + under("train", MODALITY_DROPOUT),
    tries={
        "sum": {},
        "concatenation": {f"{FUSION}.chosen": "concatenation"},
        "gated": {f"{FUSION}.chosen": "gated"},
        "attention": {f"{FUSION}.chosen": "attention"},
        "low_rank": {f"{FUSION}.chosen": "low_rank"},
        "early": {"model.chosen": "early"},
        "no_modality_dropout": {"train.modality_dropout": 0.0},
        "no_outliers": {"train.outliers": 0.0},
        "neither": {"train.modality_dropout": 0.0, "train.outliers": 0.0},
        "guided": {f"{LATE}.guided": True},
        "balanced": {"train.balance": 0.3, "train.modality_dropout": 0.0},
        "crossed": {f"{FUSION}.chosen": "concatenation", f"{LATE}.crossed": True, f"{LATE}.alone": False},
    },
    reduced=6,
    doc=__doc__,
)
