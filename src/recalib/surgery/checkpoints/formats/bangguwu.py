"""ECA-ResNets and ECA-MobileNetV2 of BangguWu/ECANet.

Checkpoints are ``{"epoch", "arch", "state_dict", "best_prec1", "optimizer"}`` with ``module.`` before every key. Kernel
sizes are read from the weights, since ``arch`` may name another network (the released ECA-ResNet-50's says SE).
In MobileNetV2 the module is the last element of the block's Sequential.
"""

from recalib.surgery.checkpoints.format import Format, Rule

RULES = (
    Rule(r"(.+)\.eca\.conv\.weight", r"\1.attention.conv.weight"),
    Rule(r"(features\.\d+)\.conv\.[34]\.conv\.weight", r"\1.attention.conv.weight"),
)

FORMAT = Format(
    name="bangguwu",
    source="BangguWu/ECANet",
    sign=r".+\.eca\.conv\.weight|features\.\d+\.conv\.[34]\.conv\.weight",
    rules=RULES,
)
