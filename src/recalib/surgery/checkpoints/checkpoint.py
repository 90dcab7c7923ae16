"""A checkpoint understood: whose it is, which network, which attention, and its tensors under the keys used here."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from recalib.errors import RecalibError, unknown
from recalib.models.create import is_known
from recalib.surgery.checkpoints import formats
from recalib.surgery.checkpoints.compare import COUNTER
from recalib.surgery.checkpoints.files import HEADER, Contents
from recalib.surgery.checkpoints.format import IMAGENET, CheckpointFormat, Normalization
from recalib.surgery.checkpoints.mechanisms import attention_tensors, recipe_of_tensors, seen_options
from recalib.surgery.checkpoints.networks import Architecture, num_classes_of, recognise
from recalib.surgery.insertion import Insertion, Placement, inserted
from recalib.surgery.sites import Site, default_sites, named_sites

LOG = logging.getLogger("recalib")


@dataclass(frozen=True)
class Attended:
    """Attention as a checkpoint shows it.

    Attributes:
        name: of the mechanism.
        options: what it was made with.
        position: ``"end"`` of a block, or ``"after"`` or ``"before"`` another module.
        site: where it is, if the file says; otherwise the name of its carrier says.
    """

    name: str
    options: dict[str, Any]
    position: Literal["end", "after", "before"]
    site: Site | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in our terms.

    Attributes:
        name: what to call it in a message.
        format: name of its format.
        source: whose checkpoints have this format.
        tensors: under the keys that networks have here.
        architecture: the network, where it was told or recognised.
        attended: attention, by the block or module that carries it.
        num_classes: outputs of the classifier; None for a backbone.
        normalization: of the input images, where known.
        metadata: what else the file says.
    """

    name: str
    format: str
    source: str
    tensors: dict[str, Tensor]
    architecture: Architecture | None
    attended: dict[str, Attended]
    num_classes: int | None
    normalization: Normalization | None
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_the_network_itself(cls, contents: Contents) -> "Checkpoint":
        """One whose keys are those of the network that it is loaded into, so that nothing needs to be recognised."""
        return cls(contents.name, "plain", "", contents.tensors, None, {}, None, None)

    def insertion(self, network: nn.Module) -> Insertion:
        """The attention that the network lacks.

        Raises:
            RecalibError: for attention in a place that the network does not have.
        """
        present = {placement.site.name for placement in inserted(network).placements}
        lacking = {name: what for name, what in self.attended.items() if name not in present}
        unplaced = [name for name, what in lacking.items() if what.site is None]
        found = self._sites(network, unplaced) if unplaced else {}
        placements = (
            Placement(what.site or found[name], what.name, what.options, what.position)
            for name, what in lacking.items()
        )
        return Insertion(tuple(placements), 0)

    def _sites(self, network: nn.Module, names: list[str]) -> dict[str, Site]:
        found = {site.name: site for site in default_sites(network)}
        for position in ("after", "before"):
            named = [name for name in names if self.attended[name].position == position]
            found |= {site.name: site for site in named_sites(network, named, position)[0]} if named else {}
        for name in names:
            if name not in found:
                raise RecalibError(f"{self.name}: {unknown('place of attention', name, found)}")
        return found


def understand(contents: Contents) -> Checkpoint:
    """Say what a checkpoint is.

    Raises:
        RecalibError: for attention that is none of those known here, or a header that is broken.
    """
    try:
        return _ours(contents) if HEADER in contents.header else _another(contents)
    except (IndexError, ValueError, ZeroDivisionError) as error:  # a shape that no layer has, at any place of the file
        if isinstance(error, RecalibError):
            raise
        name, tensor = min(contents.tensors.items(), key=lambda item: (COUNTER in item[0], item[1].ndim))
        shape = tuple(tensor.shape)
        raise RecalibError(f"{contents.name}: the shapes are those of no network, such as {name} {shape}") from None


def _ours(contents: Contents) -> Checkpoint:
    try:
        header = json.loads(contents.header[HEADER])
        told = header["architecture"]
        architecture = Architecture(**told) if told else None
        placements = Insertion.from_metadata(header["insertion"]).placements
        mean_std = header["normalization"] and tuple(map(tuple, header["normalization"]))
        num_classes, metadata = header["num_classes"], header["metadata"]
        if architecture is not None and not is_known(architecture.name):
            metadata = {**metadata, "architecture": architecture.name}
            architecture = None  # code of its owner's, which a file must not run
    except (ValueError, KeyError, TypeError) as error:
        raise RecalibError(f"{contents.name}: its header is broken ({type(error).__name__}: {error})") from None
    attended = {p.site.name: _as_weights_show(p, contents.tensors) for p in placements}
    return Checkpoint(
        name=contents.name,
        format="recalib",
        source="recalib",
        tensors=contents.tensors,
        architecture=architecture,
        attended=attended,
        num_classes=num_classes,
        normalization=mean_std,
        metadata=metadata,
    )


def _as_weights_show(placement: Placement, tensors: Mapping[str, Tensor]) -> Attended:
    own = attention_tensors(tensors).get(placement.site.name, {})
    seen = seen_options(placement.attention, {key: tensor.shape for key, tensor in own.items()})
    return Attended(placement.attention, {**placement.options, **seen}, placement.position, placement.site)


def _another(contents: Contents) -> Checkpoint:
    form = formats.recognise(contents.tensors, contents.beside)
    tensors = form.translate(contents.tensors)
    attended = {} if form.keeps else {**_attended(form, tensors), **_silent(form, contents.tensors)}
    if attended and form is formats.PLAIN:
        first, what = next(iter(attended.items()))
        LOG.warning(
            "%s: the attention of %s is taken for %s, by the names and shapes of its tensors; if it is another module, "
            "insert that and give it as model=",
            contents.name,
            first,
            what.name,
        )
    architecture = recognise(tensors)
    if architecture is not None and form.stride_in_1x1:
        architecture = Architecture(architecture.name, architecture.options, stride_in_1x1=True)
    return Checkpoint(
        name=contents.name,
        format=form.name,
        source=form.source,
        tensors=tensors,
        architecture=architecture,
        attended=attended,
        num_classes=num_classes_of(tensors),
        normalization=form.normalization or _usual_normalization(architecture),
        metadata=contents.beside,
    )


def _attended(form: CheckpointFormat, tensors: Mapping[str, Tensor]) -> dict[str, Attended]:
    attended = {}
    for name, own in attention_tensors(tensors).items():
        try:
            recipe = recipe_of_tensors(own, form.lone_weight, form.unseen)
        except RecalibError as error:
            raise RecalibError(f"{name}: {error}") from None
        attended[name] = Attended(*recipe, form.position or "end")
    return attended


def _silent(form: CheckpointFormat, tensors: Mapping[str, Tensor]) -> dict[str, Attended]:
    """Attention without tensors, which other keys of the file tell."""
    if form.silent is None:
        return {}
    pattern, name = form.silent
    carriers = (match[1] for key in tensors if (match := re.fullmatch(pattern, key)))
    return {carrier: Attended(name, {}, form.position or "end") for carrier in carriers}


def _usual_normalization(architecture: Architecture | None) -> Normalization | None:
    # Every project here that trains on ImageNet normalises alike; on CIFAR they differ.
    known = architecture is not None and not architecture.name.startswith("cifar_")
    return IMAGENET if known else None
