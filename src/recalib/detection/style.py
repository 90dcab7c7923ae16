"""Style-adversarial training: early features that do not tell an image's domain (Klomp et al. 2023, section 4.4)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 256
Target = dict[str, Any]


class GradientReversal(torch.autograd.Function):
    """The identity forward, minus ``weight`` times the gradient backward (Ganin and Lempitsky 2015)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        """Leave x as it is."""
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient, reversed and scaled."""
        return -ctx.weight * gradient, None


class StyleAdversary(nn.Module):
    """Classifiers that tell domains from the mean and variance of each channel, through a gradient reversal.

    Each learns to tell its label; what comes before it learns, by the reversed gradient, not to let it.

    Args:
        channels: C of the features.
        labels: for each domain label, the values it may have.
        weight: factor of the reversed gradient.
    """

    def __init__(self, channels: int, labels: Mapping[str, Sequence[str]], weight: float) -> None:
        super().__init__()
        self.values = {name: {value: i for i, value in enumerate(values)} for name, values in labels.items()}
        self.weight = weight
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(2 * channels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(values)))
                for name, values in labels.items()
            }
        )

    def forward(self, features: Tensor, domains: Sequence[Mapping[str, str]]) -> dict[str, Tensor]:
        """Cross-entropy of each label.

        Args:
            features: shape (N, C, H, W).
            domains: for each image, values by label; an image without a label, or with a value that is not one of
                those given, does not count for it.

        Returns:
            ``{"style_LABEL": scalar}``.
        """
        like: Any = next(self.heads.parameters())
        variance, mean = torch.var_mean(features.to(like.dtype), (2, 3), correction=0)
        style = GradientReversal.apply(torch.cat([mean, variance], 1), self.weight)
        return {f"style_{name}": self._loss(name, style, domains) for name in self.heads}

    def _loss(self, name: str, style: Tensor, domains: Sequence[Mapping[str, str]]) -> Tensor:
        known = [self.values[name].get(domain.get(name, ""), -1) for domain in domains]
        logits, labels = self.heads[name](style), torch.tensor(known, device=style.device)
        if max(known) < 0:
            return logits.sum() * 0.0  # every parameter has a gradient, as DDP expects
        return F.cross_entropy(logits, labels, ignore_index=-1)


class Adversarial(nn.Module):
    """A detector whose losses include those of a style adversary on the output of its backbone's second stage.

    Args:
        detector: with ``backbone.body.layer2``.
        labels: see `StyleAdversary`.
        weight: see `StyleAdversary`.
    """

    def __init__(self, detector: nn.Module, labels: Mapping[str, Sequence[str]], weight: float) -> None:
        super().__init__()
        self.detector = detector
        stage: Any = detector.get_submodule("backbone.body.layer2")
        channels = [m.out_channels for m in stage[-1].modules() if isinstance(m, nn.Conv2d)][-1]
        self.adversary = StyleAdversary(channels, labels, weight)
        self._features: Tensor | None = None
        stage.register_forward_hook(self._keep)

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> Any:
        """As the detector; in training each target has ``domain``, values by label."""
        result = self.detector(images, targets)
        if not self.training:
            return result
        features, self._features = self._features, None
        assert features is not None
        assert targets is not None
        return {**result, **self.adversary(features, [target.get("domain", {}) for target in targets])}

    def _keep(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._features = output if self.training else None
