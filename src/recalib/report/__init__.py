"""What people read of a run: the table on the terminal and the one HTML page."""

from recalib.report.page import write_page
from recalib.report.terminal import terminal_table

__all__ = ["terminal_table", "write_page"]
