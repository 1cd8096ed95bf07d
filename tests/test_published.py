"""What is published beside the code: tables quoted from run folders, claims with their commands, CITATION.cff."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.paths import REPOSITORY
from tests.test_cli import ddrl

MARK = "<!-- ddrl report runs/published/one --format markdown{} -->"


def script(name, *words):
    """Run a script of the repository in a process of its own."""
    command = [sys.executable, REPOSITORY / "scripts" / name, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "300"})


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A repository with one published folder: a rule at two loads."""
    here = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        small = ["env.clock.horizon_s=5", "evaluate.traces=2", "workload.load=0.36,0.8"]
        assert ddrl("sweep", "scheduler=eft", *small, "runs_dir=made", "name=one").exit_code == 0
        assert ddrl("pack", "made/one", "runs/published/one").exit_code == 0
    shutil.rmtree(here / "made")
    return here


@pytest.fixture
def page(packed):
    """Writes the page that is checked."""

    def write(*lines):
        (packed / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return packed / "README.md"

    return write


def test_every_table_of_our_pages_that_is_quoted_is_what_its_folders_make():
    done = script("tables", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_tables_are_rewritten_and_then_found_right(packed, page):
    file = page("# Page", MARK.format(" | load 0.8"), "<!-- end -->", "text", MARK.format(""), "<!-- end -->", "end")
    first = script("tables", "--check", "--root", packed)
    assert first.returncode == 1
    assert "a table is not what its run folders make; scripts/tables renews it" in first.stdout
    assert script("tables", "--root", packed).returncode == 0
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line.partition(" (")[0] for line in lines if line.startswith("**")] == [
        f"**edge5(horizon_s=5), workload poisson, rule clean, load {load}" for load in (0.8, 0.36, 0.8)
    ]
    assert (lines[0], "text" in lines, lines[-1]) == ("# Page", True, "end")
    assert script("tables", "--check", "--root", packed).returncode == 0
    page(*(line.replace("| eft | running | ", "| eft | running | 9") for line in lines))
    wrong = script("tables", "--check", "--root", packed)
    assert wrong.returncode == 1
    assert "-| eft | running | 9" in wrong.stdout


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([MARK.format("")], "README.md, line 1: no line <!-- end --> behind it"),
        ([MARK.format(""), MARK.format(""), "<!-- end -->"], "line 1: no line <!-- end --> before the next mark"),
        (["", MARK.format(" | load 7"), "<!-- end -->"], "line 2: no table with 'load 7' in its title"),
        ([MARK.format(" --out x"), "<!-- end -->"], "`ddrl report FOLDER... --format markdown` expected"),
        (["<!-- ddrl sweep a=1 -->", "<!-- end -->"], "`ddrl report FOLDER... --format markdown` expected"),
        (['<!-- ddrl report "x -->', "<!-- end -->"], "README.md, line 1: No closing quotation"),
        ([MARK.format("").replace("one", "two"), "<!-- end -->"], "runs/published/two: there is no such folder"),
    ],
)
def test_a_mark_that_cannot_be_followed_is_named(packed, page, lines, said):
    file = page(*lines)
    done = script("tables", "--root", packed)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert file.read_text(encoding="utf-8") == "\n".join(lines) + "\n"


# ---- claims ----------------------------------------------------------------------------------------------------------


CLAIMS = REPOSITORY / "runs" / "claims.yaml"


@pytest.fixture
def claims(tmp_path):
    """Writes claims with one key of the fast one changed, and gives the file."""

    def write(*path_and_value):
        data = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
        data["claims"] = {"fast": data["claims"]["optimal_is_no_bound"]}
        *path, key, value = path_and_value or ("claims", data["claims"])
        here = data
        for part in path:
            here = here[part]
        here[key] = value
        file = tmp_path / "claims.yaml"
        file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        return file

    return write


def test_every_row_of_the_readme_has_its_claim():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("## What was claimed")[2]
    table = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")][2:]
    rows = {line.split(" | ")[0].removeprefix("| ") for line in table}
    data = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    assert {claim["row"] for claim in data["claims"].values()} | set(data["without_command"]) == rows


def test_claims_are_listed_and_their_commands_compose():
    listed = script("claims")
    assert listed.returncode == 0
    assert "price_below_settled: " in listed.stdout
    assert "  ddrl sweep study=amsa\n  2.1 h of CPU" in listed.stdout
    composed = script("claims", "--check")
    assert composed.returncode == 0, composed.stdout + composed.stderr


def test_a_claim_is_run_from_nothing_and_judged(claims, tmp_path):
    done = script("claims", "optimal_is_no_bound", "--into", tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "baseline optimal: 12.05 [" in done.stdout
    assert "claimed 12.1 +- 0.5: holds\noptimal_is_no_bound: holds" in done.stdout
    file = claims("claims", "fast", "cells", 0, "expected", 14.0)
    broken = script("claims", "fast", "--file", file, "--runs", tmp_path / "runs")
    assert broken.returncode == 1
    assert "claimed 14 +- 0.5: DOES NOT HOLD\nfast: does not hold" in broken.stdout
    for key, value, said in (
        ("column", "reduction", "fast: no number in column 'reduction'; columns: scenario"),
        ("table", "delays", "fast: the report has no table 'delays'; it has rows"),
        ("where", {"scheduler": "optimal", "load": 9}, "fast: 0 rows of rows with scheduler optimal, load 9"),
    ):
        file = claims("claims", "fast", "cells", 0, key, value)
        wrong = script("claims", "fast", "--file", file, "--runs", tmp_path / "runs")
        assert (wrong.returncode, said in wrong.stderr) == (2, True), wrong.stderr
    nothing = script("claims", "fast", "--file", file, "--runs", tmp_path / "none")
    assert nothing.returncode == 2
    assert "beyond_optimal: there is no such folder" in nothing.stderr


@pytest.mark.parametrize(
    ("path_and_value", "said"),
    [
        (
            ("claims", "fast", "cpu_minuts", 3),
            r"claims.fast.cpu_minuts: unknown key; did you mean",
        ),
        (
            ("claims", "fast", "cells", 0, "expected", "12"),
            r"claims.fast.cells[0].expected: must be a number, got '12'",
        ),
        (("claims", "fast", "cells", []), "claims.fast.cells: must have at least 1 entries"),
        (("claims", "fast", "commands", ["rm -r x"]), "rm -r x: `ddrl sweep ...`, train or eval expected"),
        (("claims", "fast", "commands", ["rm -r 'x"]), "rm -r 'x: No closing quotation"),
        (("claims", "fast", "commands", ["ddrl sweep scheduler=no"]), "scheduler: there is no 'no'"),
    ],
)
def test_a_wrong_claim_is_named_with_its_line(claims, path_and_value, said):
    done = script("claims", "--check", "--file", claims(*path_and_value))
    assert (done.returncode, said in done.stderr + done.stdout) == (2, True), done.stderr + done.stdout
    assert re.search(r"^error: \S*claims.yaml, line \d+: |^fast: |^error: rm", done.stderr or done.stdout)


def test_a_claim_that_is_not_there_is_named():
    done = script("claims", "clod")
    assert (done.returncode, done.stderr) == (2, "error: there is no claim 'clod'; did you mean 'cloud'?\n")


# ---- citing ----------------------------------------------------------------------------------------------------------


def test_the_citation_names_this_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors", "version", "license", "type"} <= citation.keys()
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == ["The ddrl contributors"]
    assert all({"title", "authors", "type", "year"} <= one.keys() for one in citation["references"])
