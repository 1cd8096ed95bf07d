"""Finds the yaml files that come with the package and says what each one is, without Hydra."""

from pathlib import Path

GROUPS = {
    "schedulers": "scheduler",
    "scenarios": "env",
    "workloads": "workload",
    "budgets": "train",
    "launchers": "launcher",
    "experiments": "experiment",
}


def conf_dir() -> Path:
    """Folder of the yaml files: inside an installed wheel, or beside the package in the repository."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "base.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no conf/base.yaml in {package} or beside it: the installation is incomplete")


def options(group: str, folders: list[Path]) -> dict[str, str]:
    """Names of a group's yaml files and the first comment line of each, sorted by name; the first folder wins."""
    files = {file.stem: file for folder in reversed(folders) for file in (folder / group).glob("*.yaml")}
    return {name: first_comment(files[name]) for name in sorted(files)}


def first_comment(file: Path) -> str:
    """Text of the first comment line of a yaml file, "" if there is none. Hydra's own `# @` lines do not count."""
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("#") and not text.lstrip("# ").startswith("@"):
            return text.lstrip("# ")
    return ""


def listing(folders: list[Path]) -> str:
    """All schedulers, scenarios, workloads, budgets of training, launchers and experiments, one line each."""
    blocks = []
    for title, group in GROUPS.items():
        found = options(group, folders)
        width = max(map(len, found), default=0)
        lines = [f"  {name:{width}}  {text}".rstrip() for name, text in found.items()]
        blocks.append("\n".join([f"{title} ({group}=NAME)", *(lines or ["  none"])]))
    return "\n\n".join(blocks)
