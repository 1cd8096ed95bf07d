"""Completion in the shell, as bash asks for it: words of the line and the number of the one under the cursor."""

import subprocess
import sys

import pytest

from tests.paths import REPOSITORY

HEAVY = ("torch", "numpy", "numba", "pandas", "pyarrow", "hydra", "omegaconf", "rich")
START = "from ddrl_sched.__main__ import main; main()"


def completed(line, start=START, folder=REPOSITORY):
    """Candidates for the last word of a line, "=" being a word of its own as in bash."""
    words = line.replace("=", " = ").split(" ")
    words = [word for word in words[:-1] if word] + words[-1:]
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1), "_DDRL_COMPLETE": "complete_bash"}
    path = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", start], env=path | asked, capture_output=True, text=True, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("ddrl re", {"report", "replay"}, {"eval"}),
        ("ddrl eval sched", {"scheduler=", "scheduler=priced", "scheduler=tuned/ddrl_amsa"}, {"scheduler"}),
        ("ddrl eval s", {"scheduler=", "seed=", "seeds="}, {"scheduler=eft", "study="}),
        ("ddrl sweep s", {"scheduler=", "study="}, set()),
        ("ddrl eval scheduler=", {"eft", "priced"}, {"scheduler="}),
        ("ddrl eval scheduler=pri", {"priced", "priced_asking"}, {"eft"}),
        ("ddrl sweep scheduler=eft,pri", {"eft,priced"}, {"priced"}),
        ("ddrl sweep study=am", {"amsa", "amsa_free"}, {"elsewhere"}),
        ("ddrl sweep seeds=3 experiment=amsa/", {"amsa/edge5", "amsa/free"}, {"ats"}),
        ("ddrl eval evaluate.tr", {"evaluate.traces=", "evaluate.traces=10"}, set()),
        ("ddrl list ", {"scheduler", "env", "study", "agent"}, {"scheduler="}),
        ("ddrl report --ba", {"--baseline"}, {"--by-seed"}),
    ],
)
def test_what_a_word_can_become(line, some, none):
    found = set(completed(line))
    assert some <= found
    assert not none & found


def test_other_shells_give_the_word_whole_and_own_yaml_files_count(tmp_path):
    (tmp_path / "own" / "scheduler").mkdir(parents=True)
    (tmp_path / "own" / "scheduler" / "prized.yaml").write_text("name: eft\n", encoding="utf-8")
    whole = f"import os; os.environ['COMP_WORDS'] = os.environ['COMP_WORDS'].replace('#', '='); {START}"
    found = completed("ddrl eval --config-dir own scheduler#pri", whole, tmp_path)
    assert {"scheduler=priced", "scheduler=prized"} <= set(found)


def test_completion_loads_nothing_heavy():
    code = f"import sys, atexit; atexit.register(lambda: print([m for m in {HEAVY} if m in sys.modules])); {START}"
    assert completed("ddrl eval scheduler=eft", code) == ["eft", "[]"]
