"""Other people's frameworks, one file each; none of them is imported before it is used."""

from recalib.integrations import ultralytics

__all__ = ["ultralytics"]
