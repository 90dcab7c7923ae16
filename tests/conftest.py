"""What tests of several packages share."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

SIZE = 64


@pytest.fixture(scope="session")
def cifar(tmp_path_factory):
    """CIFAR-10's official binary files, full size, with images that show their class."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 10, 10_000, dtype=np.uint8)
    pixels = draw.integers(0, 256, (10_000, 3072), dtype=np.uint8) // 2
    pixels[:, ::7] += (labels * 12)[:, None]
    records = np.concatenate([labels[:, None], pixels], 1)
    for i in range(1, 6):
        np.roll(records, 1000 * i, 0).tofile(folder / f"data_batch_{i}.bin")
    records.tofile(folder / "test_batch.bin")
    return root


def instances(folder, split, count, seed):
    """Grey noise with a light square or a dark disc in it, in COCO's layout; the right halves are at night."""
    draw, images, objects = np.random.default_rng(seed), [], []
    (folder / f"{split}2017").mkdir(parents=True)
    for i in range(1, count + 1):
        pixels = draw.integers(80, 140, (SIZE, SIZE, 3), dtype=np.uint8)
        x, y, side = (int(n) for n in (*draw.integers(2, 30, 2), draw.integers(20, 30)))
        label = 1 + i % 2
        ys, xs = np.mgrid[:SIZE, :SIZE]
        disc = (xs - x - side / 2) ** 2 + (ys - y - side / 2) ** 2 <= side**2 / 4
        shape = (xs >= x) & (xs < x + side) & (ys >= y) & (ys < y + side) if label == 1 else disc
        pixels[shape] = 250 if label == 1 else 5
        name = f"{i:012}.png"
        Image.fromarray(pixels).save(folder / f"{split}2017" / name)
        images.append({"id": i, "file_name": name, "width": SIZE, "height": SIZE,
                       "attributes": {"timeofday": "night" if i % 3 else "daytime"}})  # fmt: skip
        corners = [x, y, x + side, y, x + side, y + side, x, y + side]
        objects.append({"id": i, "image_id": i, "category_id": label, "bbox": [x, y, side, side], "iscrowd": 0,
                        "area": side * side, "segmentation": [corners]})  # fmt: skip
    names = [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}]
    (folder / f"instances_{split}2017.json").write_text(
        json.dumps({"images": images, "annotations": objects, "categories": names})
    )


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A data set of squares and discs, with masks and times of day."""
    folder = tmp_path_factory.mktemp("shapes")
    instances(folder, "train", 6, 0)
    instances(folder, "val", 2, 1)
    return folder


@pytest.fixture(scope="module")
def in_process():
    """Schedules are measured in the process that runs the tests: their own start seconds, and see no monkeypatch.

    Times do not matter here, so that nothing is warmed up.
    """
    from recalib.measure import run
    from recalib.measure.session import measure
    from recalib.runtimes import PROTOCOLS

    def here(group, how, progress, seconds=None):
        if reason := group.missing():
            return [replace(cell, status="unsupported", message=reason) for cell in group.cells]
        return measure(group, how, progress, seconds=seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "measure_apart", here)
        patch.setitem(PROTOCOLS, "clean", replace(PROTOCOLS["clean"], warm_up_s=0.0))
        yield
