"""Guides: every room has one, their links lead somewhere, they name every file, and what they show runs."""

import re
import subprocess
import sys
from pathlib import Path

from tests.paths import REPOSITORY
from tests.test_cli import ddrl

LONGEST_README = 12 * 1024  # bytes
PACKAGE = REPOSITORY / "ddrl_sched"


def blocks(guide: Path, language: str) -> list[str]:
    """Blocks of code of a guide."""
    return re.findall(rf"```{language}\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)


def test_the_first_guide_is_short():
    assert (REPOSITORY / "README.md").stat().st_size <= LONGEST_README


def test_the_picture_is_what_its_script_draws(tmp_path):
    subprocess.run([sys.executable, REPOSITORY / "scripts" / "picture", tmp_path / "new.svg"], check=True)
    drawn = (tmp_path / "new.svg").read_text(encoding="utf-8")
    assert drawn == (PACKAGE / "system.svg").read_text(encoding="utf-8")
    assert min(map(float, re.findall(r'font-size="([\d.]+)"', drawn))) >= 12


def test_the_examples_of_settings_run(tmp_path, monkeypatch):
    guide = REPOSITORY / "conf" / "README.md"
    examples = [re.match(r"# ([\w/]+\.\w+)", text) for text in blocks(guide, "yaml") + blocks(guide, "python")]
    assert len(examples) == 5
    for found in examples:
        (tmp_path / found[1]).parent.mkdir(exist_ok=True)
        (tmp_path / found[1]).write_text(found.string, encoding="utf-8")
    command = re.search(r"^ddrl (sweep --config-dir .*)$", guide.read_text(encoding="utf-8"), re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    done = ddrl(*command[1].split(), "evaluate.traces=2", "env.clock.horizon_s=6")
    assert "done  own_and_fastest  " in done.stdout
    assert "\n3 jobs: 3 done, 0 skipped, 0 failed" in done.stdout
