"""State dicts under the keys that networks have here: torchvision's and timm's own, and ours without a header."""

from recalib.surgery.checkpoints.format import Format

FORMAT = Format(name="plain", source="torchvision, timm, or a bare state dict of recalib's", sign=r".*")
