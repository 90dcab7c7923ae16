"""Channel attention for convolutional networks: choose it, insert it, train it, deploy it.

``import recalib`` needs torch alone; everything else is imported where it is used.
"""

from recalib import attention, ops
from recalib.attention import attention_names, create_attention, param_groups
from recalib.errors import RecalibError

__version__ = "0.1.0"

__all__ = [
    "RecalibError",
    "attention",
    "attention_names",
    "create_attention",
    "ops",
    "param_groups",
]
