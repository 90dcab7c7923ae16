"""Cells put into rows."""

from dataclasses import replace

from recalib.report.rows import costs, rows, setting, varying


def test_cells_of_different_settings_are_never_one_row(cells):
    some = [cell for cell in cells if cell.runtime == "eager"]
    settings = ({"size": 224}, {"size": (320, 192)}, {"batch": 8}, {"precision": "bf16"})
    grid = [replace(cell, **other) for other in settings for cell in some]
    found = rows(grid)
    assert len(found) == 4 * len(rows(some))
    for row in found:
        assert all(
            getattr(row.before, name) == getattr(row.after, name)
            for name in ("model", "module", "size", "batch", "precision")
        )
    assert varying(grid) == ["precision", "resolution", "batch"]
    assert setting(grid) == "224, 320x192 px, batch 1, 8, fp32, bf16"


def test_one_setting_varies_in_nothing(cells):
    assert varying(cells) == []
    assert setting(cells) == "224 px, batch 1, fp32"


def test_bytes_of_int8_are_not_shown_for_the_graph_does_not_tell_them(cells):
    params, macs, moved = costs(rows([replace(cells[0], precision="int8")])[0])
    assert all((params, macs))
    assert moved == ""
    assert costs(rows(cells[:1])[0])[2]
