"""Guides: every room has one, their links lead somewhere, they name every file, and what they show runs."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import REPOSITORY
from tests.test_cli import ddrl

LONGEST_README = 12 * 1024  # bytes
LONGEST_LINE = 120  # characters of prose
PACKAGE = REPOSITORY / "ddrl_sched"
ROOMS = ("edge", "agents", "schedulers", "run", "jobs", "launchers", "report", "environments", "data")
GUIDED = [".", "conf", "ddrl_sched", "tests", "scripts", "runs", *(f"ddrl_sched/{room}" for room in ROOMS)]


def guides() -> list[Path]:
    """All markdown files of the repository, as git has them."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, check=False).stdout.split("\n")
    names = listed if any(listed) else [str(file) for file in REPOSITORY.rglob("*.md")]
    return sorted(REPOSITORY / name for name in names if name and (REPOSITORY / name).is_file())


def outside_code(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, but for blocks of code and for tables that `scripts/tables` quotes."""
    code = quoted = False
    for number, line in enumerate(text.splitlines(), 1):
        quoted = (quoted or line.startswith("<!-- ddrl ")) and line != "<!-- end -->"
        if line.lstrip().startswith("```"):
            code = not code
        elif not code and not quoted:
            yield number, line


def targets(guide: Path) -> Iterator[str]:
    """Relative links and pictures of a guide, without the part behind #."""
    for _, line in outside_code(guide.read_text(encoding="utf-8")):
        for link in re.findall(r"\]\(<?([^)\s>]+)>?\)|src=\"([^\"]+)\"", re.sub(r"`[^`]*`", "", line)):
            target = "".join(link)
            if not re.match(r"[a-z]+:|#", target):
                yield target.partition("#")[0]


def blocks(guide: Path, language: str) -> list[str]:
    """Blocks of code of a guide."""
    return re.findall(rf"```{language}\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("folder", GUIDED)
def test_every_room_has_a_guide(folder):
    assert (REPOSITORY / folder / "README.md").is_file()


def test_the_first_guide_is_short():
    assert (REPOSITORY / "README.md").stat().st_size <= LONGEST_README


@pytest.mark.parametrize("guide", guides(), ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_every_relative_link_leads_to_a_file(guide):
    assert [target for target in targets(guide) if not (guide.parent / target).exists()] == []


@pytest.mark.parametrize("guide", guides(), ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_no_line_of_prose_is_long(guide):
    lines = outside_code(guide.read_text(encoding="utf-8"))
    assert [n for n, line in lines if len(line) > LONGEST_LINE and not line.lstrip().startswith("|")] == []


@pytest.mark.parametrize("folder", [PACKAGE, *(PACKAGE / room for room in ROOMS)], ids=lambda folder: folder.name)
def test_a_guide_names_every_file_of_its_room(folder):
    guide = (folder / "README.md").read_text(encoding="utf-8")
    files = [file.name for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]
    assert [name for name in files if not re.search(rf"(?<![\w.]){re.escape(name)}", guide)] == []
    named = set(re.findall(r"^\| `(\w+\.py)`", guide, re.MULTILINE))
    assert sorted(named - set(files)) == []


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
