"""One trainer, one base recipe, one lifecycle: what classification, detection and segmentation are tasks of."""
