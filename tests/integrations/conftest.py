"""ultralytics as it is on a machine without a network, with settings of its own."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_OFFLINE", "true")
        patch.setenv("YOLO_AUTOINSTALL", "false")
        patch.setenv("YOLO_VERBOSE", "false")
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        yield


@pytest.fixture(scope="session")
def boxes(tmp_path_factory):
    """Four images with a box each, as ultralytics reads them: the file that describes them."""
    root = tmp_path_factory.mktemp("boxes")
    draw = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind).mkdir()
    for i in range(4):
        pixels = draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        pixels[16:48, 16:48] = 255
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        (root / "labels" / f"{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text(f"path: {root}\ntrain: images\nval: images\nnames: {{0: square}}\n")
    return root / "data.yaml"
