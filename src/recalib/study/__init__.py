"""Experiments made of runs and measurements: does attention help, and where."""

from recalib.study.trim import Point, Trimmed, TrimmedSite, trim

__all__ = ["Point", "Trimmed", "TrimmedSite", "trim"]
