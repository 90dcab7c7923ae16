"""ECA- and SE-ResNets of timm (`ecaresnet*`, `seresnet*`, `seresnext*`): a ResNet of timm's with our modules.

State dicts are bare. Deep stems and pooled shortcuts are told from the keys; anti-aliasing (`seresnetaa50d`) is not, so
such a file needs its network as ``model=``. SE is two 1x1 convolutions with biases and a width divisible by 8.
"""

from recalib.surgery.checkpoints.format import Format, Rule, flat

FORMAT = Format(
    name="timm",
    source="timm's ecaresnet and seresnet",
    sign=r"layer\d\.\d+\.se\.(conv|fc1)\.weight",
    rules=(
        Rule(r"(layer\d\.\d+)\.se\.conv\.weight", r"\1.attention.conv.weight"),
        Rule(r"(layer\d\.\d+)\.se\.(fc[12]\.weight)", r"\1.attention.\2", flat),
        Rule(r"(layer\d\.\d+)\.se\.(fc[12]\.bias)", r"\1.attention.\2"),
    ),
)
