"""ResNets of SanderKlomp/channel-attention, and of hyunjaelee410/style-based-recalibration-module, its ancestor.

Checkpoints are ``{"epoch", "state_dict", "acc", "best_acc", "optimizer"}`` with ``module.`` before every key, or bare.
Every mechanism is called ``rclb``. Klomp's SRM takes the standard deviation without eps; the newest code of SRM's
authors adds 1e-5 to the variance, which the files do not tell.
"""

from torch import Tensor

from recalib.surgery.checkpoints.format import NO_EPS, Format, Rule, columns, flat, rows, stacked

SOURCE = "SanderKlomp/channel-attention or hyunjaelee410/style-based-recalibration-module"
BRANCHES = 3


def _by_branch(tensor: Tensor) -> Tensor:
    return tensor.unflatten(0, (BRANCHES, -1))


MULTI_SE = Format(  # multise: grouped 1x1 convolutions; multise3: three pairs of linear layers
    name="klomp multi-se",
    source=SOURCE,
    sign=r".+\.rclb\.style_assigner\.weight",
    rules=(
        Rule(r"(.+)\.rclb\.style_assigner\.weight", r"\1.attention.assign.weight"),
        Rule(r"(.+)\.rclb\.fc\.0\.weight", r"\1.attention.fc1.weight", flat),
        Rule(r"(.+)\.rclb\.fc\.0\.bias", r"\1.attention.fc1.bias"),
        Rule(r"(.+)\.rclb\.fc\.2\.weight", r"\1.attention.fc2.weight", lambda w: columns(*_by_branch(flat(w)))),
        Rule(r"(.+)\.rclb\.fc\.2\.bias", r"\1.attention.fc2_bias", _by_branch),
        Rule(r"(.+)\.rclb\.fc[123]\.0\.(weight|bias)", r"\1.attention.fc1.\2", rows),
        Rule(r"(.+)\.rclb\.fc[123]\.2\.weight", r"\1.attention.fc2.weight", columns),
        Rule(r"(.+)\.rclb\.fc[123]\.2\.bias", r"\1.attention.fc2_bias", stacked),
    ),
)

OTHERS = Format(
    name="klomp",
    source=SOURCE,
    sign=r".+\.rclb\..+",
    rules=(
        Rule(r"(.+)\.rclb\.cfc", r"\1.attention.weight"),  # AB (C,), SRM (C, 2)
        Rule(r"(.+)\.rclb\.(bn\..+)", r"\1.attention.\2"),  # SRM
        Rule(r"(.+)\.rclb\.fc\.0\.(.+)", r"\1.attention.fc1.\2"),  # SE
        Rule(r"(.+)\.rclb\.fc\.2\.(.+)", r"\1.attention.fc2.\2"),
        Rule(r"(.+)\.rclb\.conv\.weight", r"\1.attention.conv.weight"),  # ECA
        Rule(r"(.+)\.rclb\.conv\.0\.(.+)", r"\1.attention.conv.\2"),  # GE
        Rule(r"(.+)\.rclb\.conv\.1\.(.+)", r"\1.attention.bn.\2"),
    ),
    unseen={"srm": {"eps": NO_EPS}},
    lone_weight="ab",
)
