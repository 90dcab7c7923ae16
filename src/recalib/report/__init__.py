"""Tables on the terminal and the one HTML page of a run."""

from recalib.report.evaluated import accuracy_table
from recalib.report.page import write_page
from recalib.report.svg import require_drawing
from recalib.report.terminal import terminal_table

__all__ = ["accuracy_table", "require_drawing", "terminal_table", "write_page"]
