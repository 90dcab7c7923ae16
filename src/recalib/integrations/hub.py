"""Hugging Face's hub: networks with their attention, pushed and pulled; nothing is unpickled.

A repository has the file of `recalib.save_checkpoint`, its header as ``config.json``, and a model card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from torch import nn

from recalib.cache import cache_folder
from recalib.errors import RecalibError, WorkFailed
from recalib.models import create_model
from recalib.models.create import known_weights
from recalib.surgery import CheckpointInfo, Insertion, inserted, inspect_checkpoint, load_checkpoint, save_checkpoint
from recalib.surgery.checkpoints import fresh_network, header_of

CONFIGURATION, WEIGHTS = "config.json", "model.safetensors"
LIBRARY, PREFIX = "recalib", "hf-hub:"
CARD = """---
{{ card_data }}
---

# {{ network }}{% if attention %} with {{ attention }}{% endif %}

{% for line in lines -%}
* {{ line }}
{% endfor %}
{%- if overheads %}
## Latency

Overhead over the plain network in the same runtime, measured by `recalib compare`.

| where | overhead |
|---|---|
{% for where, overhead in overheads.items() -%}
| {{ where }} | {{ overhead }} |
{% endfor %}
{%- endif %}
## Use

```python
import recalib

network = recalib.integrations.hub.from_pretrained("{{ repository }}")
```

or, wherever recalib takes a network by name, `hf-hub:{{ repository }}`.
"""


@dataclass(frozen=True)
class CardFacts:
    """Facts for the model card that a network does not tell itself.

    Attributes:
        recipe: how it was trained.
        accuracy: by name, such as ``{"top-1 on ImageNet val": 77.4}``.
        overheads: measured latency over the plain network by where, such as ``{"ONNX Runtime": "+9.0 % [8.0, 10.1]"}``.
        license: of the weights, such as ``"mit"``.
        metadata: plain data for the checkpoint, as `recalib.save_checkpoint` takes it.
    """

    recipe: str | None = None
    accuracy: Mapping[str, float | str] = field(default_factory=dict)
    overheads: Mapping[str, str] = field(default_factory=dict)
    license: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def save_pretrained(model: nn.Module, folder: str | Path, about: CardFacts | None = None) -> None:
    """Write a folder as the hub has it: weights, configuration and model card.

    Args:
        model: a network, with attention or without.
        folder: made if it is not there.
        about: what the card says beside what the network tells.

    Raises:
        RecalibError: for metadata that is not plain data.
        WorkFailed: where the folder cannot be written.
    """
    try:
        _OnHub(model, about or CardFacts(), Path(folder).name).save_pretrained(Path(folder))
    except OSError as error:
        raise WorkFailed(f"{folder} cannot be written: {error.strerror}") from None


def push_to_hub(
    model: nn.Module, repository: str, about: CardFacts | None = None, *, private: bool | None = None,
    token: str | None = None, **options: Any,
) -> str:  # fmt: skip
    """Upload a network, its configuration and its model card.

    Args:
        model: a network, with attention or without.
        repository: ``OWNER/NAME``; made if it is not there.
        about: what the card says beside what the network tells.
        private: whether a new repository is; None for the owner's default.
        token: by default the one of ``hf auth login``.
        **options: of huggingface_hub's ``push_to_hub``: ``commit_message``, ``branch``, ``create_pr``.

    Returns:
        The address of the commit.

    Raises:
        WorkFailed: where the hub refuses.
    """
    try:
        network = _OnHub(model, about or CardFacts(), repository)
        return str(network.push_to_hub(repository, private=private, token=token, **options))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise WorkFailed(f"{repository}: {_line(error)}") from None


def from_pretrained(source: str | Path, *, num_classes: int | None = None, **options: Any) -> nn.Module:
    """A network of ours from the hub or from a folder, with its attention and weights, in evaluation mode.

    Args:
        source: ``OWNER/NAME``, ``OWNER/NAME@REVISION``, or a folder of `save_pretrained`.
        num_classes: make the classifier anew for so many classes where it has another number.
        **options: of huggingface_hub: ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ``force_download``.

    Raises:
        RecalibError: for a repository that does not exist, or has no network of ours.
    """
    repository, options = _revised(str(source), options)
    try:
        found: _OnHub = _OnHub.from_pretrained(repository, num_classes=num_classes, **options)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise RecalibError(f"{source}: {_line(error)}") from None
    return found.network


def create(name: str, *, pretrained: bool = False, num_classes: int | None = None, **options: Any) -> nn.Module:
    """The network that ``hf-hub:OWNER/NAME`` names, ours or timm's.

    Args:
        name: with its prefix.
        pretrained: load its weights; else they are fresh, and attention is where it was.
        num_classes: another number of classes.
        **options: for the constructor of a network of timm's.

    Raises:
        RecalibError: for a repository that does not exist, or has a network of neither.
    """
    import timm

    source = name.removeprefix(PREFIX)
    config = configuration(source)
    if config.get("library_name") != LIBRARY:
        if not isinstance(config.get("architecture"), str):
            raise RecalibError(f"model {name!r}: the repository has no network of recalib's or timm's")
        given = options if num_classes is None else {**options, "num_classes": num_classes}
        made: nn.Module = timm.create_model(name, pretrained=pretrained, **given)
        return made
    if options:
        raise RecalibError(f"model {name!r} takes no options, got {', '.join(options)}")
    if pretrained:
        return from_pretrained(source, num_classes=num_classes).train()
    return fresh_network(config.get(LIBRARY, {}), source, num_classes)


def checkpoint_of(name: str) -> Path:
    """A checkpoint of a network that is named, for whoever takes a file: fetched when it is first asked for.

    Args:
        name: ``hf-hub:OWNER/NAME``; or a name of `create_model` with published weights, ``timm:resnet50.a1_in1k`` or
            ``torchvision:resnet50.IMAGENET1K_V2``.

    Raises:
        RecalibError: for what does not exist, or cannot be fetched.
    """
    if name.startswith(PREFIX):
        source, options = _revised(name.removeprefix(PREFIX), {})
        if configuration(name.removeprefix(PREFIX)).get("library_name") == LIBRARY:
            return _file(source, WEIGHTS, **options)
    path = cache_folder("networks") / f"{re.sub('[^A-Za-z0-9._@-]', '_', name)}.safetensors"
    if name.startswith(PREFIX) or not path.exists():  # a repository may have changed
        network = create_model(name, pretrained=True)
        told = timm_facts(network) if hasattr(network, "pretrained_cfg") else torchvision_facts(name)
        save_checkpoint(network, path, **told)
    return path


def timm_facts(network: Any) -> dict[str, Any]:
    """Architecture and preprocessing of a network of timm's, as metadata of a checkpoint."""
    config = network.pretrained_cfg
    shown = {
        "size": list(config["input_size"][-2:]),
        "crop": config["crop_pct"],
        "interpolation": config["interpolation"],
    }
    return {"architecture": config["architecture"], "preprocessing": shown}


def torchvision_facts(name: str) -> dict[str, Any]:
    """The same of a network of torchvision's, by the name of its weights."""
    from torchvision.models import get_model_weights, get_weight

    builder, _, tag = known_weights(name).partition(".")
    kind = get_model_weights(builder)
    shown: Any = (get_weight(f"{kind.__name__}.{tag}") if tag else kind["DEFAULT"]).transforms()
    side = shown.crop_size[0]
    told = {"size": [side, side], "crop": side / shown.resize_size[0], "interpolation": shown.interpolation.value}
    normalization = [list(shown.mean), list(shown.std)]
    return {"architecture": f"torchvision:{builder}", "preprocessing": told, "normalization": normalization}


def configuration(source: str | Path) -> dict[str, Any]:
    """The ``config.json`` of a repository or a folder.

    Raises:
        RecalibError: where there is none.
    """
    repository, options = _revised(str(source), {})
    try:
        config = json.loads(_file(repository, CONFIGURATION, **options).read_text(encoding="utf-8"))
    except EntryNotFoundError:
        raise RecalibError(
            f"{source}: the repository has no {CONFIGURATION}, so no network that is known here"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise RecalibError(f"{source}: {_line(error)}") from None
    return config if isinstance(config, dict) else {}


def _file(repository: str, name: str, **options: Any) -> Path:
    if Path(repository).is_dir():
        return Path(repository) / name
    return Path(hf_hub_download(repository, name, **options))


def _revised(source: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    repository, at, revision = source.partition("@")
    return (source, options) if not at or Path(source).is_dir() else (repository, {**options, "revision": revision})


def _line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class _OnHub(nn.Module, PyTorchModelHubMixin, library_name=LIBRARY):
    """A network as huggingface_hub's mixin sees it; the files are those of `recalib.save_checkpoint`.

    Args:
        network: with attention or without.
        about: for the card.
        repository: its name, or that of the folder.
    """

    def __init__(self, network: nn.Module, about: CardFacts, repository: str) -> None:
        super().__init__()
        self.network, self.about, self.repository = network, about, repository

    def _save_pretrained(self, save_directory: Path) -> None:
        """Weights, configuration and card; all that the mixin would write is then there."""
        weights = save_directory / WEIGHTS
        told = {"recipe": self.about.recipe, "accuracy": dict(self.about.accuracy)}
        save_checkpoint(self.network, weights, **{**self.about.metadata, **{k: v for k, v in told.items() if v}})
        config = {"library_name": LIBRARY, LIBRARY: header_of(weights)}
        (save_directory / CONFIGURATION).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        self._card(inspect_checkpoint(weights)).save(save_directory / "README.md")

    def _card(self, info: CheckpointInfo) -> ModelCard:
        insertion, about = inserted(self.network), self.about
        data = ModelCardData(
            library_name=LIBRARY, license=about.license, tags=["channel-attention", "pytorch_model_hub_mixin"],
            pipeline_tag=None if info.num_classes is None else "image-classification",
        )  # fmt: skip
        return ModelCard.from_template(
            data, template_str=CARD, network=info.architecture or type(self.network).__name__,
            attention=info.attention, lines=list(_facts(insertion, info, about)), overheads=dict(about.overheads),
            repository=self.repository,
        )  # fmt: skip

    @classmethod
    def _from_pretrained(cls, *, model_id: str, num_classes: int | None = None, **options: Any) -> _OnHub:
        wanted = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        weights = _file(model_id, WEIGHTS, **{name: options[name] for name in wanted if name in options})
        return cls(load_checkpoint(weights, num_classes=num_classes).eval(), CardFacts(), model_id)


def _facts(insertion: Insertion, info: CheckpointInfo, about: CardFacts) -> Iterator[str]:
    """The lines of the card; what nobody told is left out."""
    if insertion.placements:
        starts = {bool(placement.options.get("identity")) for placement in insertion.placements}
        start = {True: "the exact identity", False: "the module's own initial weights"}
        yield f"Attention: {insertion}, at the end of residual branches or where the configuration says"
        yield f"Start of the attention: {' and '.join(start[value] for value in sorted(starts))}"
    if info.num_classes is not None:
        yield f"Classes: {info.num_classes}"
    if info.normalization is not None:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in info.normalization)
        yield f"Images: RGB in [0, 1], less {mean}, divided by {std}"
    if about.recipe:
        yield f"Recipe: {about.recipe}"
    for name, value in about.accuracy.items():
        yield f"{name}: {value}"
