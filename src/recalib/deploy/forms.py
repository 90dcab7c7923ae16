"""Forms that a site can take, and the one it takes by the rule."""

from typing import Literal

import torch

from recalib.deploy.sites import TailSite, Target

Form = Literal["map", "input", "tail", "epilogue"]
"""Source of a gate and who applies it: from the map or from the convolution's input, with operators of the
runtime; or from the map in `recalib.ops.recalibrate`, or from the input in the convolution's epilogue, with kernels."""


def forms_of(site: TailSite, target: Target) -> list[Form]:
    """Every form that computes a site in a target."""
    found: list[Form] = ["map"]
    if gate_first_is_possible(site):
        found.append("input")
    if target == "eager":
        found.append("tail")
        if "input" in found and site.conv is not None and site.conv.kernel_size == (1, 1):
            found.append("epilogue")
    return found


def forms_to_measure(site: TailSite, target: Target, device: torch.device) -> list[Form]:
    """Those that may be the quickest: without a GPU there are no kernels."""
    return [form for form in forms_of(site, target) if device.type == "cuda" or form in ("map", "input")]


def form_by_rule(site: TailSite, target: Target, device: torch.device) -> Form:
    """The form that a site takes unmeasured.

    In eager mode on a GPU the kernels of a tail move fewer maps than operators behind a gate from the input, in fewer
    launches (counted in ``docs/performance.md``). The epilogue would move fewer still, but its kernel has not been
    timed on a GPU against the library's convolutions: not by rule until somebody has.
    """
    if target == "eager" and device.type == "cuda":
        return "tail"
    return "input" if gate_stays_blocked(site, target) or gate_first_pays(site) else "map"


def gate_first_is_possible(site: TailSite) -> bool:
    """True if a site's gate can be computed from the input of the convolution before it."""
    return site.conv is not None and site.layers is not None


def gate_stays_blocked(site: TailSite, target: Target) -> bool:
    """The rule for a gate of convolutions in ONNX Runtime's blocked layout: wherever a 1x1 convolution and a ReLU are.

    Whatever reads the map, too, keeps ONNX Runtime from fusing addition and ReLU into the convolution, which costs two
    more passes over the map; and gates outside of the blocked layout cost four more small nodes.
    """
    if target != "onnxruntime" or site.relu is None or not gate_first_is_possible(site):
        return False
    return site.conv is not None and site.conv.kernel_size == (1, 1)


def gate_first_pays(site: TailSite) -> bool:
    """The rule for reading the convolution's input instead of its output: the values read for one image.

    The output's way reads the map, C_out * H*W, and the first layer; the input's way reads C_in * H*W and the folded
    layer, K * C_in a tap. A layer that is C_out wide (ECA, AB) makes that large: at small maps of many channels it
    loses. At a 3x3 convolution, whose input is as wide as its output, there is nothing to win by reading alone.
    """
    if not gate_first_is_possible(site):
        return False
    assert site.conv is not None
    assert site.layers is not None
    outside, inside = site.conv.out_channels, site.conv.in_channels
    taps = site.conv.kernel_size[0] * site.conv.kernel_size[1]
    width = len(site.layers.bias)
    layer = 0 if width == outside else width * outside  # K = C_out: a diagonal or a band, not a full layer
    return inside * site.size + width * inside * taps < outside * site.size + layer
