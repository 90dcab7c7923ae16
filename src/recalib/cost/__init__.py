"""Costs of a network on paper: parameters, MACs, FLOPs and bytes moved."""

from recalib.cost.count import Cost, Counts, ModuleCost, cost

__all__ = ["Cost", "Counts", "ModuleCost", "cost"]
