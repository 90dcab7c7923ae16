"""Experiments made of runs and measurements: does attention help, and where."""

from recalib.study.trim import CurvePoint, Trimmed, TrimmedSite, trim

__all__ = ["CurvePoint", "Trimmed", "TrimmedSite", "trim"]
