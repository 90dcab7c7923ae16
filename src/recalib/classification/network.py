"""The network of a recipe: made or loaded, with attention inserted; and written with what it takes to load it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from recalib.classification.recipes import ClassificationRecipe
from recalib.data import normalization
from recalib.data.imagenet import CROP
from recalib.errors import RecalibError
from recalib.models import create_model
from recalib.runs.folder import weights_of
from recalib.surgery import Site, insert_, load_checkpoint, save_checkpoint, sites
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
        options, where = placed(network, attention_options(recipe.options))
        insert_(network, recipe.attention, where=where, identity=recipe.identity, **options)
    return network


def placed(network: nn.Module, options: dict[str, Any]) -> tuple[dict[str, Any], Callable[[Site], bool] | None]:
    """Options without ``stages`` and ``every``, and the sites that these leave.

    ``stages=3`` and ``stages=2+3`` are of the network's stages, counted from 1; ``every=2`` of the blocks of each
    stage, the second, the fourth and so on, or the last where there is one alone.

    Raises:
        RecalibError: for stages that the network does not have.
    """
    rest = {name: value for name, value in options.items() if name not in ("stages", "every")}
    if rest == options:
        return options, None
    found = sites(network)
    there = {site.stage + 1 for site in found}
    try:
        stages = {int(part) for part in str(options.get("stages", "+".join(map(str, there)))).split("+")}
        every = int(options.get("every", 1))
    except ValueError:
        stages, every = set(), 0
    if not stages or not stages <= there or every < 1:
        given = ", ".join(f"{name}={options[name]}" for name in ("stages", "every") if name in options)
        raise RecalibError(f"{given}: stages are of {min(there)} to {max(there)}, as in stages=2+3; every is from 1 up")
    kept = set()
    for stage in stages:
        names = [site.name for site in found if site.stage + 1 == stage]
        kept |= {*(names[every - 1 :: every] or names[-1:])}
    return rest, lambda site: site.name in kept


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
