"""Whose checkpoints are read, one entry a project: how its files are recognised, and what its keys are here.

Most of them are ``{"state_dict", "epoch", ...}`` with ``module.`` before every key; some are bare state dicts.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from recalib.surgery.checkpoints.format import (
    CIFAR,
    IMAGENET,
    NO_EPS,
    CheckpointFormat,
    Rule,
    columns,
    flat,
    line,
    rows,
    stacked,
    vector,
)

_BRANCHES = 3  # of Klomp's Multi-SE


def _by_branch(tensor: Tensor) -> Tensor:
    return tensor.unflatten(0, (_BRANCHES, -1))


# A Gated Channel Transformation before every convolution, each a Sequential of the two; bottlenecks stride in their
# first convolution.
_GCT = CheckpointFormat(
    name="gct",
    source="z-x-yang/GCT",
    sign=r"(.+\.)?conv\d\.0\.alpha",
    rules=(
        Rule(r"(?:stem\.)?(.*conv\d)\.0\.(alpha|beta|gamma)", r"\1.attention.\2", vector),
        Rule(r"(?:stem\.)?(.*conv\d)\.1\.(weight)", r"\1.\2"),
        Rule(r"stem\.(bn1\..+)", r"\1"),
        Rule(r"(.+\.downsample\.0)\.(alpha|beta|gamma)", r"\1.attention.\2", vector),
        Rule(r"(.+\.downsample)\.1\.(.+)", r"\1.0.\2"),
        Rule(r"(.+\.downsample)\.2\.(.+)", r"\1.1.\2"),
    ),
    position="before",
    stride_in_1x1=True,
)

# Every mechanism is called `rclb`. SRM takes the standard deviation without eps; the newest code of its authors adds
# 1e-5 to the variance, which the files do not tell.
_KLOMP = "SanderKlomp/channel-attention or hyunjaelee410/style-based-recalibration-module"
_KLOMP_MULTI_SE = CheckpointFormat(  # multise: grouped 1x1 convolutions; multise3: three pairs of linear layers
    name="klomp multi-se",
    source=_KLOMP,
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
_KLOMP_OTHERS = CheckpointFormat(
    name="klomp",
    source=_KLOMP,
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

# The module is `se` in the released file and `layer_block` in the newest code; its layer is a grouped Conv1d over the
# mean and the standard deviation, which has no eps.
_EVGENYKASHIN = CheckpointFormat(
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

# SE without biases; EvgenyKashin's SE-ResNets are the same.
_MOSKOMULE = CheckpointFormat(
    name="moskomule",
    source="moskomule/senet.pytorch",
    sign=r".+\.(se|layer_block)\.fc\.0\.weight",
    rules=(
        Rule(r"(.+)\.(?:se|layer_block)\.fc\.0\.(.+)", r"\1.attention.fc1.\2"),
        Rule(r"(.+)\.(?:se|layer_block)\.fc\.2\.(.+)", r"\1.attention.fc2.\2"),
    ),
)

# A ResNet of timm's with a module called `se`. Deep stems and pooled shortcuts are told from the keys; anti-aliasing
# (`seresnetaa50d`) is not, so such a file needs its network as `model=`. SE has a width divisible by 8. GC is timm's
# `gca`, which adds; its norm has another eps.
_TIMM = CheckpointFormat(
    name="timm",
    source="timm's ecaresnet and seresnet",
    sign=r"layer\d\.\d+\.se\.(conv|fc1|conv_attn)\.weight",
    rules=(
        Rule(r"(layer\d\.\d+)\.se\.conv2\.(weight|bias)", r"\1.attention.conv2.\2"),  # ECAM, whose first has a bias
        Rule(r"(layer\d\.\d+)\.se\.conv\.bias", r"\1.attention.conv1.bias"),
        Rule(r"(layer\d\.\d+)\.se\.conv\.weight", r"\1.attention.conv.weight"),
        Rule(r"(layer\d\.\d+)\.se\.(fc[12]\.weight)", r"\1.attention.\2", flat),
        Rule(r"(layer\d\.\d+)\.se\.(fc[12]\.bias)", r"\1.attention.\2"),
        Rule(r"(layer\d\.\d+)\.se\.conv_attn\.weight", r"\1.attention.mask.weight", flat),
        Rule(r"(layer\d\.\d+)\.se\.conv_attn\.bias", r"\1.attention.mask.bias"),
        Rule(r"(layer\d\.\d+)\.se\.mlp_add\.(fc[12]\.weight)", r"\1.attention.\2", flat),
        Rule(r"(layer\d\.\d+)\.se\.mlp_add\.(.+)", r"\1.attention.\2"),
    ),
    unseen={"gc": {"eps": 1e-6}},
)
_TIMM_ECAM = CheckpointFormat(
    name="timm",
    source=_TIMM.source,
    sign=r"layer\d\.\d+\.se\.conv2\.weight",
    rules=(Rule(r"(layer\d\.\d+)\.se\.conv\.weight", r"\1.attention.conv1.weight"), *_TIMM.rules),
)

# No attention, option A (or B) shortcuts, the classifier `linear`. Images are normalised as ImageNet's.
_AKAMASTER_NETWORK = (
    Rule(r"linear\.(.+)", r"fc.\1"),
    Rule(r"(.+)\.shortcut\.([01]\..+)", r"\1.downsample.\2"),  # option B
)
_AKAMASTER = CheckpointFormat(
    name="akamaster",
    source="akamaster/pytorch_resnet_cifar10",
    sign=r"linear\.weight",
    rules=_AKAMASTER_NETWORK,
    normalization=IMAGENET,
)

# Kernel sizes are read from the weights, since `arch` may name another network (the released ECA-ResNet-50's says SE).
# In MobileNetV2 the module is the last element of the block's Sequential.
_BANGGUWU = CheckpointFormat(
    name="bangguwu",
    source="BangguWu/ECANet",
    sign=r".+\.eca\.conv\.weight|features\.\d+\.conv\.[34]\.conv\.weight",
    rules=(
        Rule(r"(.+)\.eca\.conv\.weight", r"\1.attention.conv.weight"),
        Rule(r"(features\.\d+)\.conv\.[34]\.conv\.weight", r"\1.attention.conv.weight"),
    ),
)

# BangguWu's with an entry `run_id`; ECA's kernels are adaptive. Other mechanisms are called `att` and are those of the
# library Echo, whose SE has biases and whose CBAM has a kernel of 3. The CIFAR networks are akamaster's.
_DIGANTAMISRA = "digantamisra98/Reproducibilty-Challenge-ECANET"
_DIGANTAMISRA_ECA = CheckpointFormat(
    name="digantamisra", source=_DIGANTAMISRA, sign=_BANGGUWU.sign, rules=_BANGGUWU.rules, beside="run_id"
)
_DIGANTAMISRA_ECHO = CheckpointFormat(
    name="digantamisra",
    source=_DIGANTAMISRA,
    sign=r".+\.att\..+",
    rules=(
        Rule(r"(.+)\.att\.ChannelGate\.gate_c\.gate_c_fc_0\.(.+)", r"\1.attention.fc1.\2"),
        Rule(r"(.+)\.att\.ChannelGate\.gate_c\.gate_c_fc_final\.(.+)", r"\1.attention.fc2.\2"),
        Rule(r"(.+)\.att\.SpatialGate\.conv\.(.+)", r"\1.attention.\2"),  # CBAM
        Rule(r"(.+)\.att\.(cw|hc|hw)\.conv\.(.+)", r"\1.attention.\2.\3"),  # triplet attention
        *_AKAMASTER_NETWORK,
    ),
)

# CBAM at the ends of blocks, BAM behind the first three stages.
_JONGCHAN = "Jongchan/attention-module"
_CBAM = CheckpointFormat(
    name="jongchan",
    source=_JONGCHAN,
    sign=r".+\.cbam\.ChannelGate\..+",
    rules=(
        Rule(r"(.+)\.cbam\.ChannelGate\.mlp\.1\.(.+)", r"\1.attention.fc1.\2"),
        Rule(r"(.+)\.cbam\.ChannelGate\.mlp\.3\.(.+)", r"\1.attention.fc2.\2"),
        Rule(r"(.+)\.cbam\.SpatialGate\.spatial\.(.+)", r"\1.attention.\2"),
    ),
)
_BAM = CheckpointFormat(
    name="jongchan",
    source=_JONGCHAN,
    sign=r"bam\d\.channel_att\..+",
    rules=(
        Rule(r"bam(\d)\.channel_att\.gate_c\.gate_c_fc_0\.(.+)", r"layer\1.attention.fc1.\2"),
        Rule(r"bam(\d)\.channel_att\.gate_c\.gate_c_bn_1\.(.+)", r"layer\1.attention.bn.\2"),
        Rule(r"bam(\d)\.channel_att\.gate_c\.gate_c_fc_final\.(.+)", r"layer\1.attention.fc2.\2"),
        Rule(r"bam(\d)\.spatial_att\.gate_s\.gate_s_conv_reduce0\.(.+)", r"layer\1.attention.convs.0.\2"),
        Rule(r"bam(\d)\.spatial_att\.gate_s\.gate_s_bn_reduce0\.(.+)", r"layer\1.attention.bns.0.\2"),
        Rule(r"bam(\d)\.spatial_att\.gate_s\.gate_s_conv_di_0\.(.+)", r"layer\1.attention.convs.1.\2"),
        Rule(r"bam(\d)\.spatial_att\.gate_s\.gate_s_bn_di_0\.(.+)", r"layer\1.attention.bns.1.\2"),
        Rule(r"bam(\d)\.spatial_att\.gate_s\.gate_s_conv_di_1\.(.+)", r"layer\1.attention.convs.2.\2"),
        Rule(r"bam(\d)\.spatial_att\.gate_s\.gate_s_bn_di_1\.(.+)", r"layer\1.attention.bns.2.\2"),
        Rule(r"bam(\d)\.spatial_att\.gate_s\.gate_s_conv_final\.(.+)", r"layer\1.attention.last.\2"),
    ),
    position="after",
)

# The released files' names, and those of the newer file in the root.
_TRIPLET = CheckpointFormat(
    name="triplet",
    source="landskape-ai/triplet-attention",
    sign=r".+\.triplet_attention\..+",
    rules=(
        Rule(r"(.+)\.triplet_attention\.ChannelGateH\.spatial\.(.+)", r"\1.attention.cw.\2"),
        Rule(r"(.+)\.triplet_attention\.ChannelGateW\.spatial\.(.+)", r"\1.attention.hc.\2"),
        Rule(r"(.+)\.triplet_attention\.SpatialGate\.spatial\.(.+)", r"\1.attention.hw.\2"),
        Rule(r"(.+)\.triplet_attention\.(cw|hc|hw)\.conv\.(.+)", r"\1.attention.\2.\3"),
    ),
)

# Without tensors of its own: the second convolution of a block is a Sequential of itself and SimAM.
_SIMAM = CheckpointFormat(
    name="simam",
    source="ZjjConan/SimAM",
    sign=r"layer\d\.\d+\.conv2\.0\.weight",
    rules=(Rule(r"(layer\d\.\d+\.conv2)\.0\.weight", r"\1.weight"),),
    silent=(r"(layer\d\.\d+\.conv2)\.0\.weight", "simam"),
    position="after",
)

# MobileNetV2 with all of a block in one Sequential, coordinate attention before the projection. Its last layers are
# conv2 and conv3 in mbv2_ca.py, conv_h and conv_w in coordatt.py.
_COORD = CheckpointFormat(
    name="coordatt",
    source="houqb/CoordAttention",
    sign=r"features\.\d+\.conv\.6\.(conv2|conv_h)\.weight",
    rules=(
        Rule(r"(features\.\d+)\.conv\.6\.conv1\.weight", r"\1.conv.2.attention.conv.weight", line),
        Rule(r"(features\.\d+)\.conv\.6\.(?:conv2|conv_h)\.weight", r"\1.conv.2.attention.conv_h.weight", line),
        Rule(r"(features\.\d+)\.conv\.6\.(?:conv3|conv_w)\.weight", r"\1.conv.2.attention.conv_w.weight", line),
        Rule(r"(features\.\d+)\.conv\.6\.conv1\.bias", r"\1.conv.2.attention.conv.bias"),
        Rule(r"(features\.\d+)\.conv\.6\.(?:conv2|conv_h)\.bias", r"\1.conv.2.attention.conv_h.bias"),
        Rule(r"(features\.\d+)\.conv\.6\.(?:conv3|conv_w)\.bias", r"\1.conv.2.attention.conv_w.bias"),
        Rule(r"(features\.\d+)\.conv\.6\.bn1\.(.+)", r"\1.conv.2.attention.bn.\2"),
        Rule(r"(features\.1)\.conv\.([01])\.(.+)", r"\1.conv.0.\2.\3"),  # the first block has no expansion
        Rule(r"(features\.1)\.conv\.3\.(.+)", r"\1.conv.1.\2"),
        Rule(r"(features\.1)\.conv\.4\.(.+)", r"\1.conv.2.\2"),
        Rule(r"(features\.\d+)\.conv\.([01])\.(.+)", r"\1.conv.0.\2.\3"),
        Rule(r"(features\.\d+)\.conv\.3\.(.+)", r"\1.conv.1.0.\2"),
        Rule(r"(features\.\d+)\.conv\.4\.(.+)", r"\1.conv.1.1.\2"),
        Rule(r"(features\.\d+)\.conv\.7\.(.+)", r"\1.conv.2.\2"),
        Rule(r"(features\.\d+)\.conv\.8\.(.+)", r"\1.conv.3.\2"),
        Rule(r"conv\.([01])\.(.+)", r"features.18.\1.\2"),
    ),
    position="before",
)

_FCA = CheckpointFormat(
    name="fcanet",
    source="cfzd/FcaNet",
    sign=r".+\.att\.dct_layer\.weight",
    rules=(
        Rule(r"(.+)\.att\.dct_layer\.weight", r"\1.attention.basis"),
        Rule(r"(.+)\.att\.fc\.0\.weight", r"\1.attention.fc1.weight"),
        Rule(r"(.+)\.att\.fc\.2\.weight", r"\1.attention.fc2.weight"),
    ),
)

_SGE = CheckpointFormat(
    name="pytorch-insight",
    source="implus/PytorchInsight",
    sign=r".+\.sge\.weight",
    rules=(Rule(r"(.+)\.sge\.(weight|bias)", r"\1.attention.\2", vector),),
)

# U-Nets whose decoders have scSE, and timm's own networks with global context: built as they are, their modules kept.
_SMP = CheckpointFormat(
    name="smp",
    source="segmentation_models.pytorch",
    sign=r"decoder\.blocks\.\w+\.attention1\.attention\.cSE\.1\.weight",
    keeps=True,
)
_TIMM_CONTEXT = CheckpointFormat(
    name="timm",
    source="timm's gcresnet and gcresnext",
    sign=r"(stages|blocks)\..+\.conv_attn\.weight",
    keeps=True,
)

PLAIN = CheckpointFormat(name="plain", source="torchvision, timm, or a bare state dict of recalib's", sign=r".*")

FORMATS = (  # the first that fits
    _GCT,
    _KLOMP_MULTI_SE,
    _KLOMP_OTHERS,
    _CBAM,
    _BAM,
    _TRIPLET,
    _SIMAM,
    _COORD,
    _FCA,
    _SGE,
    _EVGENYKASHIN,
    _MOSKOMULE,
    _TIMM_ECAM,
    _TIMM,
    _DIGANTAMISRA_ECHO,
    _DIGANTAMISRA_ECA,
    _BANGGUWU,
    _AKAMASTER,
    _SMP,
    _TIMM_CONTEXT,
    PLAIN,
)


def recognise(keys: Iterable[str], beside: Mapping[str, Any]) -> CheckpointFormat:
    """The format of a checkpoint with these keys, and these entries beside them."""
    names = list(keys)
    return next(form for form in FORMATS if form.fits(names, beside))
