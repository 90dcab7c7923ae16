"""Channel attention for convolutional networks: choose it, insert it, train it, deploy it.

``import recalib`` needs torch alone; everything else is imported where it is used.
"""

from recalib import attention, ops
from recalib.attention import attention_names, create_attention, param_groups
from recalib.cost import cost
from recalib.deploy import deploy
from recalib.errors import RecalibError
from recalib.models import cifar_resnet
from recalib.study import Trimmed, trim
from recalib.surgery import (
    CheckpointInfo,
    Insertion,
    Site,
    fuse_,
    insert_,
    inspect_checkpoint,
    load_checkpoint,
    remove_,
    save_checkpoint,
    sites,
)
from recalib.version import __version__

__all__ = [
    "CheckpointInfo",
    "Insertion",
    "RecalibError",
    "Site",
    "Trimmed",
    "__version__",
    "attention",
    "attention_names",
    "cifar_resnet",
    "cost",
    "create_attention",
    "deploy",
    "fuse_",
    "insert_",
    "inspect_checkpoint",
    "load_checkpoint",
    "ops",
    "param_groups",
    "remove_",
    "save_checkpoint",
    "sites",
    "trim",
]
