"""Cost, latency grids, and advice on what was measured."""

from recalib.benchmark.cost import Cost, cost

__all__ = ["Cost", "cost"]
