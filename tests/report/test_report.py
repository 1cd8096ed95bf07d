"""Tables of a report: numbers by hand, baselines, notes, every form, the published study, the command's behaviour."""

import io
import json
import math
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.jobs import records, schemas
from ddrl_sched.provenance import provenance_of
from ddrl_sched.report.comparison import COLUMNS, captions, over_loads, report_rows
from ddrl_sched.report.comparison_tables import comparison_tables, over_loads_tables
from ddrl_sched.report.load import Loaded, print_notes
from ddrl_sched.report.published_study import PUBLISHED_COLUMNS, published_rows, published_tables
from ddrl_sched.report.robust import holm
from ddrl_sched.report.statistics import DelaySums, log_ratio
from ddrl_sched.report.table import Report
from ddrl_sched.report.tables import main
from ddrl_sched.report.tables import render as rendered
from ddrl_sched.report.terminal import Page, this_terminal, write_out
from ddrl_sched.run.histogram import counts_of
from tests.conf_files import plain
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame, job

HEADER = (
    "scenario,workload,rule,scenario_hash,load,realised_load,scheduler,info,n_seeds,n_traces,baseline,mean_delay_s,"
    "mean_delay_lo_s,mean_delay_hi_s,reduction_pct,reduction_lo_pct,reduction_hi_pct,p95_delay_s,p99_delay_s,late_rate,"
    "probes_per_task,decide_us,mean_servers,"
    "state,caused_load,queue_growth,n_tasks,p95_delay_lo_s,p95_delay_hi_s,p95_tasks_needed,p99_delay_lo_s,"
    "p99_delay_hi_s,p99_tasks_needed,iqm_delay_s,iqm_delay_lo_s,iqm_delay_hi_s,p_value,p_holm,detectable_pct,"
    "better_pct,better_lo_pct,better_hi_pct,best_p_holm,best_detectable_pct"
)


def rows(scheduler="eft", delay_s=(1.0, 2.0), n_seeds=1, baselines=(), learned=False, **columns):
    """Loaded.rows of one scheduler in one scenario; delay_s per trace, the same for every seed."""
    parts = [
        eval_frame(len(delay_s), scenario="edge5", rule="clean", scheduler=scheduler, info="running")
        .assign(seed=seed, mean_delay_s=list(delay_s), trace=range(len(delay_s)), cluster=range(len(delay_s)))
        .assign(**columns)
        for seed in range(n_seeds)
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(baselines=[tuple(baselines)] * len(frame), learned=learned)


def together(*frames):
    return pd.concat(frames, ignore_index=True)


def line(table, scheduler, baseline=None):
    found = table[(table.scheduler == scheduler) & (True if baseline is None else table.baseline == baseline)]
    assert len(found) == 1
    return found.iloc[0]


def render(table, form, about=None, published=None, width=None):
    """A form of rows of report_rows, and of published_rows."""
    means, published = over_loads(table), pd.DataFrame() if published is None else published
    tables = (
        *comparison_tables(table, about or {}, {}),
        *over_loads_tables(means, table),
        *published_tables(published),
    )
    frames = {"rows": table, "over_loads": means, "published": published}
    report = Report("results", tables, frames, Loaded(pd.DataFrame(), pd.DataFrame()))
    return rendered(report, form, Page(width))


def test_a_row_by_hand():
    table = report_rows(
        together(
            rows("eft", [1.0, 3.0], n_tasks=[30, 10], p95_delay_s=[2.0, 6.0], realised_load=[0.4, 0.6]),
            rows("sed", [2.0, 6.0], n_tasks=[30, 10], n_seeds=2),
        ),
        ["sed"],
    )
    eft = line(table, "eft", "sed")
    assert eft.mean_delay_s == pytest.approx(1.5)
    assert eft.p95_delay_s == pytest.approx(3.0)
    assert eft.realised_load == pytest.approx(0.5)
    assert (eft.n_seeds, eft.n_traces, eft["info"]) == (1, 2, "running")
    assert (eft.reduction_pct, eft.reduction_lo_pct, eft.reduction_hi_pct) == pytest.approx((50, 50, 50))
    assert eft.mean_delay_lo_s < 1.5 < eft.mean_delay_hi_s
    sed = line(table, "sed", "sed")
    assert (sed.n_seeds, sed.mean_delay_s) == (2, pytest.approx(3.0))
    assert (sed.reduction_pct, sed.reduction_lo_pct, sed.reduction_hi_pct) == (0, 0, 0)


def test_a_worse_scheduler_stays_in_the_table_and_the_best_comes_first():
    table = report_rows(together(rows("bad", [9.0, 9.9]), rows("good", [1.0, 1.1]), rows("base", [3.0, 3.3])), ["base"])
    assert table.scheduler.tolist() == ["good", "base", "bad"]
    assert line(table, "bad").reduction_pct == pytest.approx(-200)


def test_the_csv_form_has_exactly_these_columns():
    table = report_rows(rows(), [])
    text = render(table, "csv")
    assert text.splitlines()[0] == HEADER
    assert table.columns.tolist() == HEADER.split(",")


def test_other_schedulers_change_nothing():
    rng = np.random.default_rng(0)
    a, b, c = (rows(name, rng.random(6) + 1, n_seeds=3) for name in "abc")
    few = report_rows(together(a, b), ["b"])
    many = report_rows(together(c, a, b, rows("d", rng.random(6) + 1)), ["b"])
    many = many[many.scheduler.isin(["a", "b"])].reset_index(drop=True)
    adjusted = ["p_holm", "best_p_holm", "best_detectable_pct"]  # for the number of comparisons
    pd.testing.assert_frame_equal(few.drop(columns=adjusted), many.drop(columns=adjusted))


def test_no_reduction_crosses_two_scenarios():
    frame = together(
        rows("eft", [1.0, 2.0], scenario_hash="h1"), rows("sed", [2.0, 4.0], scenario_hash="h1"),
        rows("eft", [3.0, 3.0], scenario_hash="h2"),
    )  # fmt: skip
    notes = []
    table = report_rows(frame, ["sed"], notes)
    assert table[table.scenario_hash == "h1"].reduction_pct.notna().all()
    assert table[table.scenario_hash == "h2"].reduction_pct.isna().all()
    assert any(n.startswith("baseline sed was not run in: edge5") for n in notes)


def test_baselines_of_the_jobs_count_where_none_is_given():
    frame = together(
        rows("eft", baselines=["sed", "lost"], load=0.3, scenario_hash="h3"),
        rows("sed", [2.0, 4.0], load=0.3, scenario_hash="h3"),
        rows("eft", load=0.6, scenario_hash="h6"),
    )
    notes = []
    table = report_rows(frame, [], notes)
    assert table[table.load == 0.3].groupby("scheduler").baseline.apply(list).to_dict() == {
        "eft": ["sed", "lost"],
        "sed": ["sed", "lost"],
    }
    assert table[table.load == 0.6].baseline.tolist() == [""]
    assert table[table.baseline == "lost"].reduction_pct.isna().all()
    assert sum("baseline lost" in n for n in notes) == 1


def test_a_given_baseline_replaces_those_of_the_jobs():
    frame = together(rows("eft", baselines=["eft"]), rows("sed", [2.0, 4.0]))
    assert set(report_rows(frame, ["sed"]).baseline) == {"sed"}


def test_an_unknown_baseline_names_what_there_is():
    with pytest.raises(InputError, match=r"'drlcoedg'; did you mean 'drlcoedge'\?.*drlcoedge, eft"):
        report_rows(together(rows("eft"), rows("drlcoedge")), ["drlcoedg"])


def test_notes_say_what_the_numbers_do_not():
    one = rows("one", [1.0], scenario_hash="h1")
    few = rows("few", [1.0, 2.0, 3.0], learned=True, scenario_hash="h2")
    base = rows("base", [1.0, 2.0, 3.0, 4.0, 5.0], scenario_hash="h2")
    notes = []
    table = report_rows(together(one, few, base), ["base"], notes)
    assert math.isnan(line(table, "one").mean_delay_lo_s)
    text = "\n".join(notes)
    for words in (
        "all traces are of one cluster: one in",
        "rough intervals (only 3 clusters of traces): few in",
        "one training seed, whose luck is not in the interval: few in",
        "reduction over common traces only: few against base (3)",
    ):
        assert words in text
    assert "base in" not in text  # five traces, no training: nothing to say


def test_a_note_says_that_one_trace_cannot_tell_whether_queues_grow():
    for late, said in ((9.0, True), (0.5, False), (math.nan, False)):
        notes = []
        report_rows(rows("eft", [1.0], queue_early=1.0, queue_late=late), [], notes)
        assert any("queues grow, but one trace cannot tell (stable): eft in" in note for note in notes) == said
    notes = []
    report_rows(rows("eft", [1.0, 1.0], queue_early=1.0, queue_late=9.0), [], notes)
    assert not any("queues grow" in note for note in notes)  # said by the state


def test_long_lists_of_places_are_cut():
    frame = together(*(rows("one", [1.0], load=i / 10, scenario_hash=str(i)) for i in range(1, 8)))
    notes = []
    report_rows(frame, [], notes)
    assert len(notes) == 1
    assert notes[0].endswith("and 3 more")


def test_holm_counts_two_baselines_against_each_other_once():
    rng = np.random.default_rng(0)
    frame = together(*(rows(name, rng.random(8) + 1) for name in "abc"))
    table = report_rows(frame, ["a", "b"])
    p_values = {row.scheduler + row.baseline: row.p_value for row in table.itertuples()}
    assert math.isnan(p_values["aa"])
    assert p_values["ab"] == pytest.approx(p_values["ba"])
    adjusted = holm([p_values[pair] for pair in ("ab", "ca", "cb")])
    assert table.set_index(["scheduler", "baseline"]).p_holm["c", "a"] == pytest.approx(adjusted[1])


def test_overloaded_rows_stand_last_and_are_no_rivals():
    frame = together(
        rows("fast", [0.1, 0.11, 0.1], caused_load=1.2), rows("slow", [1.0, 1.1, 1.2]), rows("mid", [0.9, 0.8, 0.7])
    )
    table = report_rows(frame, ["slow"])
    assert table.scheduler.tolist() == ["mid", "slow", "fast"]
    assert table.state.tolist() == ["stable", "stable", "overloaded"]
    assert table.best_p_holm.isna().tolist() == [True, False, True]
    (drawn, *_) = comparison_tables(table, {}, {})
    assert [(row.apart, row.cells[3].best) for row in drawn.rows] == [(False, True), (False, False), (True, False)]
    for form in ("table", "markdown", "latex"):
        text = render(table, form)
        assert text.index("slow") < text.index("Overloaded: ") < text.index("fast")
    assert r"\textbf{800 {[}" in render(table, "latex")
    assert "**800 [" in render(table, "markdown")


def test_the_unit_is_that_of_schedulers_that_keep_up():
    slow = (rows(name, [30.0, 31.0, 30.0], caused_load=1.2) for name in ("x", "y", "z"))
    table = report_rows(together(rows("fast", [0.1, 0.11, 0.1]), *slow), [])
    assert "mean delay, ms" in render(table, "markdown")
    assert "mean delay, s" in render(table[table.scheduler != "fast"], "markdown")


def test_a_sentence_says_whether_the_ranking_is_decisive():
    noise = 1 + 0.05 * np.random.default_rng(1).standard_normal((4, 9))
    means = dict(zip("abcd", (1, 1.002, 1.5, 2), strict=True))
    frame = together(*(rows(name, mean * noise[i]) for i, (name, mean) in enumerate(means.items())))
    text = render(report_rows(frame, []), "table")
    words = r"Not decisive: (\w) cannot be told from (\w) \(5 %, Holm\)\. Minimum detectable .* these: (.*) % \(80"
    said = re.search(words, text)
    assert {said[1], said[2]} == {"a", "b"}
    assert 1 < float(said[3]) < 10
    text = render(report_rows(frame[frame.scheduler != "b"], ["c"]), "table")
    assert "Decisive: a is ahead (5 %, Holm). Minimum detectable reduction against c: " in text
    assert "]*" in text
    assert "* differs from the baseline" in text
    assert "cannot be told" in render(report_rows(together(rows("a", [1.0]), rows("b", [2.0])), []), "table")


def test_the_detectable_reduction_is_found_in_four_of_five_repetitions():
    """Two schedulers that differ by just that much; the significance is that of the interval."""
    rng, found, promised = np.random.default_rng(5), [], []
    for world in range(250):
        hard, own = np.exp(rng.normal(0, 0.3, 16)), np.exp(rng.normal(0, 0.1, (2, 16)))
        parts = (
            DelaySums(str(world), name, name, (hard * own[i] * scale)[None], np.ones((1, 16)), *[np.arange(16)] * 2, 1)
            for i, (name, scale) in enumerate((("a", 1 - 0.0975), ("b", 1.0)))
        )
        ratio = log_ratio(*parts)
        reduction = ratio.reduction_pct()
        assert (ratio.p_value() < 0.05) == (reduction.lo > 0 or reduction.hi < 0)
        found.append(ratio.p_value() < 0.05)
        promised.append(ratio.detectable_pct())
    assert np.mean(promised) == pytest.approx(9.75, rel=0.1)
    assert 0.7 < np.mean(found) < 0.9


def test_percentiles_are_those_of_pooled_tasks_where_there_are_histograms():
    frame = together(rows("eft", [1.0, 3.0]), rows("sed", [2.0, 2.0]))
    samples = [np.random.default_rng(n).exponential(1 + n, 3000) for n in range(4)]
    parts = [counts_of(sample) for sample in samples]
    delays = pd.concat([pd.DataFrame({"row": n, "bin": b, "count": c}) for n, (b, c) in enumerate(parts)])
    table = report_rows(frame.assign(n_tasks=3000), ["sed"], None, delays)
    eft = line(table, "eft")
    assert eft.p99_delay_s == pytest.approx(np.quantile(np.concatenate(samples[:2]), 0.99), rel=0.006)
    assert eft.p99_delay_lo_s < eft.p99_delay_s < eft.p99_delay_hi_s
    assert eft.n_tasks == 6000 < eft.p99_tasks_needed
    text = render(table, "markdown")
    assert re.search(r"\\~[\d.]+ \|", text)
    assert "fewer tasks" in text


# Forms


def example():
    frame = together(
        rows("best_k(k=2,announce=[1])", np.linspace(0.1, 0.2, 8), n_seeds=3, baselines=["a_b", "c|d"]),
        rows("a_b", np.linspace(0.12, 0.21, 8)), rows("c|d", np.linspace(0.1, 0.3, 8), decide_us=math.nan),
    )  # fmt: skip
    return frame, report_rows(frame, [])


def test_csv_comes_back():
    _, table = example()
    back = pd.read_csv(io.StringIO(render(table, "csv")))
    pd.testing.assert_frame_equal(back, table[COLUMNS], check_dtype=False)


def test_json_comes_back():
    _, table = example()
    plain = json.loads(render(table, "json"), parse_constant=pytest.fail)
    assert [tuple(row) for row in plain["rows"]] == [tuple(HEADER.split(","))] * len(table)
    assert plain["rows"][0]["mean_delay_s"] == table.mean_delay_s[0]
    assert plain["rows"][-1]["decide_us"] is None
    assert plain["published"] == []


def test_markdown_is_a_table():
    frame, table = example()
    text = render(table, "markdown", captions(frame))
    lines = [part for part in text.splitlines() if part.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", part)[1:-1] for part in lines]
    assert len(lines) == 2 + 3
    assert {len(row) for row in cells} == {13}
    assert cells[0][7].strip() == "servers"
    assert set("".join(cells[1])) <= set(" -:")
    assert any("c\\|d" in cell for row in cells for cell in row)
    assert cells[2][0].strip().startswith("best")


def test_reductions_are_averaged_over_the_loads_at_which_a_scheduler_was_run():
    at = {"a": 0.2, "b": 0.6}
    base, good = ((1.0, 1.1), (2.0, 2.2)), ((0.5, 0.55), (1.8, 1.98))
    frames = [rows("base", d, scenario_hash=h, load=at[h]) for h, d in zip(at, base, strict=True)]
    frames += [rows("good", d, scenario_hash=h, load=at[h]) for h, d in zip(at, good, strict=True)]
    frames += [rows("half", [1.0, 1.1], scenario_hash="a", load=0.2)]
    table = report_rows(together(*frames), ["base"])
    (first, second) = json.loads(render(table, "json"))["over_loads"]
    assert (first["scheduler"], first["loads"], second["scheduler"]) == ("good", "0.2, 0.6", "base")
    assert [first[name] for name in ("reduction_pct", "reduction_lo_pct", "reduction_hi_pct")] == pytest.approx(
        [30.0] * 3
    )
    text = render(table, "markdown")
    means = text.partition("means over the loads 0.2, 0.6")[2]
    assert re.search(r"\| good \| 30.0 \[30.0, 30.0\] \|", means)
    assert re.search(r"\| base \| 0.0 \[0.0, 0.0\] \|", means)
    assert "half" not in means
    also_half = render(report_rows(together(*frames), ["base", "half"]), "markdown").partition("means over the loads")[
        2
    ]
    assert re.search(r"\| good \| 30.0 \[30.0, 30.0\] \| - \|", also_half)
    assert "means over" not in render(report_rows(together(frames[0], frames[2]), ["base"]), "markdown")


def test_only_loads_at_which_all_compared_are_stable_count():
    frames = [
        rows(name, [delay, 1.1 * delay], scenario_hash=str(load), load=load, caused_load=caused)
        for load in (0.2, 0.6, 0.9)
        for name, delay, caused in (
            ("base", 1.0, load), ("good", 0.5, load + (0.2 if load == 0.9 else 0)), ("bad", 2.0, load + 1),
        )
    ]  # fmt: skip
    notes = []
    means = over_loads(report_rows(together(*frames), ["base"]), notes)
    assert set(means.loads) == {"0.2, 0.6"}
    assert means.scheduler.tolist() == ["good", "base"]
    assert notes == [
        "means over loads (edge5, x, clean) are without load 0.9, where not stable: good; "
        "without bad: stable at no load"
    ]


def test_no_note_tells_of_means_over_loads_that_are_not_there():
    frames = [rows("eft", [1.0, 1.1], scenario_hash=str(x), load=x, caused_load=x) for x in (0.5, 1.0)]
    other = [rows("local", [2.0, 2.1], scenario_hash=str(x), load=x, caused_load=0.4) for x in (0.5, 1.0)]
    here = rows("base", [1.0, 1.2], scenario_hash="elsewhere", scenario="elsewhere", load=0.5)
    notes = []
    assert over_loads(report_rows(together(*frames, *other, here), ["base"]), notes).empty
    assert notes == []


def test_the_best_is_bold_only_where_the_page_can_show_it():
    frame = together(rows("a", [0.1, 0.11]), rows("b", [0.3, 0.5]))
    tables = tuple(comparison_tables(report_rows(frame, []), {}, {}))
    report = Report("results", tables, {}, Loaded(pd.DataFrame(), pd.DataFrame()))
    assert "\x1b[1m105 [" in rendered(report, "table", Page(80, bold=True))
    assert "\x1b" not in rendered(report, "table", Page(80))


def test_details_stand_only_where_there_is_room():
    _, table = example()
    tables = tuple(comparison_tables(table, {}, {}))
    assert [one.name for one in tables] == ["comparison", "details", "pairs"]
    report = Report("results", tables, {}, Loaded(pd.DataFrame(), pd.DataFrame()))
    assert "probability of improvement" in rendered(report, "table", Page(detail=True))
    for form in ("table", "markdown", "latex"):
        assert "probability of improvement" not in rendered(report, form)


def test_latex_is_a_booktabs_table():
    _, table = example()
    text = render(table, "latex")
    for word in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}", r"\end{table}", r"a\_b", r"\%"):
        assert word in text
    align = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert [row.count("&") - row.count(r"\&") for row in body.splitlines() if row.endswith(r"\\")] == [
        len(align) - 1
    ] * 4
    assert body.count("{") == body.count("}")


def test_text_fits_the_page_and_shows_the_unit():
    names = [f"equal_finish_announced_{i}" for i in range(5)]
    frame = together(*(rows(n, np.linspace(0.1, 0.2, 8) * (1 + i), baselines=names) for i, n in enumerate(names)))
    text = render(report_rows(frame, []), "table", captions(frame), width=120)
    assert max(map(len, text.splitlines())) <= 120
    assert all(text.count(name) >= 3 for name in names)  # a line in each part, and a column of its own
    assert "150 [" in text  # ms
    assert "mean delay, ms" in " ".join(text.split())
    slow = render(report_rows(rows("eft", [3000.0, 3500.0]), []), "table")
    assert "3,250 [" in slow
    assert "ms" not in slow


def test_a_name_as_long_as_a_page_is_cut_and_marked():
    text = render(report_rows(together(rows("x" * 200), rows("x" * 199)), []), "table", width=120)
    assert max(map(len, text.splitlines())) <= 120
    names = [line.split()[0] for line in text.partition("ecisive")[0].splitlines() if line.startswith("x")]
    assert len(set(names)) == 2
    assert all("..." in name for name in names)
    assert "x" * 200 in render(report_rows(rows("x" * 200), []), "table")


MANY = [f"sched_{i}" for i in range(17)] + [
    "searched/ddrl_amsa_images",
    "best_k(k=2,announce_s=1,something_else=12345)",
]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_twenty_schedulers_and_two_baselines_are_never_broken_inside_a_word(width):
    names = ["eft", *MANY]
    frame = together(
        *(rows(n, np.linspace(0.1, 0.2, 8) * (1 + i) ** 2, baselines=["eft", MANY[-2]]) for i, n in enumerate(names))
    )
    varied = ["p95_delay_s", "p99_delay_s", "late_rate", "mean_servers", "probes_per_task", "decide_us"]
    frame = frame.assign(**dict.fromkeys(varied, frame.mean_delay_s / 1000))
    table = report_rows(frame, [])
    wide, text = (render(table, "table", captions(frame), width=w) for w in (None, width))
    assert max(map(len, text.splitlines())) <= width
    known = set(re.split(r"\s+|(?<=[,(])", wide))
    tables = re.split("The same in every row|not shown", text)[0]
    assert {word for word in re.split(r"\s+|(?<=[,(])", tables) if not set(word) <= {"-"}} <= known
    assert tables.count("[95%]") >= 3
    left_out = text.partition("not shown at this width: ")[2]
    shown = {name for name in ("late", "p95", "p99", "probes", "servers", "decide") if name in " ".join(tables.split())}
    assert all(name in left_out for name in {"p99", "probes", "servers", "decide"} - shown)
    assert "--wide" in left_out
    assert "not shown" not in wide


def test_what_says_nothing_is_named_and_not_shown():
    frame = together(rows("a", [0.1, 0.2]), rows("b", [0.3, 0.5], late_rate=0.25))
    table = report_rows(frame, ["b"])
    narrow, wide = (render(table, "table", width=width) for width in (120, None))
    said = " ".join(narrow.partition("The same in every row: ")[2].split())
    assert said.startswith("info running; state stable; p95, ms 500; p99, ms 500; servers 0.500;")
    assert "late" in narrow.partition("The same")[0]
    assert "probes" not in narrow.partition("The same")[0]
    assert "The same" not in wide
    assert "The same" not in render(report_rows(rows(), []), "table", width=120)  # one row says something


def test_the_most_important_columns_stay():
    frame = together(rows("eft", np.linspace(0.1, 0.2, 8), baselines=["eft"]))
    text = render(report_rows(frame, []), "table", captions(frame), width=74)
    assert "late" in text.partition("not shown")[0]
    assert re.search(r"not shown at this width: .*decide, us\. --wide shows all", " ".join(text.split()))


def test_the_width_is_that_of_the_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "77")
    assert (this_terminal().width, this_terminal(wide=True).width) == (77, None)
    for wrong in ("", "0", "-3", "x", "9" * 5000):
        monkeypatch.setenv("COLUMNS", wrong)
        assert this_terminal().width is None  # standard output is no terminal here


def test_notes_are_as_wide_as_the_terminal_and_never_broken_inside_a_word(monkeypatch, capsys):
    path = "runs/" + "x" * 60 + "/a,b(k=[1,2]) :smile: [bold]"
    found = Loaded(pd.DataFrame(), pd.DataFrame(), skipped=[(path, "no job.json there")], notes=["a word " * 30 + "é"])
    wanted = [f"skipped: {path}: no job.json there", f"note: {'a word ' * 30}é"]
    print_notes(found)
    assert capsys.readouterr().err.splitlines() == wanted
    for width in (100, 40):
        monkeypatch.setenv("COLUMNS", str(width))
        print_notes(found)
        lines = capsys.readouterr().err.splitlines()
        assert " ".join(lines).split() == " ".join(wanted).split()
        assert all(len(line) <= width or line == path.split()[0] for line in lines)
        assert len(lines) > len(wanted)


def test_a_stream_of_ascii_gets_ascii(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    write_out(render(report_rows(rows("é"), []), "table"))
    stream.flush()
    assert b"\\xe9" in stream.buffer.getvalue()


def test_rules_are_of_ascii():
    assert render(report_rows(rows(), []), "table", width=80).isascii()


def test_names_cannot_leave_their_cell():
    evil = "[bold]x[/bold]</td><script>|`[a](http://b)\\end{table}$&%~^"
    table = report_rows(rows(evil, scenario=evil), [])
    markdown, latex = render(table, "markdown"), render(table, "latex")
    assert "<script>" not in markdown
    assert "](" not in markdown
    assert {len(re.split(r"(?<!\\)\|", x)) for x in markdown.splitlines() if x.startswith("|")} == {13}
    assert latex.count(r"\end{table}") == 1
    assert "[bold]x[/bold]" in render(table, "table")
    assert pd.read_csv(io.StringIO(render(table, "csv"))).scheduler[0] == evil


def test_real_arrivals_are_named_with_their_factor():
    assert "real arrival" not in captions(rows())["x"]
    text = captions(rows(workload="azure_conv", time_scale=3.25))["x"]
    assert "workload azure_conv" in text
    assert "real arrival pattern of language-model requests, time-scaled by a factor 3.25" in text
    frame = rows(time_scale=[2.0, 4.0])
    assert "factor 2 - 4" in render(report_rows(frame, []), "latex", captions(frame))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (12.345, "12.3"), (999.6, "1,000"), (34000, "34,000"), (0, "0"), (math.nan, "-")],
)
def test_numbers_have_three_digits(value, text):
    frame = report_rows(rows("eft", [1.0]), []).assign(probes_per_task=value)
    assert f" {text} " in render(frame, "markdown")


@pytest.mark.parametrize(("value", "text"), [(12.34, "12.3"), (-0.04, "0.0"), (-18477.2, "-18,477")])
def test_percentages_have_one_decimal(value, text):
    frame = report_rows(rows("eft", [1.0]), ["eft"]).assign(reduction_pct=value, reduction_lo_pct=math.nan)
    assert render(frame, "markdown").splitlines()[-1].endswith(f"| {text} |")


def test_a_baseline_that_was_run_nowhere_has_no_column():
    frame = report_rows(rows("eft", [1.0]), ["eft"])
    assert "reduction vs eft" in render(frame, "markdown")
    assert "reduction vs" not in render(frame.assign(reduction_pct=math.nan), "markdown")


# The published study


def published(own_s, common_s, **names):
    """Five draws, seed i on draw i; every scheduler under its own rule and the common one."""
    hard = np.array([0.9, 0.95, 1.0, 1.05, 1.1])
    frames = []
    for name, rule in {"drlcoedge": "drlcoedge", "amcoedge": "amcoedge", "ddrl_amsa": "amcoedge", **names}.items():
        for at, delay in {rule: own_s, "amcoedge": common_s}.items():
            frame = rows(name, delay[name] * hard, scenario="published_multi", rule=at, scenario_hash=f"h_{at}")
            said = provenance(name)
            gains = [said.published_gain_pct] * 5
            frame = frame.assign(seed=range(5), published_as=said.published_as, published_gain_pct=gains)
            frames.append(frame.assign(published_delay_s=said.published_delay_s or math.nan))
    return together(*frames)


def provenance(name):
    """What the yaml of a scheduler says was published of it."""
    return provenance_of(plain("scheduler", name))


def test_published_table_by_hand():
    own = {"drlcoedge": 0.25, "amcoedge": 0.2, "ddrl_amsa": 0.18}
    common = {"drlcoedge": 0.21, "amcoedge": 0.2, "ddrl_amsa": 0.18}
    table = published_rows(published(own, common))
    assert table.columns.tolist() == PUBLISHED_COLUMNS
    row = table[(table.reference == "amcoedge") & (table.scheduler == "drlcoedge")].iloc[0]
    assert (row.published_s, row.own_rule, row.common_rule) == (0.2611, "drlcoedge", "amcoedge")
    assert (row.own_mean_s, row.common_mean_s) == pytest.approx((0.25, 0.21))
    assert row.reduction_pct == pytest.approx(100 * (1 - 0.2 / 0.21))
    assert row.reduction_lo_pct == pytest.approx(row.reduction_hi_pct)  # paired: every draw says the same
    assert row.unpaired_own_rules_pct == pytest.approx(20)
    assert row.unpaired_lo_pct < 15 < 25 < row.unpaired_hi_pct  # unpaired: the draws differ by chance
    assert row.published_reduction_pct == pytest.approx(100 * (1 - 0.2116 / 0.2611))
    itself = table[(table.reference == "amcoedge") & (table.scheduler == "amcoedge")].iloc[0]
    assert (itself.reduction_pct, itself.unpaired_own_rules_pct, itself.unpaired_hi_pct) == (0, 0, 0)
    claim = table[(table.reference == "ddrl_amsa") & (table.scheduler == "drlcoedge")].iloc[0]
    assert (claim.published_reduction_pct, claim.unpaired_own_rules_pct) == (18.22, pytest.approx(28))


def test_published_table_stands_in_every_form_but_csv():
    own = {"drlcoedge": 0.25, "amcoedge": 0.2, "ddrl_amsa": 0.18}
    frame = published(own, own)
    table, special = report_rows(frame, []), published_rows(frame)
    assert len(json.loads(render(table, "json", None, special))["published"]) == 6
    for form in ("table", "markdown", "latex"):
        text = render(table, form, None, special)
        assert "0.2611" in text
        assert "amcoedge as published" in text.replace("\\_", "_")
    assert render(table, "csv", None, special) == render(table, "csv")
    lines = render(table, "table", None, special, width=120).splitlines()
    assert max(map(len, lines)) <= 120


def test_no_published_table_without_several_rules():
    assert published_rows(rows()).empty
    assert published_rows(rows(rule="amcoedge")).empty
    assert published_rows(together(rows(scenario_hash="a"), rows(rule="amcoedge"))).empty


def test_a_scheduler_under_the_common_rule_alone_has_it_as_its_own():
    frame = published(
        {"drlcoedge": 0.25, "amcoedge": 0.2, "ddrl_amsa": 0.2}, {"drlcoedge": 0.21, "amcoedge": 0.2, "ddrl_amsa": 0.2}
    )
    table = published_rows(frame)
    amsa = table[(table.reference == "amcoedge") & (table.scheduler == "ddrl_amsa")].iloc[0]
    assert amsa.own_rule == "amcoedge"
    assert math.isnan(amsa.published_s)
    lone = published_rows(frame[~((frame.scheduler == "drlcoedge") & (frame.rule == "amcoedge"))])
    drl = lone[(lone.reference == "amcoedge") & (lone.scheduler == "drlcoedge")].iloc[0]
    assert math.isnan(drl.reduction_pct)
    assert drl.unpaired_own_rules_pct == pytest.approx(20)


# The command


@pytest.fixture
def runs(tmp_path):
    for name, delay in (("eft", 1.0), ("sed", 2.0)):
        frame = rows(name, delay * np.array([1.0, 1.2, 0.9, 1.1, 1.0])).drop(columns=["baselines", "learned"])
        write_run(tmp_path / "runs" / "toy" / name, rows=frame, scheduler=name, baselines=["sed"])
    return tmp_path / "runs"


def test_data_go_to_stdout_and_remarks_to_stderr(runs, capsys):
    records.write_job(runs / "toy" / "x\x1b[2J", job(status="failed", error="boom"))
    assert main([runs], [], "csv", None) == 0
    out, err = capsys.readouterr()
    back = pd.read_csv(io.StringIO(out))
    assert back.reduction_pct.tolist() == pytest.approx([50, 0])
    assert err.splitlines() == [f"skipped: {runs}/toy/x?[2J: the job failed: boom"]


def test_strict_tells_by_its_exit_code(runs):
    assert main([runs], [], "table", None, strict=True) == 0
    (runs / "toy" / "sed" / "manifest.json").unlink()
    assert main([runs], ["eft"], "table", None) == 0
    assert main([runs], ["eft"], "table", None, strict=True) == 3


@pytest.mark.parametrize(("form", "ending"), [("markdown", "md"), ("csv", "csv"), ("latex", "tex"), ("json", "json")])
def test_out_holds_every_form_and_what_is_printed(runs, tmp_path, capsys, form, ending):
    assert main([runs], [], form, tmp_path / "out" / "new") == 0
    files = {p.name: p.read_text() for p in (tmp_path / "out" / "new").iterdir()}
    assert set(files) == {"report.csv", "report.md", "report.tex", "report.json"}
    assert files[f"report.{ending}"] == capsys.readouterr().out
    assert files["report.csv"].startswith(HEADER)
    assert len(json.loads(files["report.json"])["rows"]) == 2


def test_out_holds_the_published_table_too(tmp_path):
    delay = {"drlcoedge": 0.25, "amcoedge": 0.2, "ddrl_amsa": 0.18}
    for (name, rule), frame in published(delay, delay).groupby(["scheduler", "rule"]):
        columns = frame[schemas.EVAL_SCHEMA.names]
        settings = {"scheduler": provenance(name).model_dump()}
        folder = tmp_path / "runs" / f"{name}_{rule}"
        write_run(folder, rows=columns, scheduler=name, code_version="c", settings=settings)
    assert main([tmp_path / "runs"], [], "table", tmp_path / "out") == 0
    back = pd.read_csv(tmp_path / "out" / "published.csv")
    assert back.columns.tolist() == PUBLISHED_COLUMNS
    assert len(back) == 6


def test_out_that_cannot_be_written_is_named(runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(records.RecordsError, match=r"cannot write .*/file/report"):
        main([runs], [], "csv", tmp_path / "file")


def test_nothing_to_read_is_an_input_error_and_says_why(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no finished evaluation at or below .*empty"):
        main([tmp_path / "empty"], [], "table", None)
    records.write_job(tmp_path / "a", job(status="running"))
    with pytest.raises(InputError):
        main([tmp_path], [], "table", None)
    assert "still running" in capsys.readouterr().err


def test_an_unknown_form_or_baseline_is_an_input_error(runs):
    with pytest.raises(InputError, match="did you mean 'markdown'"):
        main([runs], [], "markdwn", None)
    with pytest.raises(InputError, match="--baseline: no results of scheduler 'eff'"):
        main([runs], ["eff"], "table", None)


def test_the_same_runs_give_the_same_bytes(runs, capsys):
    main([runs], [], "json", None)
    first = capsys.readouterr().out
    main([str(runs / "toy")], [], "json", None)
    assert capsys.readouterr().out == first


def test_a_report_never_loads_torch_or_the_world():
    code = (
        "import sys, ddrl_sched.report.tables; print([m for m in sys.modules "
        "if m.split('.')[0] in ('torch', 'numba', 'scipy', 'hydra', 'matplotlib')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
