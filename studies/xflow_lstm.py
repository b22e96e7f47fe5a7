"""XFlow's {CNN x MLP}-LSTM and what crosses between its streams: an ablation of both kinds of connections.

Paper: XFlow (Cangea, Velickovic and Lio, "XFlow: Cross-modal deep neural networks for audiovisual classification"),
section 2 and figure 4. The grid switches
cross-connections and residual ones on and off: 2 x 2 = 4 trials of 300 epochs.
The MFCC frames are seen in time, 39 steps of 13; the still picture is shown at every step;
an audiovisual sequence file (`DATA=mine.npz`) enters as the report has it, with padding masked.

Command: make study NAME=xflow_lstm
Time, 2 cores: about 2 hours on the bundled sample; `EPOCHS=2` is a first look at 60,000 pairs.
Reported: no number on these data; on AVletters and CUAVE the connections lower the error significantly.
"""

from mmtune.networks.config import XFlowLSTMConfig
from mmtune.study import Study, under
from mmtune.study.catalogue import OPTIMISER, XFLOW_LSTM
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="xflow_lstm",
    paper="XFlow",
    title="{CNN x MLP}-LSTM, streams that cross",
    reported={},
    base=TrialConfig(
        model=XFlowLSTMConfig(),
        train=Train(epochs=300, batch_size=32, learning_rate=0.001),
    ),
    space=under("model", XFLOW_LSTM) + under("train", OPTIMISER),
    grid={"model.cross": (True, False), "model.residual": (True, False)},
    baseline="xflow_lstm_baseline",
    repeats="best",
    reduced=1,
    doc=__doc__,
)
