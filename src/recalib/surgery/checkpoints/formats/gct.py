"""GCT-ResNet-50 of z-x-yang/GCT: a Gated Channel Transformation before every convolution.

Checkpoints are ``{"epoch", "arch", "state_dict", "best_acc1", "optimizer"}`` with ``module.`` before every key. Each
convolution is a Sequential of GCT and convolution, and bottlenecks stride in their first one.
"""

from recalib.surgery.checkpoints.format import Format, Rule, vector

FORMAT = Format(
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
