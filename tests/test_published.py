"""What is published beside the code: tables quoted from run folders, and CITATION.cff."""

import os
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
        ([MARK.format("").replace("one", "two"), "<!-- end -->"], "runs/published/two: there is no such folder"),
    ],
)
def test_a_mark_that_cannot_be_followed_is_named(packed, page, lines, said):
    file = page(*lines)
    done = script("tables", "--root", packed)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert file.read_text(encoding="utf-8") == "\n".join(lines) + "\n"


def test_the_citation_names_this_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors", "version", "license", "type"} <= citation.keys()
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == ["The ddrl contributors"]
    assert all({"title", "authors", "type", "year"} <= one.keys() for one in citation["references"])
