"""Published ImageNet accuracies, each with its source and recipe; a gain is a difference within one source."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recalib.measure import networks
from recalib.measure.cells import BASELINE

_OTHER_NAMES = {"mobilenetv2_100": "mobilenet_v2"}  # timm's names, where torchvision's differ


@dataclass(frozen=True)
class Source:
    """Where figures come from.

    Attributes:
        key: its name in `published.json`.
        label: a word or two for a chart.
        title: what it is, and which table.
        url: where it can be read.
        recipe: how the networks were trained and where the modules sat.
        one_module_per_block: whether modules sat where `insert_` puts them, so that the accuracy belongs to what was
            measured.
    """

    key: str
    label: str
    title: str
    url: str
    recipe: str
    one_module_per_block: bool


@dataclass(frozen=True)
class Published:
    """ImageNet validation accuracy in percent, 224 px, one crop; `top5` is None where the source gives none."""

    network: str
    module: str
    top1: float
    top5: float | None
    source: Source


@cache
def accuracies() -> tuple[Published, ...]:
    """Every published figure, in the order of `published.json`."""
    data = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    return tuple(
        Published(network, module, top1, top5, source)
        for key, entry in data.items()
        for source in [Source(key, **{name: value for name, value in entry.items() if name != "top1_top5"})]
        for network, modules in entry["top1_top5"].items()
        for module, (top1, top5) in modules.items()
    )


def network_name(model: str) -> str | None:
    """The published network that a model name stands for, or None.

    `resnet50`, `torchvision:resnet50` and `timm:resnet50.a1_in1k` are all `resnet50`: the figures are those of an
    architecture under the source's recipe, not those of the weights that were loaded.
    """
    name = networks.architecture(model)
    name = _OTHER_NAMES.get(name, name)
    return name if any(figure.network == name for figure in accuracies()) else None


def accuracy(model: str, module: str, source: Source) -> Published | None:
    """One source's figure for a module (or `"baseline"`) in a model."""
    network = network_name(model)
    return next((f for f in accuracies() if (f.network, f.module, f.source) == (network, module, source)), None)


def gain(model: str, module: str, source: Source) -> float | None:
    """Top-1 points that a module adds over the baseline of the same source; None where either is not published."""
    plain, attentive = accuracy(model, BASELINE, source), accuracy(model, module, source)
    return round(attentive.top1 - plain.top1, 3) if plain and attentive else None


def best_source(model: str, modules: Iterable[str]) -> Source | None:
    """The source whose baseline and modules, one per block as we insert them, cover most of `modules`.

    Gains are compared within this one source, because recipes move accuracy by more than modules do. Of equal ones the
    first in `published.json` is taken; None if no source has any of the modules.
    """
    wanted = set(modules) - {BASELINE}

    def covered(source: Source) -> int:
        return sum(gain(model, module, source) is not None for module in wanted)

    sources = dict.fromkeys(figure.source for figure in accuracies() if figure.source.one_module_per_block)
    best = max(sources, key=covered)
    return best if covered(best) else None


def ladder() -> Source:
    """The source that trained every depth alike, for the accuracy that depth buys."""
    return next(figure.source for figure in accuracies() if figure.source.key == "torchvision")


def deeper(model: str) -> str | None:
    """The next deeper ResNet, or None for the deepest and for other families."""
    name = networks.deeper(model)
    return name and networks.architecture(name)


def depth_gain(model: str) -> float | None:
    """Top-1 points from a model's depth to the next, both from `ladder`; None where there is no next."""
    here, there = accuracy(model, BASELINE, ladder()), accuracy(deeper(model) or "", BASELINE, ladder())
    return round(there.top1 - here.top1, 3) if here and there else None
