"""`ddrl show RUN --gantt`: bars at their place, the same bytes each time, spans that make no sense named."""

import numpy as np
import pytest
from typer.testing import CliRunner

from ddrl_sched.cli import app
from ddrl_sched.config import InputError
from ddrl_sched.jobs import records, schemas
from ddrl_sched.report.gantt import ENDINGS, bars_of, parse_span, picture
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame
from tests.run.test_task_record import hand_made

SETTINGS = {"env": {"rule": "clean", "network": {"port": "shared"}}}


def table():
    return {name: column.to_numpy() for name, column in hand_made().items()}


@pytest.fixture
def folder(tmp_path):
    """A run that kept two tasks: both of station 0, the second also on server 1."""
    place = write_run(tmp_path / "run", rows=eval_frame(1), settings=SETTINGS)
    records.write_table(place / "tasks.parquet", hand_made(), schemas.TASKS_SCHEMA)
    records.write_manifest(place)
    return place


def gantt(folder, span, out, *words):
    result = CliRunner().invoke(app, ["show", str(folder), "--gantt", span, "--out", str(out), *words])
    return result.exit_code, result.output


def test_bars_by_hand():
    """Server 0 serves 1 .. 3 and 3 .. 4, server 1 1.06 .. 1.56; port 0 sends 1 .. 1.05."""
    bars = bars_of(table(), 1.5, 3.5, shared=True)
    assert bars.names == ["server 0", "server 1"]
    assert bars.lane.tolist() == [0, 0, 1]
    assert bars.begin_s.tolist() == pytest.approx([1.5, 3.0, 1.5])
    assert bars.end_s.tolist() == pytest.approx([3.0, 3.5, 1.56])
    early = bars_of(table(), 0.0, 10.0, shared=True)
    assert early.names == ["server 0", "server 1", "port 0"]
    assert (early.begin_s[-1], early.end_s[-1]) == pytest.approx((1.0, 1.05))
    assert bars_of(table(), 0.0, 10.0, shared=False).names[-1] == "link 0 to 1"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_picture_is_the_same_each_time(ending):
    bars = bars_of(table(), 0.0, 10.0, shared=True)
    one, again = (picture(bars, (0.0, 10.0), "title <&>", ending) for _ in range(2))
    assert one == again
    assert one[:5] in (b"<?xml", b"%PDF-", b"\x89PNG\r")


def test_the_command_writes_what_it_says(folder, tmp_path):
    status, said = gantt(folder, "0:5", tmp_path / "g.svg")
    assert (status, said) == (0, f"written: {tmp_path / 'g.svg'}\n")
    text = (tmp_path / "g.svg").read_text()
    for word in ("server 0", "server 1", "port 0", "task of station"):
        assert word in text


@pytest.mark.parametrize("span", ["12:10", "5:5", "-1:2", "x:3", "3", "1:2:3", "nan:1", "0:inf"])
def test_spans_that_make_no_sense_are_named(folder, tmp_path, span):
    with pytest.raises(InputError, match=r"^--gantt "):
        parse_span(span)
    if not span.startswith("-"):
        status, said = gantt(folder, span, tmp_path / "g.svg")
        assert (status, said.startswith(f"error: --gantt {span}: ")) == (2, True)


@pytest.mark.parametrize(
    ("span", "name", "words", "text"),
    [
        ("50:60", "g.svg", [], "nothing happens then; the trace ends at 4 s"),
        ("0:5", "g.gif", [], "a name that ends in .svg, .pdf, .png expected"),
        ("0:5", "g.svg", ["--seed", "9"], "--seed 9: tasks.parquet has seed 3"),
        ("0:5", "g.svg", ["--trace", "9"], "--trace 9: tasks.parquet has trace 7"),
    ],
)
def test_what_cannot_be_drawn_is_named(folder, tmp_path, span, name, words, text):
    status, said = gantt(folder, span, tmp_path / name, *words)
    assert status == 2
    assert text in said
    assert not (tmp_path / name).exists()


def test_too_much_is_refused():
    many = {name: np.tile(column, 10_000) for name, column in table().items()}
    with pytest.raises(InputError, match="give a shorter span"):
        bars_of(many, 0.0, 10.0, shared=True)
