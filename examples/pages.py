"""The pages of results/, drawn anew from what was measured.

python examples/pages.py             draw all of them
python examples/pages.py --check     exit with 1 where one is not what today's code draws
"""

import base64
import html
import json
import re
import sys
import zlib
from pathlib import Path

from recalib.choose.advice import advise
from recalib.measure.store import read_results
from recalib.report import write_page
from recalib.report.page import main_setting
from recalib.report.sweep import sweep_page

RESULTS = Path(__file__).parents[1] / "results"
FROM = {"latency": ["bench", "latency_compile", "latency"]}  # a page of several folders; others are of their own


def draw(page, to):
    """A page of results/, written to a file; the command that it names stays."""
    folder = page.parent
    command = html.unescape(re.search(r"<pre><code>(.*?)</code></pre>", page.read_text(), re.S)[1]).splitlines()[-1]
    if folder.name == "sweep":
        to.write_text(sweep_page(json.loads((folder / "killed.json").read_text()), command), encoding="utf-8")
        return
    found = read_results([RESULTS / name for name in FROM.get(folder.name, [folder.name])])
    write_page(to, found.cells, found.machine, advise(main_setting(found.cells)), command)


def unpacked(page):
    """A page's text with its compressed charts written out: compressors differ from machine to machine."""
    return re.sub(
        r'data-packed="([^"]*)"',
        lambda packed: zlib.decompress(base64.b64decode(packed[1])).decode(),
        page.read_text(encoding="utf-8"),
    )


def stale(folder):
    """The pages that today's code draws otherwise; drawn into a folder."""
    found = []
    for page in pages():
        fresh = folder / f"{page.parent.name}.html"
        draw(page, fresh)
        if unpacked(fresh) != unpacked(page):
            found.append(page)
    return found


def pages():
    """All of them."""
    return sorted(RESULTS.glob("*/report.html"))


def main():
    """Draw, or check."""
    if sys.argv[1:] == ["--check"]:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            old = stale(Path(folder))
        for page in old:
            print(f"{page} is not what today's code draws: python examples/pages.py")
        return int(bool(old))
    for page in pages():
        draw(page, page)
        print(f"{page}: {page.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
