"""One writer of a run's folder at a time, on one machine and, over a network file system, on several."""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from recalib.errors import RecalibError, WorkFailed

FILE = "lock"
BEAT, STALE = 10.0, 60.0  # seconds between signs of life, and without one until another machine's lock is void


class FolderLock:
    """A lock that no kill leaves behind.

    On one machine it is a lock of the kernel's (POSIX, `fcntl.lockf`): it goes with its process, however that ends, and
    data-loading processes do not inherit it. NFS and the like carry such locks between machines, or only pretend to,
    or have none. So the file also names its holder, who writes it anew every `BEAT` seconds: a lock of another machine
    holds until it has shown no sign of life for `STALE` seconds, by the file server's own clock.

    Args:
        folder: to be locked; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / FILE
        self._file: int | None = None
        self._since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._ended = threading.Event()

    def acquire(self, patience: float = 0.0) -> None:
        """Lock the folder.

        Args:
            patience: seconds to wait where another process has it.

        Raises:
            RecalibError: where another process has it, naming that.
            WorkFailed: where the folder cannot be written to.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                return self._acquire()
            except WorkFailed:
                raise
            except RecalibError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(1.0)

    def _acquire(self) -> None:
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise WorkFailed(f"{self.folder} cannot be written to: {error.strerror}") from None
        holder, age = _record(file), self._now() - os.fstat(file).st_mtime
        mine = socket.gethostname()
        alone = _kernel_lock(file)
        elsewhere = bool(holder) and holder.get("host") != mine and age < STALE
        beside = alone is None and holder.get("host") == mine and _alive(holder.get("pid"))  # no locks: ask the process
        if alone is False or elsewhere or beside:
            os.close(file)
            raise RecalibError(self._held(holder, age, elsewhere))
        self._file = file
        self._beat()
        threading.Thread(target=self._go_on_beating, daemon=True, name="folder-lock").start()

    def release(self) -> None:
        """Let another process have it."""
        self._ended.set()
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(file, 0)
            os.close(file)  # which gives the kernel's lock back

    def _held(self, holder: dict[str, Any], age: float, elsewhere: bool) -> str:
        host, pid, since = (holder.get(key, "?") for key in ("host", "pid", "since"))
        who = f"process {pid} on {host}, since {since}"
        wait = f"; if it is dead, wait {STALE - age:.0f} seconds" if elsewhere else ""
        return f"{self.folder} is being written by {who}: stop that one, or wait for its end{wait}"

    def _go_on_beating(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):
                self._beat()

    def _beat(self) -> None:
        if self._file is not None:
            record = {"host": socket.gethostname(), "pid": os.getpid(), "since": self._since}
            os.pwrite(self._file, json.dumps(record).ljust(200).encode(), 0)

    def _now(self) -> float:
        """By the clock of the file system, which may be another machine's."""
        probe = self.folder / f".clock.{os.getpid()}.tmp"
        try:
            probe.write_bytes(b"")
            return probe.stat().st_mtime
        except OSError as error:
            raise WorkFailed(f"{self.folder} cannot be written to: {error.strerror}") from None
        finally:
            probe.unlink(missing_ok=True)


def is_held(folder: Path) -> bool:
    """Decide whether a process has a folder's lock, or may have it: it is of another machine, and its sign is fresh."""
    lock = FolderLock(folder)
    if not lock.path.exists():
        return False
    try:
        lock.acquire()
    except RecalibError:
        return True
    lock.release()
    return False


def _kernel_lock(file: int) -> bool | None:
    """True where the kernel gave its lock, None where the file system has none."""
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except (ImportError, OSError):
        return None
    return True


def _record(file: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(file, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
