"""Inference rewrites and export, for a target runtime."""

from recalib.deploy.deploy import deploy
from recalib.deploy.network_file import export, open_exported
from recalib.deploy.sites import Target

__all__ = ["Target", "deploy", "export", "open_exported"]
