"""The part of `recalib.runs.on_ray` that a node of a Ray cluster runs; it goes there by its text."""

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LARGEST = 256 << 20  # bytes of a file that is brought home
EVERY = 0.2  # seconds between looks at the process
OUT = "{out}"  # in arguments and output: the folder that was brought along


class Process:
    """A process of a node: an actor that starts it, tells what it says, and takes it along when it dies."""

    folder: Path | None = None

    def start(
        self, arguments: list[str], variables: dict[str, str], place: str, files: dict[str, bytes] | None, alone: bool
    ) -> str | None:
        """Start ``recalib ARGUMENTS``.

        Args:
            arguments: of the command.
            variables: of the environment, over the node's.
            place: working directory, where the node has it.
            files: of the folder that is brought along.
            alone: whether it measures: with as many threads as PyTorch likes, not as Ray says.

        Returns:
            Why it cannot be started, if so.
        """
        if importlib.util.find_spec("recalib") is None:
            return f"recalib is not installed on {os.uname().nodename}"
        self.scratch = Path(tempfile.mkdtemp(prefix="recalib-"))
        self.log, self.read, self.known = self.scratch / "log.txt", 0, dict[str, tuple[int, int]]()
        if files is not None:
            self.folder = self.scratch / "out"
            self.folder.mkdir()
            for name, content in files.items():
                (self.folder / name).write_bytes(content)
            self._changed()
            arguments = [word.replace(OUT, str(self.folder)) for word in arguments]
        environment = {**os.environ, **variables, "PYTHONUNBUFFERED": "1"}
        if alone and "OMP_NUM_THREADS" not in variables:
            environment.pop("OMP_NUM_THREADS", None)
        linux = ctypes.CDLL(None) if sys.platform == "linux" else None

        def end_with_parent() -> None:
            if linux is not None:
                linux.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "recalib", *arguments], stdout=log, stderr=log, env=environment,
                cwd=place if Path(place).is_dir() else None, preexec_fn=end_with_parent,
            )  # fmt: skip
        return None

    def poll(self) -> tuple[int | None, str, dict[str, bytes]]:
        """Exit status, whole lines that are new, and files that are new or other than last time."""
        time.sleep(EVERY)
        status = self.process.poll()
        with self.log.open("rb") as log:
            log.seek(self.read)
            text = log.read()
        if status is None:
            text = text[: text.rfind(b"\n") + 1]
        self.read += len(text)
        files, said = self._changed(), text.decode(errors="replace")
        if self.folder is not None:
            said = said.replace(str(self.folder), OUT)
        if status is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
        return status, said, files

    def stop(self) -> None:
        """Ask it to stop."""
        self.process.terminate()

    def _changed(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for file in self.folder.iterdir() if self.folder else ():
            if not file.is_file() or file.name.startswith(".") or file.name == "lock":
                continue
            about = file.stat()
            sign = (about.st_mtime_ns, about.st_size)
            if about.st_size <= LARGEST and self.known.get(file.name) != sign:
                self.known[file.name] = sign
                found[file.name] = file.read_bytes()
        return found
