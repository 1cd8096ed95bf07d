"""The page of a report: its words by hand, nothing from outside, nothing of a stranger obeyed."""

import base64
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import ddrl_sched as ddrl
from ddrl_sched.config import InputError
from ddrl_sched.jobs import records, schemas
from ddrl_sched.report.about_runs import commands, trained_folders
from ddrl_sched.report.html_words import verdict_section
from ddrl_sched.report.tables import main
from ddrl_sched.report.verdict import verdicts
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame, job
from tests.paths import REPOSITORY
from tests.report.test_capacity import rows as capacity_rows
from tests.report.test_figures import at, material

VOID = {"meta", "img", "br", "hr", "link", "input"}
EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)>&'


class Page(HTMLParser):
    """Elements with their attributes; every element that is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def runs(folder, names=("eft", "local", "priced"), loads=(0.3, 0.6, 0.9), **changes):
    """Run folders of schedulers, the earlier the better, each at every load."""
    rng = np.random.default_rng(1)
    for load in loads:
        hard = 1 + rng.random(4)
        for place, name in enumerate(names):
            frame = eval_frame(
                4, scheduler=name, load=load, scenario_hash=f"h{load}", scenario="edge5", workload="poisson",
                rule="clean", info="probed", n_tasks=1000, wait_s=0.005, transfer_s=0.001, compute_s=0.004,
            )  # fmt: skip
            frame = frame.assign(mean_delay_s=hard * (1 + place) * load / 50, cluster=range(4))
            where = folder / f"{place}-{load}"
            words = [f"scheduler={name}", f"workload.load={load}", "env=edge5", "runs_dir=/tmp/x"]
            write_run(where, rows=frame, overrides=words, **{"baselines": ["local"], "cpu_s": 2.0, **changes})
    return folder


def page_of(folder, out, *more):
    assert main([folder], [*more], "html", out) == 0
    return (out / "index.html").read_text()


def test_a_page_holds_verdicts_tables_figures_and_what_repeats_them(tmp_path, capsys):
    text = page_of(runs(tmp_path / "runs"), tmp_path / "out")
    page = Page(text)
    said = " ".join(page.text)
    assert re.search(r"Take\s+eft", said)
    assert "ddrl sweep scheduler=eft,local,priced env=edge5 workload.load=0.6" in said
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["href"] for a in page.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert {"verdict", "results", "figures", "runs"} <= set(ids)
    beside = [link for link in links if not link.startswith("#")]
    assert {"delay-by-load.svg", "delay-by-load.pdf", "delay-by-load.csv", "reduction-local.csv"} <= set(beside)
    assert all((tmp_path / "out" / link).stat().st_size for link in beside)
    assert (tmp_path / "out" / "report.csv").is_file()
    assert f"{tmp_path}/out/index.html" in capsys.readouterr().out


def test_a_page_explains_the_words_of_its_tables(tmp_path):
    text = page_of(runs(tmp_path / "runs", loads=(0.3,)), tmp_path / "out")
    assert '<a href="#words">Words</a>' in text
    for word in ("info", "probed", "clairvoyant", "rule clean", "realised", "overloaded", "decide", "optimal"):
        assert f"<dt><code>{word}</code></dt>" in text


def test_nothing_comes_from_outside_and_nothing_runs(tmp_path):
    text = page_of(runs(tmp_path / "runs"), tmp_path / "out")
    page = Page(text)
    assert not page.all("script")
    assert not page.all("link")
    assert not re.findall(r"https?://|@import|url\(", text)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    pictures = page.all("img")
    assert len(pictures) >= 5
    for picture in pictures:
        kind, _, data = picture["src"].partition("base64,")
        assert kind == "data:image/svg+xml;"
        svg = base64.b64decode(data).decode()
        tree = ET.fromstring(svg)
        names = {value for node in tree.iter() for key, value in node.attrib.items() if key.endswith("href")}
        assert all(name.startswith("#") for name in names)
        assert picture["alt"]


def test_a_stranger_cannot_write_html(tmp_path):
    folder = runs(tmp_path / "runs", names=(EVIL, "local"), baselines=["local", EVIL], code_version=EVIL)
    frame = eval_frame(4, scheduler="odd", scenario=EVIL, workload=EVIL, rule=EVIL, info=EVIL, scenario_hash="evil")
    settings = {"load": 0.5, "env": {EVIL: EVIL}}
    write_run(folder / "evil", rows=frame, settings=settings, overrides=[EVIL], packages={EVIL: EVIL}, experiment=EVIL)
    (folder / EVIL.replace("/", "_")).mkdir()
    (folder / EVIL.replace("/", "_") / "job.json").write_text("{")
    text = page_of(folder, tmp_path / "out")
    page = Page(text)
    assert not page.all("script")
    assert all(set(attributes) <= {"class", "alt", "src"} for attributes in page.all("img"))
    assert not [1 for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "<script" not in text
    assert "alert(1)" in " ".join(page.text)


def test_the_same_runs_make_the_same_files(tmp_path):
    folder = runs(tmp_path / "runs", loads=(0.3, 0.6))
    for name in ("a", "b"):
        page_of(folder, tmp_path / name)
    first, second = ({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("a", "b"))
    assert first == second


def test_neither_torch_nor_numba_is_loaded_and_matplotlib_only_for_a_page(tmp_path):
    folder = runs(tmp_path / "runs", loads=(0.3,))
    code = """if True:
        import sys
        from ddrl_sched.report.tables import main
        main([sys.argv[1]], [], sys.argv[2], sys.argv[3])
        print(sorted({"torch", "numba", "matplotlib"} & set(sys.modules)), file=sys.stderr)"""
    found = {}
    for form in ("html", "csv"):
        words = [sys.executable, "-c", code, str(folder), form, str(tmp_path / form)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, check=True)
        found[form] = done.stderr.splitlines()[-1]
    assert found == {"html": "['matplotlib']", "csv": "[]"}


def test_a_page_needs_a_folder(tmp_path):
    with pytest.raises(InputError, match="--out"):
        main([runs(tmp_path / "runs", loads=(0.3,))], [], "html", None)


def test_a_figure_from_python(tmp_path):
    folder = runs(tmp_path / "runs", loads=(0.3, 0.6))
    figure = ddrl.figure(folder, "delay-by-load")
    assert type(figure).__name__ == "Figure"
    assert ddrl.figure(folder, "reduction-eft", baselines=["eft"]).axes
    with pytest.raises(InputError, match=r"'delay-by-laod'.*delay-by-load.*at-a-glance"):
        ddrl.figure(folder, "delay-by-laod")


def found_of(*frames, baselines=()):
    return list(verdicts(material(*frames, baselines=baselines)))


def words(found):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", verdict_section(found)))


def test_a_clear_winner_is_certain():
    (one,) = found_of(
        at(0.6, "good", [1.0, 1.1, 1.2], info="probed"), at(0.6, "bad", [2.1, 2.2, 2.3], info="static"),
        baselines=["bad"],
    )  # fmt: skip
    assert (one.best, one.info, one.decisive, one.alike) == ("good", "probed", True, [])
    assert one.delay_s.value == pytest.approx(1.1)
    assert one.rivals[0].less_pct.value == pytest.approx(50)
    text = words([one])
    assert "Take good." in text
    assert "good: 1.10 s [" in text
    assert "Significant: less delay than its only rival" in text
    assert "Stars in the tables correct for all pairs of a table, which is stricter" in text
    assert re.search(r"50\.0 % \[\d+\.\d, \d+\.\d\] less delay than bad\.", text)


def test_what_may_be_luck_is_not_distinguishable():
    (one,) = found_of(at(0.6, "a", [1.0, 2.0, 3.0], info="own"), at(0.6, "b", [1.1, 1.8, 3.2], info="own"))
    assert one.best == "a"
    assert one.alike == ["b"]
    assert not one.decisive
    assert "Not distinguishable: b." in words([one])
    assert "another that cannot be told from it" in words([one])


def test_what_no_real_system_knows_is_not_recommended():
    (one,) = found_of(
        at(0.6, "exact", [0.5, 0.6, 0.7], info="running"), at(0.6, "real", [1.0, 1.1, 1.2], info="probed"),
        baselines=["exact"],
    )  # fmt: skip
    assert one.best == "real"
    assert one.unreal == (("exact", pytest.approx(0.6)),)
    text = words([one])
    assert "With knowledge that no real system has: exact 600 ms." in text
    assert re.search(r"83\.\d % \[[\d., ]+\] more delay than exact", text)


def test_what_no_real_system_knows_is_not_recommended_even_where_there_is_nothing_else():
    found = found_of(at(0.6, "exact", [0.5, 0.6], info="running"), at(0.6, "seer", [1.0, 1.1], info="clairvoyant"))
    text = words(found)
    assert "Nothing to take: no real system knows what those that keep up know." in text
    assert "Take exact" not in text


def test_who_does_not_keep_up_is_not_recommended_even_with_the_least_mean():
    made = material(
        at(0.6, "fast", [0.5, 0.6, 0.7], info="own", caused_load=1.2), at(0.6, "slow", [1.0, 1.1, 1.2], info="own")
    )
    (one,) = verdicts(made)
    assert (one.best, one.behind) == ("slow", ("fast",))
    assert "Does not keep up: fast." in words([one])


def test_nobody_keeps_up():
    (one,) = found_of(at(0.6, "a", [1.0, 1.1], info="own", caused_load=1.5))
    assert one.best == ""
    assert "No scheduler keeps up" in words([one])


def test_over_several_loads_one_name_stands_first():
    loads = (0.3, 0.6)
    every = [at(load, name, [d, d * 1.1, d * 1.2], info="own") for load in loads for name, d in (("a", 1), ("b", 2))]
    assert "Take a: least mean delay at all 2 loads." in words(found_of(*every))
    turned = [
        at(0.3, "a", [1.0, 1.1, 1.2], info="own"), at(0.3, "b", [2.0, 2.2, 2.4], info="own"),
        at(0.6, "a", [2.0, 2.2, 2.4], info="own"), at(0.6, "b", [1.0, 1.1, 1.2], info="own"),
    ]  # fmt: skip
    assert "choose by the load" in words(found_of(*turned))


def test_who_stands_alone_is_compared_with_nobody():
    alone = [at(load, "a", [1.0, 1.1, 1.2], info="own") for load in (0.3, 0.6)]
    for some in (alone[:1], alone):
        text = words(found_of(*some))
        assert "a keeps up; there is no other to compare it with." in text
        assert "cannot be told" not in text
        assert "another may be as good" not in text
    full = at(0.9, "a", [1.0, 1.1, 1.2], info="own", caused_load=1.1)
    others = [at(load, "b", [2.0, 2.1, 2.2], info="own") for load in (0.3, 0.6)]
    assert "least mean delay at all 2 loads at which any keeps up." in words(found_of(*alone, *others, full))


def test_a_card_says_no_more_than_is_known():
    (one,) = found_of(at(0.6, "jsq", [1.0, 1.1], info="probed", n_seeds=3))
    text = words([one])
    assert "2 traces, 3 seeds. It may ask servers for their queues" in text  # repetitions of a rule, not trainings


def test_a_single_training_is_named_beside_what_is_certain():
    frames = [at(0.6, "drl", [1.0, 1.1, 1.2], info="own", learned=True), at(0.6, "eft", [2.0, 2.2, 2.4], info="own")]
    (one,) = found_of(*frames)
    assert one.decisive
    assert "Trained only once, with luck that is not counted: drl." in words([one])
    frames[0] = at(0.6, "drl", [1.0, 1.1, 1.2], info="own", learned=True, n_seeds=2)
    assert "Trained only once" not in words(found_of(*frames))


def test_one_trace_tells_nothing_about_luck():
    (one,) = found_of(at(0.6, "a", [1.0], info="own"), at(0.6, "b", [2.0], info="own"))
    assert not one.decisive
    assert "cannot be told" in words([one])


def test_commands_join_schedulers_and_quote_words():
    jobs = [
        job(overrides=["scheduler=eft", "workload.load=0.6", "runs_dir=/tmp/x"]),
        job(overrides=["workload.load=0.6", "scheduler=local"]),
        job(overrides=["scheduler=eft", "workload.load=0.6", "baselines=[a,b]"]),
        job(overrides=["scheduler=x; rm -rf /", "workload.load=0.7"]),
    ]
    assert commands(jobs) == [
        "ddrl sweep scheduler=eft,local workload.load=0.6",
        "ddrl sweep scheduler=eft 'baselines=[a,b]' workload.load=0.6",
        "ddrl sweep 'scheduler=x; rm -rf /' workload.load=0.7",
    ]


def test_commands_of_earlier_trainings_name_their_folder_and_what_makes_it():
    training = {"job_id": "04cf", "overrides": ["scheduler=ppo", "experiment=x y"], "cpu_s": 1.0}
    words = ["workload.load=0.6", "name=a", "runs_dir=/tmp/x", "baselines=[a,b]"]
    jobs = [job(overrides=words, training=training), job(overrides=["scheduler=eft"])]
    assert commands(jobs) == [
        "ddrl eval --run RUN_04cf 'baselines=[a,b]' name=a workload.load=0.6",
        "ddrl sweep scheduler=eft",
    ]
    assert trained_folders(jobs) == [
        "RUN_04cf: put the folder 04cf, one of those that `ddrl sweep 'experiment=x y'` makes."
    ]


def test_a_page_of_capacities_says_how_to_repeat_them(tmp_path):
    for name in ("a", "b"):
        late = capacity_rows([[10, 10], [1000, 1000], [5000, 5000]], scheduler=name)
        alone(tmp_path / "runs" / name, late, "capacity", overrides=[f"scheduler={name}", "capacity=p99"])
    text = page_of(tmp_path / "runs", tmp_path / "out")
    assert "<code>ddrl sweep scheduler=a,b capacity=p99</code>" in text


def test_a_page_of_returns_tells_nothing_of_edge_servers(tmp_path):
    row = dict.fromkeys(schemas.RETURNS_SCHEMA.names, 1) | {"scheduler": "ppo", "scenario_hash": "c"}
    alone(tmp_path / "runs" / "a", pd.DataFrame([row]), "returns")
    assert "edge stations" not in page_of(tmp_path / "runs", tmp_path / "out")


def alone(folder, rows, table, **changes):
    """A run folder that holds one table only."""
    records.write_job(folder, job(**{"job_id": folder.name, "scheduler": rows.scheduler.iloc[0], **changes}))
    schema = {"capacity": schemas.CAPACITY_SCHEMA, "returns": schemas.RETURNS_SCHEMA}[table]
    records.write_table(folder / f"{table}.parquet", rows, schema)
    records.write_manifest(folder)


def test_versions_count_the_runs_that_have_the_package(tmp_path):
    folder = runs(tmp_path / "runs", names=("eft",), loads=(0.3,), packages={"torch": "2"}, numerics={"torch": None})
    runs(tmp_path / "runs", names=("eft",), loads=(0.6,), packages={"torch": "2"}, numerics={"torch": "2"})
    runs(tmp_path / "runs", names=("eft",), loads=(0.9,), packages={"torch": "3"}, numerics={"torch": "3"})
    said = " ".join(Page(page_of(folder, tmp_path / "out")).text)
    assert "2 (2 runs), 3 (1 run)" in said
    assert "None" not in said


def test_settings_that_differ_are_listed(tmp_path):
    folder = runs(tmp_path / "runs", loads=(0.3,), settings={"train": {"episodes": 2}, "scheduler": {"k": 1}})
    frame = eval_frame(4, scheduler="eft", load=0.6, scenario_hash="h6", scenario="edge5").assign(cluster=range(4))
    write_run(folder / "more", rows=frame, settings={"train": {"episodes": 9}, "scheduler": {"k": 2}})
    said = " ".join(Page(page_of(folder, tmp_path / "out")).text)
    assert "train.episodes" in said
    assert "2 (3 runs), 9 (1 run)" in said
    assert "1 (1 run), 2 (1 run)" in said  # scheduler.k of eft
