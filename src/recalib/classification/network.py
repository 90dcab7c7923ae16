"""The network of a recipe: made or loaded, with attention inserted; and written with what it takes to load it."""

from pathlib import Path
from typing import Any

from torch import nn

from recalib.classification.recipes import ClassificationRecipe
from recalib.data import normalization
from recalib.data.imagenet import CROP
from recalib.models import create_model
from recalib.runs.folder import weights_of
from recalib.surgery import insert_, load_checkpoint, save_checkpoint
from recalib.training.recipe import attention_options


def build_network(recipe: ClassificationRecipe, classes: int) -> nn.Module:
    """The network a recipe starts from.

    Args:
        recipe: its model, weights, init, attention and options.
        classes: number of classes.

    Raises:
        RecalibError: for names and options that do not exist, or weights that do not fit.
    """
    network = create_model(recipe.model or "", num_classes=classes)
    if recipe.weights is not None:
        network = load_checkpoint(weights_of(recipe.weights), model=network, num_classes=classes)
    elif recipe.init == "xavier":
        _xavier(network)
    if recipe.attention is not None:
        insert_(network, recipe.attention, identity=recipe.identity, **attention_options(recipe.options))
    return network


def write_network(network: nn.Module, recipe: ClassificationRecipe, path: Path, **about: Any) -> None:
    """Write a trained network with what it takes to use it: `load_checkpoint` makes the same of it. Atomically."""
    form = normalization(recipe.normalization or "")
    side, crop = (recipe.image_size, CROP) if recipe.dataset == "imagenet" else (32, 1.0)
    shown = {"size": [side, side], "crop": crop, "interpolation": "bilinear"}
    told = {"normalization": [form.mean, form.std], "preprocessing": shown, "dataset": recipe.dataset}
    save_checkpoint(network, path, architecture=recipe.model, **told, **about)


def _xavier(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
