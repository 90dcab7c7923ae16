"""Schedules measured in the process that runs the tests: their own start seconds, and see no monkeypatch."""

from dataclasses import replace

import pytest

from recalib.measure import run
from recalib.measure.session import measure
from recalib.runtimes import PROTOCOLS


def _here(group, how, progress, seconds=None):
    if reason := group.missing():
        return [replace(cell, status="unsupported", message=reason) for cell in group.cells]
    return measure(group, how, progress, seconds=seconds)


@pytest.fixture(scope="module")
def in_process():
    """What `run` starts a process for happens here; times do not matter, so that nothing is warmed up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "measure_apart", _here)
        patch.setitem(PROTOCOLS, "clean", replace(PROTOCOLS["clean"], warm_up_s=0.0))
        yield
