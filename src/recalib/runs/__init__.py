"""Parts of every long job: a folder, checkpoints to resume from, signals, trackers."""

from recalib.runs.atomic import write_atomically, write_json, write_text
from recalib.runs.environment import code_version, environment
from recalib.runs.folder import RunFolder, read_config, read_state
from recalib.runs.signals import StopRequest, stop_on_signals
from recalib.runs.trackers import Tracker, check_trackers, open_trackers, read_metrics

__all__ = [
    "RunFolder",
    "StopRequest",
    "Tracker",
    "check_trackers",
    "code_version",
    "environment",
    "open_trackers",
    "read_config",
    "read_metrics",
    "read_state",
    "stop_on_signals",
    "write_atomically",
    "write_json",
    "write_text",
]
