"""Forms chosen by timing whole networks: a layer that wins alone can break a fusion of its neighbours."""

import copy
from statistics import median

import torch

from recalib.deploy.deploy import assemble, key, sites_of
from recalib.deploy.deployed import Deployed
from recalib.deploy.forms import Form, form_by_rule, forms_to_measure
from recalib.deploy.sites import Target
from recalib.runtimes import Settings, find_protocol, find_runtime
from recalib.runtimes.base import DTYPES
from recalib.runtimes.timer import interleave, warm_up

ROUNDS = 15
WORTH_IT = 0.99  # a form replaces the rule's only where it is at least 1 % quicker; below, it may be noise


def choose(graph: Deployed, example: torch.Tensor, target: Target) -> dict[tuple[int, int], Form]:
    """The quickest form of each kind of site, by its (channels, H*W); the rule's choice is where it starts from.

    Args:
        graph: traced and folded; it is not changed.
        example: an input (N, C, H, W).
        target: the runtime to measure in.

    Raises:
        Unsupported: where the runtime is not installed or cannot run the network.
    """
    sites = sites_of(graph, example)
    choices = {key(site): form_by_rule(site, target, example.device) for site in sites}
    best = assemble(copy.deepcopy(graph), example, target, choices)
    for kind_of_site, forms in {key(site): forms_to_measure(site, target, example.device) for site in sites}.items():
        for form in forms:
            if form == choices[kind_of_site]:
                continue
            tried = {**choices, kind_of_site: form}
            other = assemble(copy.deepcopy(graph), example, target, tried)
            if ratio(other, best, example, target) < WORTH_IT:
                choices, best = tried, other
    return choices


def ratio(a: Deployed, b: Deployed, example: torch.Tensor, target: Target) -> float:
    """Median time of network a over that of network b, measured in turn."""
    precision = next((name for name, dtype in DTYPES.items() if dtype == example.dtype), "fp32")
    settings = Settings(precision, torch.get_num_threads(), example.device, find_protocol("clean"))
    sessions = [find_runtime(target).prepare(model, example, settings) for model in (a, b)]
    for session in sessions:
        warm_up(session, 0.2)
    rounds = [[sample.latency_ms for sample in samples] for samples in interleave(sessions, ROUNDS)]
    return median(r[0] for r in rounds) / median(r[1] for r in rounds)
