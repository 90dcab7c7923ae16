"""The network of a recipe: made or loaded, with attention inserted; and written with what it takes to load it."""

from pathlib import Path
from typing import Any

from torch import nn

from recalib.attention.base import Attention, PlainAttention
from recalib.attention.param_groups import NORMS
from recalib.data import normalization
from recalib.models import create_model
from recalib.runs.folder import weights_of
from recalib.runs.job import attention_options
from recalib.surgery import attention_of, insert_, load_checkpoint, save_checkpoint
from recalib.training.recipes import Recipe


def build_network(recipe: Recipe, classes: int) -> nn.Module:
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


def write_network(network: nn.Module, recipe: Recipe, path: Path, **about: Any) -> None:
    """Write a trained network so that `load_checkpoint` makes the same of it, atomically."""
    form = normalization(recipe.normalization or "")
    save_checkpoint(network, path, architecture=recipe.model, normalization=[form.mean, form.std], **about)


def freeze_norms(network: nn.Module) -> None:
    """Keep the backbone's norms as they are; norms inside attention modules, whoever wrote them, go on learning."""
    ours = [module for module in network.modules() if isinstance(module, Attention | PlainAttention)]
    spared = {id(m) for attention in (*ours, *attention_of(network)) for m in attention.modules()}
    for module in network.modules():
        if isinstance(module, NORMS) and id(module) not in spared:
            module.eval().requires_grad_(False)


def _xavier(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
