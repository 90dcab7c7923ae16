"""Remembered plans: what they launch, what they check, and what their Python costs, by a driver that takes launches."""

import copy
import pickle
import time

import pytest
import torch
from torch import nn

pytest.importorskip("triton", reason="Triton is not installed")

import triton
from tests.ops.stand_in import PROCESSORS, StandIn

from recalib import create_attention
from recalib.deploy.tails import Tail
from recalib.ops import passes, passes_triton, plans, plans_triton, recalibrate
from recalib.ops.reference import compose

SITES = {256: 56, 512: 28, 1024: 14, 2048: 7}  # channels and sides of the tails of a ResNet-50
GATES = ("ab", "eca", "srm", "gct", "se", "multi_se")
MOST = 15 / 1.75  # 15 us of Python a tail beside its launches, on a core where the two calls that it replaces take 1.75


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """Kernels wherever tensors lie, on a processor that only takes launches."""
    driver = StandIn()
    monkeypatch.setattr(passes, "has_kernels", lambda _: True)
    monkeypatch.setattr(passes_triton, "processors", lambda _: PROCESSORS)
    monkeypatch.setattr(triton.runtime.driver, "_active", driver)
    return driver


def maps(*shape, dtype=torch.bfloat16, layout=torch.channels_last):
    return [torch.randn(shape).to(dtype).contiguous(memory_format=layout) for _ in range(2)]


def gate_of(name, channels=256):
    return create_attention(name, channels).eval().requires_grad_(False)


def launches(name, channels, side, images=1, with_norm=False):
    x, r = maps(images, channels, side, side)
    norm = nn.BatchNorm2d(channels).eval() if with_norm else None
    return [step.kernel.fn.__name__ for step in plans_triton.plan(x, norm, gate_of(name, channels), r, True)._steps]


@pytest.mark.parametrize("with_norm", [False, True], ids=["deployed", "as inserted"])
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("ab", [2, 2, 1, 1]),
        ("srm", [2, 2, 1, 1]),
        ("eca", [2, 2, 2, 2]),
        ("gct", [2, 2, 2, 2]),
        ("se", [3, 3, 3, 3]),
        ("multi_se", [3, 3, 3, 3]),
    ],
)
def test_launches_of_the_tails_of_a_resnet50_at_batch_1(name, counts, with_norm, driver):
    assert [len(launches(name, *site, with_norm=with_norm)) for site in SITES.items()] == counts


def test_a_large_batch_computes_a_gate_that_looks_at_all_channels_once(driver):
    assert launches("gct", 256, 28, 64) == ["moments", "gate", "integrate"]
    assert launches("se", 256, 28, 64) == ["moments", "hidden", "gate", "integrate"]
    assert launches("eca", 256, 28, 64) == ["moments", "tail"]


@pytest.mark.parametrize("name", ["se", "gct", "ab"])
def test_a_remembered_plan_launches_what_the_first_call_launched(name, driver):
    tail = Tail(gate_of(name), True)
    x, r = maps(1, 256, 28, 28)
    outputs, kept = [], [x, r]
    with torch.inference_mode():
        for _ in range(3):
            before = len(driver.launches)
            outputs.append(tail(x, r))
            kept.append(driver.launches[before:])
    first, second, third = (_labelled(launched, x, r, y, tail) for launched, y in zip(kept[2:], outputs, strict=True))
    assert first == second == third
    assert {"x", "residual", "y"} <= {label for launch in first for label in launch[2]}


def _labelled(launched, x, r, y, tail):
    """Launches with addresses replaced by what lies there; those of scratch by their order."""
    known = {t.data_ptr(): name for name, t in (("x", x), ("residual", r), ("y", y), *tail.named_parameters())}
    scratch = {}

    def label(value):
        if isinstance(value, tuple):
            return tuple(map(label, value))
        if isinstance(value, int) and value > 2**32:
            return known.get(value) or scratch.setdefault(value, f"scratch {len(scratch)}")
        return value

    return [(launch.name, launch.programs, label(launch.operands)) for launch in launched]


def test_a_plan_is_for_one_kind_of_map(driver):
    tail = Tail(gate_of("ab"), True)
    x, r = maps(1, 256, 28, 28)
    odd = torch.empty(x.numel() + 1, dtype=x.dtype)[1:].as_strided(x.shape, x.stride())
    others = [
        (x[:, :, :14], None),
        maps(2, 256, 28, 28),
        maps(1, 256, 28, 28, dtype=torch.float16),
        maps(1, 256, 28, 28, layout=torch.contiguous_format),
        (odd, r),
        (x, odd),
    ]
    with torch.inference_mode():
        for x_, r_ in ((x, r), *others, (x, r), *others):
            tail(x_, r_)
    assert len(plans._PLANS[tail.attention]) == 1 + len(others)


def test_plans_die_with_their_gate_and_are_no_part_of_it(driver):
    tail = Tail(gate_of("ab"), True)
    with torch.inference_mode():
        tail(*maps(1, 256, 14, 14))
    assert tail.attention in plans._PLANS
    before = len(plans._PLANS)
    assert copy.deepcopy(tail).attention not in plans._PLANS
    assert pickle.loads(pickle.dumps(tail)).attention not in plans._PLANS
    del tail
    assert len(plans._PLANS) == before - 1


def test_maps_in_many_shapes_do_not_fill_the_memory(driver, monkeypatch):
    monkeypatch.setattr(plans, "_MOST", 2)
    tail = Tail(gate_of("ab"), True)
    with torch.inference_mode():
        for side in (2, 3, 4, 5):
            tail(*maps(1, 256, side, side))
    assert len(plans._PLANS[tail.attention]) <= 2


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore::torch.jit.TracerWarning")
def test_a_graph_that_is_recorded_holds_plain_modules(driver):
    gate, norm = gate_of("se", 16), nn.BatchNorm2d(16).eval().requires_grad_(False)
    x, r = maps(2, 16, 3, 3, dtype=torch.float32)
    with torch.no_grad():
        recalibrate(x, norm, gate, r)  # there is a plan
        launched = len(driver.launches)
        compiled = torch.compile(recalibrate, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x, norm, gate, r), compose(x, norm, gate, r, True))
        torch.jit.trace(lambda x, r: recalibrate(x, norm, gate, r), (x, r), check_trace=False)
    assert len(driver.launches) == launched


@pytest.mark.parametrize("name", GATES)
def test_python_of_a_tail_is_a_small_multiple_of_the_two_calls_that_it_replaces(name, driver):
    """Thread processor time, fastest tenth of many, so that other work on the machine counts little."""
    driver.records = False
    tail = Tail(gate_of(name, 1024), True).eval()
    x, r = maps(1, 1024, 14, 14)
    small = torch.zeros(1, 4, 2, 2)
    with torch.inference_mode():
        tail(x, r)
        remembered = next(iter(plans._PLANS[tail.attention].values())).launches._remembered
        slots = (0,) * len(plans_triton._SLOTS)

        def launch():
            for runner, pick, constants in remembered:
                runner(*pick((*slots, *constants)), stream=0)

        whole, alone, replaced = fastest(lambda: tail(x, r), launch, lambda: small.add_(small).relu_())
    assert whole - alone <= MOST * replaced, f"{whole:.1f} us, launches {alone:.1f}, torch {replaced:.1f}"


def fastest(*calls, rounds=400):
    """Microseconds of each call, interleaved."""
    times = [[] for _ in calls]
    for _ in range(rounds):
        for call, found in zip(calls, times, strict=True):
            start = time.thread_time_ns()
            for _ in range(5):
                call()
            found.append((time.thread_time_ns() - start) / 5e3)
    return [sorted(found)[len(found) // 10] for found in times]
