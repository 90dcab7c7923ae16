"""Semantic segmentation, a task of `recalib.training`: torchvision's and segmentation_models.pytorch's networks."""
