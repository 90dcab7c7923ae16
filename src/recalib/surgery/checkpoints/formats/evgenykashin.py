"""SRM-ResNets for CIFAR-10 of EvgenyKashin/SRMnet.

The module is ``se`` in the released file and ``layer_block`` in the newest code; its channel-wise layer is a grouped
Conv1d over (mean, std), weight (C, 1, 2), and its standard deviation has no eps.
"""

from recalib.surgery.checkpoints.format import CIFAR, NO_EPS, Format, Rule

FORMAT = Format(
    name="evgenykashin",
    source="EvgenyKashin/SRMnet",
    sign=r".+\.(se|layer_block)\.cfc\.weight",
    rules=(
        Rule(r"(.+)\.(?:se|layer_block)\.cfc\.weight", r"\1.attention.weight", lambda w: w.squeeze(1)),
        Rule(r"(.+)\.(?:se|layer_block)\.(bn\..+)", r"\1.attention.\2"),
    ),
    unseen={"srm": {"eps": NO_EPS}},
    normalization=CIFAR,
)
