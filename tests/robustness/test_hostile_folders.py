"""A report over hundreds of damaged folders, bit flips, old formats, and folders that want to run something."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from typer.testing import CliRunner

from ddrl_sched.cli import app
from ddrl_sched.config import InputError
from ddrl_sched.jobs import records
from ddrl_sched.report.load import MAX_REPORT_ROWS, load
from tests.hostile_folders import HOSTILE, write_run, write_wide
from tests.jobs.test_records import eval_frame
from tests.jobs.test_scheduling_job import settings
from tests.jobs_by_hand import plan_job, run_job
from tests.paths import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "data" / "runs_v2"
OLDEST = REPOSITORY / "tests" / "data" / "runs_v1"
GOLDEN_MEANS = {"eft": 0.025908723, "smcoedge": 0.02097522}
COSTLY = ("eval bomb", "eval wide", "job deep", "manifest deep")  # to make or to refuse: few of them


def corpus(root, n_bad, n_good=40):
    """{folder: kind} of n_bad damaged run folders among n_good good ones called good0, good1, ..."""
    kinds = [*HOSTILE, *[kind for kind in HOSTILE if kind not in COSTLY] * 20][:n_bad]
    bad = {}
    for number in range(n_good):
        write_run(root / f"good{number}", rows=eval_frame(2, scheduler=f"good{number}"))
    for number, kind in enumerate(kinds):
        name = f"bad{number}" if number % 7 else f"bad{number}\x1b[31m\n"
        folder = write_run(root / name, rows=eval_frame(2, scheduler="bad"))
        HOSTILE[kind](folder, random.Random(number))
        bad[folder] = kind
    return bad


def report(*words):
    done = CliRunner().invoke(app, ["report", *map(str, words)])
    assert all(line.isprintable() for line in [*done.stdout.splitlines(), *done.stderr.splitlines()])
    return done


def check_report(tmp_path, n_bad):
    root = tmp_path / "runs" / "mixed"
    bad = corpus(root, n_bad)
    done = report(root, "--format", "csv")
    assert done.exit_code == 0
    assert set(re.findall(r"good\d+", done.stdout)) == {f"good{number}" for number in range(40)}
    skipped = [line.removeprefix("skipped: ") for line in done.stderr.splitlines() if line.startswith("skipped: ")]
    named = Counter(line.split(": ")[0] for line in skipped)
    expected = Counter(re.sub(r"\x1b|\n", "?", str(folder)) for folder in bad)
    assert named == expected
    assert set(named.values()) == {1}
    assert "bad" not in done.stdout
    assert report(root, "--format", "csv", "--strict").exit_code == 3
    kinds = set(bad.values())
    assert len(kinds) >= 25
    print(f"\n{len(bad)} damaged folders of {len(kinds)} kinds: all named once; 40 good ones: all in the report")


def test_a_report_names_every_damaged_folder_once(tmp_path):
    check_report(tmp_path, len(HOSTILE))


@pytest.mark.slow
def test_five_hundred_damaged_folders(tmp_path):
    check_report(tmp_path, 500)


def test_a_report_of_good_folders_is_strict_too(tmp_path):
    write_run(tmp_path / "a", rows=eval_frame(2))
    assert report(tmp_path, "--strict").exit_code == 0


def test_a_stray_run_file_hides_no_folder_below_it(tmp_path):
    write_run(tmp_path / "exp" / "a", rows=eval_frame(2))
    (tmp_path / "exp" / "job.json").write_text("{}")
    found = load([tmp_path])
    assert len(found.rows) == 2
    assert [path for path, _ in found.skipped] == [str(tmp_path / "exp")]


REPORT = """
import re, resource, sys
from ddrl_sched.report.tables import main
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
status = main(sys.argv[1:], [], "csv", None)
# the peak of this program alone: ru_maxrss would begin with that of the process which started it
peak = re.search("VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]
print(status, peak, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_many_small_folders_of_many_rows_fill_no_memory(tmp_path):
    """Each is valid by itself; those for which a report has no room are named, and told from their footers."""
    n_folders, n_rows = 8, 120_000
    for number in range(n_folders):
        folder = write_run(
            tmp_path / "runs" / f"{number}", rows=eval_frame(1, scheduler=f"s{number}", n_tasks=number + 1)
        )
        write_wide(folder, n_rows, 2)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(tmp_path / "runs")],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    *told, last = done.stderr.splitlines()
    status, kilobytes = map(int, last.split())
    skipped = [line for line in told if line.startswith("skipped: ")]
    print(f"{n_folders} folders of {size / 1e3:.0f} kB, {n_folders * n_rows:,} rows: {kilobytes / 1e6:.2f} GB resident")
    assert status == 0
    assert size < 500_000
    assert kilobytes < 1_000_000
    assert len(done.stdout.splitlines()) - 1 == MAX_REPORT_ROWS // n_rows == n_folders - len(skipped)
    assert all(f"{MAX_REPORT_ROWS:,} of one report: report fewer folders at once" in line for line in skipped)


# --- bit flips


def flipped(data, rng):
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def test_five_hundred_flipped_bits_are_found(tmp_path):
    """In every published file of a trained run, by the report and by what decides whether a job is done."""
    folder = shutil.copytree(GOLDEN / "smcoedge", tmp_path / "run")
    files = sorted(folder.iterdir())
    assert len(files) == 7
    rng, found = random.Random(500), Counter()
    for number in range(500):
        path = files[number % len(files)]
        data = path.read_bytes()
        path.write_bytes(flipped(data, rng))
        found[path.name] += not records.is_done(folder) and len(load([folder]).skipped) == 1
        path.write_bytes(data)
    assert records.is_done(folder)
    print(f"\n500 flipped bits, {sum(found.values())} found: {dict(found)}")
    assert sum(found.values()) == 500


# --- formats of the past


def test_a_golden_folder_of_the_first_format_is_refused_by_name():
    found = load([OLDEST])
    assert found.rows.empty
    ((path, reason),) = found.skipped
    assert path == str(OLDEST / "eft")
    assert "schema_version is 1, expected 2" in reason


def test_the_golden_folders_of_this_format_are_reported_as_they_were():
    rows = load([GOLDEN]).rows.set_index(["scheduler", "seed", "trace"])
    assert load([GOLDEN]).skipped == []
    assert len(rows) == 9
    assert sum(file.stat().st_size for file in GOLDEN.rglob("*") if file.is_file()) < 50_000
    means = {name: round(float(group.mean_delay_s.mean()), 9) for name, group in rows.groupby(level=0)}
    assert means == GOLDEN_MEANS


@pytest.mark.parametrize("version", [0, 1, 3, None, "1", 10**30])
def test_another_format_is_refused_by_name(tmp_path, version):
    folder = shutil.copytree(GOLDEN / "eft", tmp_path / "run")
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(job | {"schema_version": version}))
    records.write_manifest(folder)
    ((path, reason),) = load([folder]).skipped
    assert path == str(folder)
    assert "schema_version" in reason or "64 bits" in reason
    with pytest.raises(InputError, match=r"--run .*run: job\.json"):
        plan_job(settings(tmp_path, "eft"), "eval", {"run": str(folder)})


def test_golden_weights_are_evaluated_or_their_settings_refused_by_key(tmp_path):
    """Where settings have changed since, the key is named; weights are never loaded into something else."""
    data, options = settings(tmp_path), {"run": str(GOLDEN / "smcoedge")}
    try:
        job_id, refused = plan_job(data, "eval", options)["job_id"], ""
    except InputError as error:
        job_id, refused = "", str(error)
    if refused:
        assert re.match(r"(env|workload|scheduler|train|evaluate)[.\w\[\]]*: (unknown key|is missing|must)", refused)
        return
    assert run_job(data, "eval", options) == "done"
    (again,) = (tmp_path / "golden").iterdir()
    assert again.name == job_id
    assert load([again]).rows.mean_delay_s.mean() == pytest.approx(GOLDEN_MEANS["smcoedge"], rel=1e-3)
