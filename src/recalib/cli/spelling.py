"""One spelling of a flag in all commands, and the older ones, which are taken until 1.0."""

import sys
from collections.abc import Sequence

RENAMED = {
    "--modules": "--attention", "--sizes": "--size", "--resolution": "--size", "--image-size": "--size",
    "--batches": "--batch", "--runtimes": "--runtime", "--precisions": "--precision", "--models": "--model",
    "--network": "--model", "--checkpoint": "--weights", "--accelerator": "--device",
}  # fmt: skip
RENAMED_IN = {"cost": {"--modules": "--parts"}, "sweep": {"--target": "--runtime"}}
TWO_SIDES = ("cost", "export", "predict")  # commands whose --size took height and width as two words
NAMED_FIRST = ("compare", "cost", "latency", "recommend", "sites")  # commands that begin with the model's name


def modern(argv: Sequence[str], command: str) -> list[str]:
    """Arguments in today's spelling; a line on stderr names each older one.

    Where a command begins with the model's name, ``--model NAME`` is the same.

    Args:
        argv: what follows the command's name.
        command: such as ``"cost"``.
    """
    renamed = RENAMED | RENAMED_IN.get(command, {})
    words: list[str] = []
    for word in argv:
        flag, equals, value = word.partition("=")
        new = renamed.get(flag.replace("_", "-"))
        if new is not None:
            print(f"recalib: {flag} is now {new}; the old spelling ends with 1.0", file=sys.stderr)
        words.append(word if new is None else new + equals + value)
    if command in TWO_SIDES and "--size" in words:
        at = words.index("--size") + 1
        sides = words[at : at + 2]
        if len(sides) == 2 and all(side.isdecimal() for side in sides):
            words[at : at + 2] = ["x".join(sides)]
            print(f"recalib: --size {' '.join(sides)} is now --size {words[at]}", file=sys.stderr)
    if command in NAMED_FIRST and "--model" in words:
        at = words.index("--model")
        end = next((i for i in range(at + 1, len(words)) if words[i].startswith("-")), len(words))
        words = [*words[at + 1 : end], *words[:at], *words[end:]]
    return words
