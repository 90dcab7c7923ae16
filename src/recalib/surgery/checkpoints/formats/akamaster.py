"""CIFAR ResNets of akamaster/pytorch_resnet_cifar10: no attention, option A (or B) shortcuts, the classifier `linear`.

Checkpoints are ``{"state_dict", "best_prec1"}`` with ``module.`` before every key. Images are normalised as ImageNet's.
"""

from recalib.surgery.checkpoints.format import IMAGENET, Format, Rule

NETWORK = (
    Rule(r"linear\.(.+)", r"fc.\1"),
    Rule(r"(.+)\.shortcut\.([01]\..+)", r"\1.downsample.\2"),  # option B
)

FORMAT = Format(
    name="akamaster",
    source="akamaster/pytorch_resnet_cifar10",
    sign=r"linear\.weight",
    rules=NETWORK,
    normalization=IMAGENET,
)
