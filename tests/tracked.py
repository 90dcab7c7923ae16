"""What TensorBoard and W&B hold of a run, read back."""

import json
import struct

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record


def tensorboard_scalars(folder):
    """Name to (step, value) pairs."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def wandb_file(folder):
    """The offline W&B run's file; there must be one."""
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    return file


def wandb_rows(folder):
    """Rows of the history, without the times that W&B adds."""
    rows = [row.item for row in wandb_records(folder, "history")]
    rows = [{"".join(item.nested_key): json.loads(item.value_json) for item in row} for row in rows]
    return [{key: value for key, value in row.items() if key not in ("_timestamp", "_runtime")} for row in rows]


def wandb_records(folder, kind):
    """Records of a kind in the offline run's file: LevelDB's log format, of protocol buffers."""
    data, at, whole = wandb_file(folder).read_bytes(), 7, b""
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, part = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if part in (1, 4):  # a whole one, or the last part of one
            record, whole = Record.FromString(whole), b""
            if record.WhichOneof("record_type") == kind:
                yield getattr(record, kind)
