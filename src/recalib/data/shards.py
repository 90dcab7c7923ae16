"""ImageNet as shards, here or in an object store: WebDataset's tars and parquet files, read as if they were folders.

A shard comes to this machine whole, by fsspec (s3, gcs, http, a local folder, ...), into a cache that all processes
share, and is read there. What an epoch sees when follows from (seed, epoch) alone, as everywhere: so a step is all the
position that a checkpoint keeps, and the stream is the same whatever the number of processes.

The order is made for shards (`block_order`): at any time few of them are in use, and processes use different ones.
"""

import fcntl
import hashlib
import json
import os
import re
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recalib.data.order import held_out
from recalib.data.parquet import HALVES
from recalib.errors import RecalibError, require_packages

LANES = 64  # of an epoch's stream at most, a power of two: as many processes read different shards
WINDOW = 2  # shards of a lane whose images are mixed
TRIES, PATIENCE = 3, 1.0  # of bringing a shard, and seconds before the second
FRESH = 600.0  # seconds for which a shard that is broken is not asked for again
INFO, CLASSES = "_info.json", "classnames.txt"
PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "ppm")
LABELS = ("cls", "label")
_REMOTE = re.compile(r"^([a-z][a-z0-9+]*):/+(.+)$")


def address(root: Path | str) -> str | None:
    """The address of a data set that is not in a local folder, as ``s3://bucket/name``; None for one that is.

    A `Path` keeps one of the two slashes.
    """
    found = _REMOTE.match(str(root))
    return f"{found[1]}://{found[2]}" if found else None


@dataclass(frozen=True)
class Shard:
    """A file of many images.

    Attributes:
        url: its address, as fsspec takes it.
        first: number of its first image among those of its half of the data set.
        count: number of its images.
    """

    url: str
    first: int
    count: int


@dataclass(frozen=True)
class Member:
    """One image of a shard; stands where a path to a file would."""

    shard: Shard
    place: int

    def open(self) -> BytesIO:
        """The encoded image as a file.

        Raises:
            OSError: where the shard cannot be brought or read, or has no such image.
        """
        return BytesIO(_opened(self.shard.url).image(self.place))

    def __str__(self) -> str:
        """Its name: that of the shard where all of it is broken."""
        reason = _broken(self.shard.url)
        return f"{self.shard.url} ({reason})" if reason else f"image {self.place} of {self.shard.url}"


@dataclass(frozen=True)
class Shards:
    """Images of one half of a data set, as `recalib.data.Folder` has them, but none is read before it is used.

    Attributes:
        shards: in order.
        places: numbers of the images that are used, ascending.
        classes: names of the classes.
    """

    shards: tuple[Shard, ...]
    places: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.places)

    @property
    def files(self) -> "_Lazily":
        """The images."""
        return _Lazily(len(self), self._member)

    @property
    def labels(self) -> "_Lazily":
        """Index of each image's class."""
        return _Lazily(len(self), self._label)

    def first(self, count: int | None) -> "Shards":
        """So many of the images, spread evenly; all of them for None."""
        step = max(1, len(self) // count) if count else 1
        return Shards(self.shards, self.places[::step][:count], self.classes)

    def split(self, share: float) -> tuple["Shards", "Shards"]:
        """The rest after a share of the images is set aside, spread evenly, and that share."""
        aside = held_out(len(self), share)
        return tuple(Shards(self.shards, self.places[use], self.classes) for use in (~aside, aside))  # type: ignore[return-value]

    def order(self, repeat: int, draw: torch.Generator) -> torch.Tensor:
        """Indices of so many passes, each in an order of its own."""
        counts = np.bincount(self._shard_of(self.places), minlength=len(self.shards))
        return torch.cat([block_order(counts[counts > 0], draw) for _ in range(repeat)])

    def after(self, index: int) -> int:
        """The image that stands in for one that cannot be read: of another shard where all of this one is broken."""
        shard = self.shards[int(self._shard_of(self.places[index]))]
        if _broken(shard.url) is None:
            return (index + 1) % len(self)
        used = int(np.searchsorted(self.places, shard.first + shard.count) - np.searchsorted(self.places, shard.first))
        return (index + used) % len(self)

    def _shard_of(self, places: Any) -> Any:
        return np.searchsorted([shard.first for shard in self.shards], places, side="right") - 1

    def _member(self, index: int) -> Member:
        place = int(self.places[index])
        shard = self.shards[int(self._shard_of(place))]
        return Member(shard, place - shard.first)

    def _label(self, index: int) -> int:
        member = self._member(index)
        label = _opened(member.shard.url).label(member.place)
        if not 0 <= label < len(self.classes):
            raise OSError(f"{member}: label {label} is none of {len(self.classes)} classes")
        return label


class _Lazily(Sequence[Any]):
    """A sequence whose items are made when they are asked for."""

    def __init__(self, count: int, make: Callable[[int], Any]) -> None:
        self.length, self.make = count, make

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.make(i) for i in range(*index.indices(self.length))]
        if not 0 <= index < self.length:
            raise IndexError(index)
        return self.make(index)


def block_order(counts: Sequence[int] | np.ndarray, draw: torch.Generator) -> torch.Tensor:
    """A pass over the images of shards in which few of them are in use at a time.

    Shards are shuffled and laid end to end, in lanes of equal length; in a lane, the images of `WINDOW` shards are
    shuffled among each other; position p of the pass is in lane ``p % lanes``. So where the number of processes divides
    that of the lanes and the batch, each process reads shards of its own.

    Args:
        counts: images of each shard.
        draw: makes the order.

    Returns:
        Every index below ``sum(counts)`` once, int64.
    """
    counts = np.asarray(counts, dtype=np.int64)
    firsts, total = np.concatenate([[0], np.cumsum(counts)[:-1]]), int(counts.sum())
    lanes = 1
    while lanes < LANES and 2 * lanes * WINDOW <= len(counts):
        lanes *= 2
    shuffled = torch.randperm(len(counts), generator=draw).numpy()
    line = np.concatenate([np.arange(firsts[s], firsts[s] + counts[s]) for s in shuffled]) if total else firsts
    ends = np.cumsum(counts[shuffled])
    order = np.empty(total, dtype=np.int64)
    begin = 0
    for lane in range(lanes):
        length = (total - lane + lanes - 1) // lanes
        piece = line[begin : begin + length].copy()
        bounds = [int(end) - begin for end in ends[(ends > begin) & (ends < begin + length)]][WINDOW - 1 :: WINDOW]
        for start, end in zip([0, *bounds], [*bounds, length], strict=True):
            piece[start:end] = piece[start:end][torch.randperm(end - start, generator=draw).numpy()]
        order[lane::lanes] = piece
        begin += length
    return torch.from_numpy(order)


def has_shards(root: Path, train: bool) -> bool:
    """Decide whether a folder or address holds one half of a data set as shards; an address is taken at its word."""
    return address(root) is not None or bool(_local_tars(root, train))


def read_shards(root: Path, train: bool) -> Shards:
    """List the shards of one half of a data set.

    ``_info.json``, as timm and Hugging Face have it, says which they are and how many images each holds; where it is
    missing, they are ``train-*.tar`` or ``.parquet`` (``validation-*``, ``val-*``, ``test-*``), and tars are brought
    and counted. Classes are lines of ``classnames.txt``, what parquet files say, or else numbers.

    Args:
        root: a folder, or an address such as ``s3://bucket/name``.
        train: the training half, or the test half.

    Raises:
        RecalibError: for an address where there are none, or that cannot be read.
    """
    where = address(root) or str(root)
    require_packages(("fsspec",), "data", where)
    try:
        names, counts = _listed(where, train)
        urls = [name if address(name) else f"{where}/{name}" for name in names]
        if not counts:
            counts = [_opened(url).count for url in urls]
        classes = _classes(where, urls[0])
    except (OSError, ImportError, ValueError, KeyError) as error:  # what fsspec's file systems raise
        if isinstance(error, RecalibError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RecalibError(f"{where}: its shards cannot be read: {reason}") from None
    firsts = np.concatenate([[0], np.cumsum(counts)]).tolist()
    shards = tuple(Shard(url, first, count) for url, first, count in zip(urls, firsts, counts, strict=False))
    return Shards(shards, np.arange(firsts[-1]), classes)


def _listed(where: str, train: bool) -> tuple[list[str], list[int]]:
    """Names of the shards of one half, and how many images each holds where something says so."""
    info = _text(f"{where}/{INFO}")
    if info is not None:
        splits = json.loads(info)["splits"]
        half = next((half for half in HALVES[train] if half in splits), None)
        if half is None:
            raise RecalibError(f"{where}/{INFO}: has no split {' or '.join(HALVES[train])}")
        return list(splits[half]["filenames"]), [int(count) for count in splits[half]["shard_lengths"]]
    files, _ = _system(where)
    for half in HALVES[train]:
        for kind in ("tar", "parquet"):
            found = sorted(str(name).rsplit("/", 1)[-1] for name in files.glob(_inside(where, f"{half}*.{kind}")))
            if found:
                return found, []
    raise RecalibError(f"{where}: has no {INFO} and no shards {HALVES[train][0]}-*.tar or .parquet")


def _classes(where: str, url: str) -> tuple[str, ...]:
    text = _text(f"{where}/{CLASSES}")
    if text is not None:
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    info = json.loads(_text(f"{where}/{INFO}") or "{}")
    if "classes" in info:
        return tuple(info["classes"])
    one = _opened(url)
    return one.classes or tuple(str(i) for i in range(1 + max(one.label(i) for i in range(one.count))))


def _local_tars(root: Path, train: bool) -> list[Path]:
    return [file for half in HALVES[train] for file in sorted(root.glob(f"{half}*.tar"))]


def _system(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    scheme, remote, rest = url.partition("://")
    files = _client(f"{scheme}://{rest.partition('/')[0]}" if remote else "", os.getpid())
    return files, str(files._strip_protocol(url))


@lru_cache
def _client(host: str, _process: int) -> Any:
    """A file system of this process: one that a parent made has a thread that did not come along."""
    import fsspec

    return fsspec.core.url_to_fs(host or ".", **({"skip_instance_cache": True} if host else {}))[0]


def _inside(where: str, pattern: str) -> str:
    return f"{_system(where)[1]}/{pattern}" if not where.startswith("http") else f"{where}/{pattern}"


def _text(url: str) -> str | None:
    files, path = _system(url)
    try:
        return bytes(files.cat_file(path)).decode()
    except FileNotFoundError:
        return None


class _Tar:
    """A shard of WebDataset: files of one name up to the first dot of its last part are one sample."""

    classes: tuple[str, ...] = ()

    def __init__(self, file: Path) -> None:
        pictures: dict[str, tuple[int, int]] = {}
        labels: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(file, mode="r:") as tar:
                for member in tar:
                    folder, _, name = member.name.rpartition("/")
                    stem, _, ending = name.partition(".")
                    for kind, found in ((PICTURES, pictures), (LABELS, labels)):
                        if member.isreg() and ending.lower() in kind:
                            found[f"{folder}/{stem}"] = (member.offset_data, member.size)
        except tarfile.TarError as error:
            raise OSError(f"no whole tar: {error}") from None
        self.parts = [(pictures[key], labels[key]) for key in pictures if key in labels]
        if not self.parts:
            raise OSError("no sample has both a picture and a .cls")
        if any(offset + length > file.stat().st_size for pair in self.parts for offset, length in pair):
            raise OSError("it ends in the middle of a sample")
        self.handle = os.open(file, os.O_RDONLY)  # which outlives the file's removal from the cache

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)

    @property
    def count(self) -> int:
        return len(self.parts)

    def image(self, place: int) -> bytes:
        return self._read(place, 0)

    def label(self, place: int) -> int:
        return int(self._read(place, 1))

    def _read(self, place: int, part: int) -> bytes:
        if place >= self.count:
            raise OSError(f"it holds {self.count} images, fewer than was said")
        offset, length = self.parts[place][part]
        return os.pread(self.handle, length, offset)


class _Parquet:
    """A shard of Hugging Face's: a column of images, which hold their bytes, and one of class labels."""

    def __init__(self, file: Path) -> None:
        import datasets

        try:
            self.rows: Any = datasets.Dataset.from_parquet(str(file), keep_in_memory=False)
        except Exception as error:  # arrow's and datasets' own errors have no common class
            raise OSError(f"no parquet: {str(error.__cause__ or error).splitlines()[0]}") from None
        kinds = self.rows.features.items()
        picture = [name for name, kind in kinds if isinstance(kind, datasets.Image)]
        label = [name for name, kind in kinds if isinstance(kind, datasets.ClassLabel)]
        if len(picture) != 1 or len(label) != 1:
            raise OSError("should have one column of images and one of class labels")
        self.picture, self.named = picture[0], label[0]
        self.classes = tuple(self.rows.features[self.named].names)
        self.rows = self.rows.cast_column(self.picture, datasets.Image(decode=False))
        self.count = len(self.rows)

    def image(self, place: int) -> bytes:
        return bytes(self._row(place)[self.picture]["bytes"] or b"")

    def label(self, place: int) -> int:
        found = self._row(place)[self.named]
        return -1 if found is None else int(found)

    def _row(self, place: int) -> Any:
        if place >= self.count:
            raise OSError(f"it holds {self.count} images, fewer than was said")
        return self.rows[place]


def _opened(url: str) -> "_Tar | _Parquet":
    """A shard, brought here.

    Raises:
        OSError: where it cannot be brought, or is broken; the reason is kept for `FRESH` seconds.
    """
    reason = _broken(url)
    if reason:
        raise OSError(reason)
    try:
        return _open(url, os.getpid())
    except (OSError, ValueError, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        _cached(url).with_suffix(".broken").write_text(reason)
        _cached(url).unlink(missing_ok=True)
        raise OSError(f"{url}: {reason}") from None


@lru_cache(maxsize=4 * LANES)
def _open(url: str, _process: int) -> "_Tar | _Parquet":
    file = _brought(url)
    return _Parquet(file) if url.endswith(".parquet") else _Tar(file)


def _broken(url: str) -> str | None:
    mark = _cached(url).with_suffix(".broken")
    try:
        return mark.read_text() if time.time() - mark.stat().st_mtime < FRESH else None
    except OSError:
        return None


def _cache() -> Path:
    """Folder of shards that were brought: ``shards`` in RECALIB_CACHE, or else in the user's cache."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("RECALIB_CACHE") or user / "recalib") / "shards"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _cached(url: str) -> Path:
    kind = url.rsplit(".", 1)[-1]
    return _cache() / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.{kind}"


def _brought(url: str) -> Path:
    """A shard's file on this machine; of several processes one brings it."""
    files, path = _system(url)
    if address(url) is None:
        return Path(path)
    target = _cached(url)
    with target.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            fresh = target.with_suffix(".part")
            for attempt in range(TRIES):
                try:
                    files.get_file(path, str(fresh))
                    break
                except FileNotFoundError:
                    raise
                except Exception as error:  # every file system has errors of its own
                    if attempt + 1 == TRIES:
                        raise OSError(str(error) or type(error).__name__) from None
                    time.sleep(PATIENCE * 2**attempt)
            fresh.replace(target)
            _make_room(target)
    os.utime(target)  # the least recently used go first
    return target


def _make_room(newest: Path) -> None:
    """Remove shards that were not used for longest until the cache is as large as RECALIB_CACHE_GB allows."""
    limit = float(os.environ.get("RECALIB_CACHE_GB", "inf")) * 1e9
    kept = sorted(_files(), key=lambda file: file.stat().st_mtime)
    total = sum(file.stat().st_size for file in kept)
    for file in kept:
        if total > limit and file != newest:
            total -= file.stat().st_size
            file.unlink(missing_ok=True)  # who reads it goes on reading


def _files() -> Iterator[Path]:
    return (file for kind in ("tar", "parquet") for file in _cache().glob(f"*.{kind}"))
