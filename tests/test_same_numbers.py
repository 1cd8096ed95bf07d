"""The comparison of two checkouts sees the last bit, a missing row and a renamed scheduler."""

import numpy as np
import pandas as pd
import pytest

from tests import same_numbers
from tests.conf_files import names


def _rows(**columns):
    return pd.DataFrame({"scheduler": ["eft", "jsq"], "mean_delay_s": [0.5, np.nan], **columns})


def test_equal_tables_differ_in_nothing():
    assert same_numbers.differences(_rows(), _rows()) == []


def test_the_last_bit_is_seen():
    other = _rows(mean_delay_s=[np.nextafter(0.5, 1.0), np.nan])
    assert same_numbers.differences(_rows(), other) == ["mean_delay_s: 1 of 2 rows (eft)"]


def test_a_missing_row_is_seen():
    assert same_numbers.differences(_rows(), _rows().iloc[:1]) == ["2 and 1 rows"]


def test_nothing_to_compare_is_no_success(tmp_path, capsys):
    assert same_numbers.compare(tmp_path, tmp_path, list(same_numbers.CASES)) == 1
    assert "0 rows" in capsys.readouterr().out


def test_renamed_schedulers_are_told_by_their_present_name(monkeypatch):
    monkeypatch.setattr(same_numbers, "RENAMED_SCHEDULERS", {"tuned/x": "x_tuned"})
    assert same_numbers.name_now("x_tuned(gamma=0.5)") == "tuned/x(gamma=0.5)"


@pytest.mark.parametrize("case", list(same_numbers.CASES))
def test_the_set_names_schedulers_that_exist(case):
    assert set(names("scheduler")).issuperset(same_numbers.CASES[case][0].split())
