"""Looks of modules: one colour and one shape each, the same in every chart and table."""

from dataclasses import dataclass
from itertools import chain, product

from recalib.attention import PAPER
from recalib.measure.cells import BASELINE

# Unit shapes in a box from -1 to 1, as SVG paths: Vega takes them as symbols, the table as inline icons.
_CIRCLE = "M-1,0A1,1,0,1,1,1,0A1,1,0,1,1,-1,0Z"
_SQUARE = "M-.88,-.88h1.76v1.76h-1.76Z"
_UP = "M0,-1.1L1.1,.85H-1.1Z"
_DIAMOND = "M0,-1.25L1.25,0L0,1.25L-1.25,0Z"
_DOWN = "M0,1.1L1.1,-.85H-1.1Z"
_CROSS = "M-.4,-1.1h.8v.7h.7v.8h-.7v.7h-.8v-.7h-.7v-.8h.7Z"
_SHAPES = (_CIRCLE, _SQUARE, _UP, _DIAMOND, _DOWN, _CROSS)


@dataclass(frozen=True)
class Mark:
    """Colour, as a variable of the page's style sheet so that it follows the theme, and shape, as a path."""

    colour: str
    shape: str

    @property
    def faded(self) -> str:
        """The colour drawn back into the page's ground, yet opaque."""
        return f"color-mix(in srgb, {self.colour} 40%, var(--paper))"


PLAIN = Mark("var(--plain)", _CIRCLE)


def marks(modules: list[str]) -> dict[str, Mark]:
    """A mark for every module; the default modules always have the same, others take what is left in their order."""
    own = {name: Mark(f"var(--module-{i})", _SHAPES[i]) for i, name in enumerate(PAPER)} | {BASELINE: PLAIN}
    rest = (
        (shape, f"var(--module-{i})") for i, own_shape in enumerate(_SHAPES) for shape in _SHAPES if shape != own_shape
    )
    spare = chain(product(_SHAPES, ("var(--module-6)", "var(--module-7)")), rest)
    names = sorted(dict.fromkeys(modules), key=lambda name: (BASELINE, *PAPER, name).index(name))
    return {name: own[name] if name in own else Mark(*reversed(next(spare))) for name in names}
