"""The baseline of XFlow's {CNN x MLP}-LSTM: two streams with nothing between them.

Paper: XFlow (Cangea, Velickovic and Lio, "XFlow: Cross-modal deep neural networks for audiovisual classification"),
section 2 and figure 4. One trial of 300 epochs, to be compared
with its partner fold by fold.
The MFCC frames are seen in time, 39 steps of 13; the still picture is shown at every step;
an audiovisual sequence file (`DATA=mine.npz`) enters as the report has it, with padding masked.

Command: make study NAME=xflow_lstm_baseline
Time, 2 cores: about 3 minutes on the bundled sample; `EPOCHS=2` is a first look at 60,000 pairs.
Reported: no number on these data; on AVletters and CUAVE the connections lower the error significantly.
"""

from mmtune.networks.config import XFlowLSTMConfig
from mmtune.study import Study, under
from mmtune.study.catalogue import OPTIMISER, XFLOW_LSTM_STREAMS
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="xflow_lstm_baseline",
    paper="XFlow",
    title="{CNN x MLP}-LSTM, nothing crosses",
    reported={},
    base=TrialConfig(
        model=XFlowLSTMConfig(cross=False, residual=False, merge_dropout=0.25),
        train=Train(epochs=300, batch_size=32, learning_rate=0.001),
    ),
    space=under("model", XFLOW_LSTM_STREAMS) + under("train", OPTIMISER),
    grid={},
    repeats="best",
    reduced=1,
    doc=__doc__,
)
