"""Made-up measurements, shaped like `recalib compare --json`; no number here was measured."""

import random
from dataclasses import replace

import pytest

from recalib.measure.cells import Cell

COST = {  # params, MACs, bytes moved of a made-up resnet50
    "baseline": (25_557_032, 4.089e9, 157.2e6),
    "ab": (25_572_136, 4.089e9, 201.1e6),
    "eca": (25_557_080, 4.089e9, 201.1e6),
    "se": (28_088_024, 4.092e9, 211.3e6),
    "srm": (25_617_448, 4.089e9, 223.9e6),
    "multi_se": (33_195_320, 4.097e9, 231.7e6),
    "gct": (25_602_344, 4.089e9, 223.9e6),
}
TIMES = {  # runtime: (deployed plain ms, undeployed ratio, {module: (ratio as inserted, ratio deployed)})
    "eager": (
        58.1,
        1.062,
        {
            "ab": (1.102, 1.041),
            "eca": (1.121, 1.068),
            "se": (1.139, 1.081),
            "srm": (1.512, 1.121),
            "multi_se": (1.204, 1.148),
            "gct": (1.203, 1.118),
        },
    ),
    "onnxruntime": (
        44.6,
        1.012,
        {
            "ab": (1.108, 1.031),
            "eca": (1.149, 1.088),
            "se": (1.141, 1.052),
            "srm": (1.231, 1.124),
            "multi_se": (1.133, 1.091),
            "gct": (1.219, 1.131),
        },
    ),
    "openvino": (
        20.3,
        1.004,
        {
            "ab": (1.088, 1.047),
            "eca": (1.101, 1.051),
            "se": (1.112, 1.060),
            "srm": (1.182, 1.110),
            "multi_se": (1.191, 1.098),
            "gct": (1.174, 1.107),
        },
    ),
}
DEEPER = {"eager": 101.4, "onnxruntime": 81.2, "openvino": 36.4}


def make_cell(model, module, runtime, deployed, base, ratio, cost, **other):
    """A cell whose samples scatter around `base * ratio` ms."""
    noise = random.Random(f"{model}{module}{runtime}{deployed}")
    samples = [round(base * ratio * noise.gauss(1, 0.012), 4) for _ in range(40)]
    half = 0 if module == "baseline" and deployed else 0.006 + 0.008 * noise.random()
    values = {
        "model": model,
        "module": module,
        "runtime": runtime,
        "deployed": deployed,
        "size": 224,
        "batch": 1,
        "precision": "fp32",
        "params": cost[0],
        "macs": cost[1],
        "bytes_moved": cost[2],
        "status": "ok",
        "latency_ms": {"median": round(base * ratio, 3), "min": min(samples), "samples": samples},
        "overhead": {"ratio": ratio, "low": ratio - half, "high": ratio + half},
        "setup_s": {"eager": 0.31, "onnxruntime": 1.92, "openvino": 2.64}[runtime],
        **other,
    }
    return Cell.of(values)


def fail(cell, status, message):
    """The same cell, had its work failed."""
    return replace(cell, status=status, latency_ms=None, overhead=None, message=message)


def compare_cells(model="resnet50", deeper="resnet101", scale=1.0):
    """What a whole run on one network and its deeper neighbour could give."""
    cells = []
    for runtime, (plain, undeployed, modules) in TIMES.items():
        base = plain * scale
        cells.append(make_cell(model, "baseline", runtime, False, base, undeployed, COST["baseline"]))
        cells.append(make_cell(model, "baseline", runtime, True, base, 1.0, COST["baseline"]))
        for module, (before, after) in modules.items():
            cells.append(make_cell(model, module, runtime, False, base, before, COST[module]))
            cells.append(make_cell(model, module, runtime, True, base, after, COST[module]))
    for runtime, base in DEEPER.items() if deeper else ():
        cost = (44_549_160, 7.801e9, 230.1e6)
        cells.append(make_cell(deeper, "baseline", runtime, False, base * scale, 1.02, cost))
        cells.append(make_cell(deeper, "baseline", runtime, True, base * scale, 1.0, cost))
    return cells


@pytest.fixture(scope="session")
def cells():
    """resnet50 with every module and resnet101 plain; one cell failed, one was noisy."""
    made = compare_cells()
    for index, cell in enumerate(made):
        if (cell.module, cell.runtime, cell.deployed) == ("gct", "openvino", True):
            made[index] = fail(cell, "unsupported", "operator ReduceL2 with dynamic axes is not supported")
        if (cell.module, cell.runtime, cell.deployed) == ("srm", "eager", False):
            made[index] = replace(cell, warnings=["noisy: the samples vary by 4.1 % (more than 2.5 %)"])
    return made


@pytest.fixture(scope="session")
def cells_of_three():
    """Two depths and a network that no one published, under a name that would like to be markup."""
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    return compare_cells("resnet18", "resnet34", 0.4) + compare_cells() + compare_cells(hostile, None)


@pytest.fixture(scope="session")
def machine():
    return {
        "device": "Example CPU @ 2.50GHz",
        "threads": 2,
        "memory_gib": 15.6,
        "os": "Linux 6.1",
        "versions": {"recalib": "0.1.0", "torch": "2.15.0", "onnxruntime": "1.31.0", "openvino": "2026.4.0"},
    }
