"""Marks of tables."""

import pytest

from ddrl_sched.report.table import Cell, Column, Row, mark_best


@pytest.mark.parametrize(
    ("values", "marked"),
    [
        ([0.0, 0.0, 0.1], []),
        ([0.0, 0.0, 0.1, 0.2], [0, 1]),
        ([0.2, 0.1, 0.3], [1]),
        ([0.1], []),
        ([0.1, 0.1], []),
    ],
)
def test_what_more_than_half_of_the_rows_share_is_no_best(values, marked):
    rows = mark_best([Row((Cell(value),)) for value in values], [Column("late_rate", "late")], ["late_rate"])
    assert [place for place, row in enumerate(rows) if row.cells[0].best] == marked
