"""``recalib yolo train``: ultralytics' own command, with attention."""

from typing import Any

from recalib.errors import RecalibError

USAGE = """usage: recalib yolo [TASK] train model=FILE attention=NAME [where=WHERE] [identity=False]
                    [attention.OPTION=VALUE] [ARGUMENT=VALUE ...]

Train a YOLO of ultralytics with attention; every other argument is that of `yolo train`.
Checkpoints keep their attention: use `yolo val`, `yolo predict` and `yolo export` with them as with any.

  attention   a name of `recalib modules`, or package.module:Class of your own
  where       residual (default), blocks, stages, convs; or a class or pattern such as C3k2 or model.*.C3k2;
              several with commas: model.2,model.4
  identity    start as the exact identity (default True): pretrained weights predict what they did

Example: recalib yolo train model=yolo11n.pt data=coco8.yaml epochs=10 attention=eca where=C3k2
"""
TASKS = ("detect", "segment", "classify", "pose", "obb")


def main(argv: list[str]) -> int:
    """Run the command."""
    if not argv or any(word in argv for word in ("-h", "--help", "help")):
        print(USAGE)
        return 0 if argv else 2
    words, given = [word for word in argv if "=" not in word], [word for word in argv if "=" in word]
    task = next((word for word in words if word in TASKS), None)
    odd = [word for word in words if word not in (*TASKS, "train")]
    if odd and odd[0].startswith("-"):
        raise RecalibError(f"unknown option {odd[0]!r}: arguments are NAME=VALUE, as ultralytics has them: epochs=10")
    if odd or "train" not in words:
        raise RecalibError(f"recalib yolo trains; {' '.join(odd) or 'without train'}: use `yolo` itself for the rest")
    arguments = dict(_pair(pair) for pair in given)
    if "attention" not in arguments:
        raise RecalibError("attention=NAME is missing; without attention use `yolo train` itself")
    _train(task, arguments)
    return 0


def _train(task: str | None, arguments: dict[str, Any]) -> None:
    from recalib.integrations.ultralytics import trainer

    attention, where = str(arguments.pop("attention")), arguments.pop("where", None)
    identity = bool(arguments.pop("identity", True))
    options = {k.partition(".")[2]: arguments.pop(k) for k in list(arguments) if k.startswith("attention.")}
    if isinstance(where, str) and "," in where:
        where = where.split(",")
    try:
        from ultralytics import YOLO
    except ImportError:
        raise RecalibError("ultralytics is not installed: pip install ultralytics (AGPL-3.0)") from None
    network = YOLO(arguments.pop("model", "yolo11n.pt"), task=task)
    base = network.task_map[str(network.task)]["trainer"]
    network.train(trainer=trainer(attention, where=where, identity=identity, base=base, **options), **arguments)


def _pair(pair: str) -> tuple[str, Any]:
    key, _, value = pair.partition("=")
    if not value:
        raise RecalibError(f"{pair}: give {key}=VALUE")
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return key, words[value.lower()]
    for number in (int, float):
        try:
            return key, number(value)
        except ValueError:
            continue
    return key, value
