"""What an advert sells, by a vector of its sentence and a sketch that it may lack: shipped parts, the fusion searched.

Data: samples/adverts.py makes 360 adverts; the vectors are scikit-learn's hashed word counts, in .npy files as a user's
own would be.
Commands, where `mmtune` is on the path:

    python docs/examples/samples/adverts.py data/adverts_files
    mmtune data build --table data/adverts_files/samples.csv --array words:64 --image sketch:32x32:grey \
        --out data/adverts
    mmtune study docs/examples/adverts.py --data data/adverts
    mmtune promote docs/examples/adverts.py
    mmtune predict --model adverts --input words=data/adverts_files/new.npy --image data/adverts_files/new.png

Time, 2 cores: half a minute.
"""

from mmtune import Categorical, Real, Study, Train, TrialConfig, one_of
from mmtune.networks import MLP, Concatenation, Gated, LateFusion, OneOf, SmallCNN

FUSION = OneOf(chosen="gated", options={"gated": Gated(), "concatenation": Concatenation()})

STUDY = Study(
    name="adverts",
    base=TrialConfig(
        model=LateFusion(encoders={"words": MLP(), "sketch": SmallCNN(channels=8)}, fusion=FUSION),
        train=Train(epochs=20, weights="last", batch_size=16, learning_rate=0.003, modality_dropout=0.2),
    ),
    space=(
        *one_of("model.fusion", {"gated": (), "concatenation": ()}),
        Categorical(path="model.encoders.sketch.channels", values=(4, 8, 16)),
        Real(path="train.modality_dropout", low=0.0, high=0.4),
        Real(path="train.learning_rate", low=1e-3, high=1e-2, log=True),
    ),
    trials=6,
    missing=("sketch",),
)
