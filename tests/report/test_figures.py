"""Charts as data: numbers by hand, what is left out and said, and the same picture for the same data."""

import math
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import LogNorm

from ddrl_sched.report.chart import MAX_LINES, MAX_ROWS, bounds, slug
from ddrl_sched.report.comparison import report_rows
from ddrl_sched.report.draw import DARKEST, WHITE_FROM, as_pdf, as_svg, picture
from ddrl_sched.report.figures import charts
from ddrl_sched.report.material import Material, short, short_titles
from ddrl_sched.report.worlds import ScenarioKey
from ddrl_sched.run.histogram import bins_of, counts_of
from tests.report.test_report import rows, together

PARTS = {"wait_s": 0.5, "transfer_s": 0.25, "compute_s": 0.2, "return_s": 0.05}


def at(load, scheduler, delay_s, **more):
    """Rows of one scheduler at one load."""
    return rows(scheduler, delay_s, load=load, scenario_hash=f"hash-{load}", **more)


def material(*frames, baselines=(), **more):
    df = together(*frames)
    return Material(report_rows(df, list(baselines)), df, **more)


def by_name(made):
    return {chart.name: chart for chart in charts(made)}


@pytest.fixture(scope="module")
def three_loads():
    frames = [
        at(load, name, [base * factor, base * factor * 1.2], **PARTS)
        for load, base in ((0.3, 0.01), (0.6, 0.02), (0.9, 0.05))
        for name, factor in (("good", 1.0), ("fair", 1.5), ("bad", 20.0))
    ]
    return material(*frames, baselines=["fair"])


def test_means_over_load_are_those_of_the_table(three_loads):
    chart = by_name(three_loads)["delay-by-load"]
    (panel,) = chart.panels
    good = next(line for line in panel.lines if line.name == "good")
    assert good.x.tolist() == [0.3, 0.6, 0.9]
    np.testing.assert_allclose(good.y, [11.0, 22.0, 55.0])  # ms, means of 1 and 1.2 times the base
    lo, hi = bounds(good)
    assert (lo < good.y).all()
    assert (hi > good.y).all()
    assert chart.y.log  # from 11 ms to 1.1 s
    assert "ms" in chart.y.label
    assert [line.style for line in panel.lines] == [0, 1, 2]


def test_one_load_has_no_chart_over_loads():
    assert "delay-by-load" not in by_name(material(at(0.3, "a", [1.0, 2.0]), at(0.3, "b", [1.0, 2.0])))


def test_points_of_overloaded_schedulers_are_hollow(three_loads):
    table = three_loads.table.assign(
        state=np.where((three_loads.table.scheduler == "bad") & (three_loads.table.load == 0.9), "overloaded", "stable")
    )
    chart = by_name(Material(table, three_loads.rows))["delay-by-load"]
    hollow = {line.name: line.hollow for line in chart.panels[0].lines}
    assert hollow == {"good": (False,) * 3, "fair": (False,) * 3, "bad": (False, False, True)}
    assert "Hollow" in chart.caption


def test_reductions_are_those_of_the_table_and_leave_out_the_baseline(three_loads):
    chart = by_name(three_loads)["reduction-fair"]
    assert [panel.title for panel in chart.panels] == ["load 0.3", "load 0.6", "load 0.9"]
    for panel in chart.panels:
        assert panel.rows == ("good", "bad")
        np.testing.assert_allclose(panel.dots[0].values, [100 * (1 - 1 / 1.5), 100 * (1 - 20 / 1.5)])
    assert chart.x.low > -1233  # bad is drawn at the edge
    assert "beyond the axis" in chart.caption


def test_the_shares_of_delay_add_up_and_are_weighted_by_tasks():
    first = at(0.5, "a", [1.0, 1.0], n_tasks=[30, 10], wait_s=[0.1, 0.5], transfer_s=0.2, compute_s=0.3, return_s=0.1)
    chart = by_name(material(first))["parts-of-delay"]
    (panel,) = chart.panels
    assert panel.parts == ("waiting", "transfer", "computing", "return")
    np.testing.assert_allclose(panel.values, [[0.2, 0.2, 0.3, 0.1]])  # s
    assert chart.x.label == "mean delay, s"


def test_long_bars_are_cut_and_the_caption_says_so(three_loads):
    frames = three_loads.rows.assign(wait_s=three_loads.rows.mean_delay_s, transfer_s=0.0, compute_s=0.0, return_s=0.0)
    chart = by_name(Material(three_loads.table, frames))["parts-of-delay"]
    assert chart.x.high < 1100
    assert "edge" in chart.caption


def test_tails_count_tasks_of_all_rows_and_end_where_few_are_left():
    df = together(at(0.5, "a", [1.0, 2.0]), at(0.5, "b", [1.0, 2.0]))
    rng = np.random.default_rng(0)
    samples = {row: rng.exponential(size=500) for row in df.index}
    parts = []
    for row, delay_s in samples.items():
        bins, counts = counts_of(delay_s)
        parts.append(pd.DataFrame({"row": row, "bin": bins, "count": counts}))
    chart = by_name(Material(report_rows(df, []), df, delays=pd.concat(parts, ignore_index=True)))["delay-tail"]
    (panel,) = chart.panels
    of_a = np.concatenate([samples[row] for row in df.index[df.scheduler == "a"]])
    line = next(line for line in panel.lines if line.name == "a")
    expected = [(bins_of(of_a) > b).mean() for b in bins_of(line.x * 0.9999)]  # x in s
    np.testing.assert_allclose(line.y, expected)
    assert line.y[-1] * 1000 >= 10
    assert (np.diff(line.y) < 0).all()


def test_servers_used_and_asked(three_loads):
    chart = by_name(three_loads)["servers-per-task"]
    used, asked = chart.panels[0].dots
    assert (used.name, asked.name) == ("used", "asked before")
    expected = three_loads.rows.mean_servers.iloc[0]
    np.testing.assert_allclose(used.values, [expected] * 3)


def test_numbers_of_the_heat_map_can_be_read_on_every_shade():
    assert all(contrast_of_text(1 + step / 50) > 4.4 for step in range(200))


def contrast_of_text(times_the_best):
    """Contrast ratio (WCAG 2) of the number in a cell."""
    light = np.array(matplotlib.colormaps["Blues"](LogNorm(1.0, DARKEST * 1.3)(times_the_best)))[:3]
    linear = np.where(light <= 0.03928, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    behind = 0.05 + linear @ [0.2126, 0.7152, 0.0722]
    return 1.05 / behind if times_the_best > WHITE_FROM else behind / 0.05


def test_at_a_glance_nobody_overloaded_is_framed():
    made = material(
        *(at(load, "fast", [0.5, 0.6], caused_load=1.2) for load in (0.3, 0.6)),
        *(at(load, "slow", [1.0, 1.1]) for load in (0.3, 0.6)),
    )
    (panel,) = by_name(made)["at-a-glance"].panels
    assert dict(zip(panel.rows, panel.best, strict=True)) == {"fast": (False, False), "slow": (True, True)}


def test_all_worlds_at_a_glance_are_relative_to_the_best_of_each(three_loads):
    (panel,) = by_name(three_loads)["at-a-glance"].panels
    assert panel.columns == ("0.3", "0.6", "0.9")
    assert panel.rows == ("good", "fair", "bad")
    np.testing.assert_allclose(panel.values, [[1.0] * 3, [1.5] * 3, [20.0] * 3])
    assert panel.texts[0] == ("11.0 ms", "22.0 ms", "55.0 ms")
    assert [row[0] for row in panel.best] == [True, False, False]


def timeline(scheduler, n_servers, load=0.6):
    frame = pd.DataFrame(
        [
            {"server": s, "begin_s": float(b), "end_s": b + 1.0, "busy": 0.1 * s, "queue": 1.0 + s + b}
            for s in range(n_servers)
            for b in range(4)
        ]
    )
    key = {"scenario": "edge5", "workload": "w", "rule": "clean", "scenario_hash": f"hash-{load}", "load": load}
    return frame.assign(scheduler=scheduler, folder="f", **key)


def test_servers_over_time_in_the_busiest_world_below_a_load_of_one(three_loads):
    lines = pd.concat([timeline("good", 3, load) for load in (0.3, 0.9, 1.2)])
    found = by_name(Material(three_loads.table, three_loads.rows, timelines=lines))
    (panel,) = found["queues"].panels
    assert "load 0.9" in found["queues"].caption
    assert [line.name for line in panel.lines] == ["server 0", "server 1", "server 2"]
    assert panel.lines[1].x.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert panel.lines[1].y.tolist() == [2.0, 3.0, 4.0, 5.0]
    assert found["utilisation"].panels[0].lines[2].y.tolist() == pytest.approx([0.2] * 4)


def test_many_servers_are_drawn_as_their_mean_in_a_band(three_loads):
    found = by_name(Material(three_loads.table, three_loads.rows, timelines=timeline("good", 9)))
    (line,) = found["queues"].panels[0].lines
    assert line.y.tolist() == [5.0, 6.0, 7.0, 8.0]
    assert (line.lo.tolist(), line.hi.tolist()) == ([1.0, 2.0, 3.0, 4.0], [9.0, 10.0, 11.0, 12.0])
    assert "9 servers" in line.name


def curves(scheduler="learner", n_seeds=3, clock=True):
    looks = [
        {"seed": s, "number": n, "tasks_seen": 100 * (n + 1), "metric": "validation_delay_s", "value": 2.0**s / (n + 1)}
        for s in range(n_seeds)
        for n in range(4)
    ]
    times = [look | {"metric": "elapsed_s", "value": 60.0 * look["number"]} for look in looks] if clock else []
    frame = pd.DataFrame([*looks, *times]).assign(update=1, scheduler=scheduler, trained_on="edge5 w 0.6")
    return frame.assign(created=0.0, folder="f", budget="b", training="t")


def test_learning_curves_are_geometric_means_with_seeds_as_thin_lines(three_loads):
    found = by_name(Material(three_loads.table, three_loads.rows, curves()))
    (panel,) = found["learning-by-tasks"].panels
    mean, *seeds = panel.lines
    assert mean.x.tolist() == [100, 200, 300, 400]
    np.testing.assert_allclose(mean.y, 2.0 / np.arange(1, 5))  # s; the seeds are 1, 2, 4 times 1 / n
    assert [seed.faint for seed in seeds] == [True] * 3
    half = 4.3027 * math.log(2) / math.sqrt(3)  # Student's t at 2 degrees of freedom
    np.testing.assert_allclose(mean.hi / mean.y, [math.exp(half)] * 4, rtol=1e-3)
    (timed,) = found["learning-by-time"].panels
    assert timed.lines[0].x.tolist() == [0.0, 1.0, 2.0, 3.0]  # minutes


def test_trainings_without_a_clock_are_drawn_over_tasks_alone(three_loads):
    found = by_name(Material(three_loads.table, three_loads.rows, curves(clock=False)))
    assert "learning-by-tasks" in found
    assert "learning-by-time" not in found


def test_curves_alone_have_a_chart():
    empty = pd.DataFrame()
    assert list(by_name(Material(empty, empty, curves()))) == ["learning-by-tasks", "learning-by-time"]


def test_of_too_many_schedulers_the_best_and_the_baseline_are_drawn_and_it_is_said():
    frames = [at(load, f"s{i:02}", [1.0 + i, 1.5 + i]) for load in (0.3, 0.6) for i in range(30)]
    made = material(*frames, baselines=["s29"])
    found = by_name(made)
    assert [line.name for line in found["delay-by-load"].panels[0].lines] == [*(f"s{i:02}" for i in range(6)), "s29"]
    assert f"{MAX_LINES} of 30 schedulers" in found["delay-by-load"].caption
    assert len(found["at-a-glance"].panels[0].rows) == MAX_ROWS
    assert f"{MAX_ROWS} of 30 schedulers" in found["at-a-glance"].caption


def test_the_data_of_every_chart_is_a_table(three_loads):
    for chart in charts(three_loads):
        frame = chart.frame()
        assert len(frame), chart.name
        assert {"panel", "series", "value"} <= {*frame.columns, "panel"}
    heat = by_name(three_loads)["at-a-glance"].frame()
    assert heat[(heat.row == "fair") & (heat.series == "0.6")].value.tolist() == pytest.approx([1.5])


def test_the_same_chart_is_the_same_picture(three_loads):
    for chart in charts(three_loads):
        first, second = (as_svg(chart, picture(chart)) for _ in range(2))
        assert first == second
        assert as_pdf(chart, picture(chart)) == as_pdf(chart, picture(chart))
        ET.fromstring(first)


HOSTILE = "<script>alert(1)</script>&\"' $x^2$ \\alpha _x"


def test_names_are_text_in_a_picture():
    made = material(*(at(load, name, [1.0, 2.0]) for load in (0.3, 0.6) for name in (HOSTILE, "_hidden")))
    for chart in charts(made):
        svg = as_svg(chart, picture(chart)).decode()
        tree = ET.fromstring(svg)
        assert not [node for node in tree.iter() if node.tag.endswith("script")]
        said = " ".join("".join(node.itertext()) for node in tree.iter() if node.tag.endswith("text"))
        assert "<script>alert(1)</script>" in said, chart.name
        assert "_hidden" in said, chart.name


def test_names_of_files_and_titles():
    assert slug("DRL/CoEdge (k=2)") == "drl-coedge-k-2"
    assert slug("../../etc") == "etc"
    assert slug("é", []) == "other"
    assert slug("a b", ["a-b", "a-b-2"]) == "a-b-3"
    assert short("x" * 50, 11) == "xxxx...xxxx"
    one = ScenarioKey("edge5", "poisson", "clean", "h", 0.6)
    assert list(short_titles([one]).values()) == ["load 0.6"]
    two = one._replace(scenario="cloud", scenario_hash="i")
    assert list(short_titles([one, two]).values()) == ["edge5 load 0.6", "cloud load 0.6"]
