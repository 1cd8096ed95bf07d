"""The tour of the README: every command of it, on its own file of arrivals, by a shell."""

import os
import re
import subprocess
import sys

import pytest

from tests.paths import REPOSITORY

COMMANDS = ["eval", "show", "sweep", "report", "report", "train", "eval", "diff"]


def commands():
    """What stands behind the dollar signs of the tour, in order, lines that end in a backslash joined."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    tour = re.search(r"<!-- tour -->\n(.*?)<!-- end of tour -->", text, re.DOTALL)[1]
    return re.findall(r"^\$ (.*)$", tour.replace("\\\n", ""), re.MULTILINE)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """{command of the tour: what it printed}, all run one after the other in an empty folder."""
    here = tmp_path_factory.mktemp("tour")
    (here / "ddrl").write_text(f'#!/bin/sh\nexec {sys.executable} -m ddrl_sched "$@"\n', encoding="utf-8")
    (here / "ddrl").chmod(0o755)
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}", "PYTHONPATH": path, "COLUMNS": "100"}
    env |= {"OMP_NUM_THREADS": "1", "LC_ALL": "C"}
    found = {}
    for command in commands():
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=here, env=env, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        found[command] = done.stdout
    return found


def test_the_tour_has_eight_commands():
    assert [command.split()[1] for command in commands() if command.startswith("ddrl ")] == COMMANDS


def test_every_command_of_the_tour_says_what_the_readme_tells(outputs):
    first, shown, swept, table, page, trained, judged, apart = list(outputs.values())[1:]
    assert page == "page: page/index.html\n"
    assert "mean delay 13.39 ms [12.89, 13.91] over 10 traces, late 0 %" in first
    assert "status     done" in shown
    assert "6 jobs: 6 done, 0 skipped, 0 failed" in swept
    assert re.findall(r"^(\w+) +\w+ +\w+ +[\d.]+ \[", table.partition("load 0.8")[2], re.MULTILINE) == [
        "priced",
        "eft",
        "equal_finish_own",
    ]
    assert "mean delay of the last episode" in trained
    assert "over 10 traces" in judged
    assert re.search(r"^scheduler\.name +best_set +price_policy$", apart, re.MULTILINE)


def test_words_of_the_tour_are_all_known(outputs):
    assert not any("error" in text for text in outputs.values())
