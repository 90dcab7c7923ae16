"""SE-ResNets of moskomule/senet.pytorch, whose layers have no biases; EvgenyKashin/SRMnet's SE-ResNets are the same.

The released file is a bare state dict.
"""

from recalib.surgery.checkpoints.format import Format, Rule

FORMAT = Format(
    name="moskomule",
    source="moskomule/senet.pytorch",
    sign=r".+\.(se|layer_block)\.fc\.0\.weight",
    rules=(
        Rule(r"(.+)\.(?:se|layer_block)\.fc\.0\.(.+)", r"\1.attention.fc1.\2"),
        Rule(r"(.+)\.(?:se|layer_block)\.fc\.2\.(.+)", r"\1.attention.fc2.\2"),
    ),
)
