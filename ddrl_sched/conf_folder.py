"""Where the yaml files are, and how their groups are called on the command line."""

from collections.abc import Sequence
from pathlib import Path

GROUPS = {
    "schedulers": "scheduler",
    "scenarios": "env",
    "workloads": "workload",
    "budgets": "train",
    "launchers": "launcher",
    "experiments": "experiment",
    "studies": "study",
    "agents": "agent",
    "families": "family",
    "capacities": "capacity",
}


def conf_dir() -> Path:
    """Folder of the yaml files: inside an installed wheel, or beside the package in the repository."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "base.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no conf/base.yaml in {package} or beside it: the installation is incomplete")


def choices(group: str, folders: Sequence[Path]) -> dict[str, Path]:
    """Yaml files of a group by name, sorted, those of sub-folders ("ablation/set_mlp") last; the first folder wins."""
    files = {
        file.relative_to(folder / group).with_suffix("").as_posix(): file
        for folder in reversed(folders)
        for file in (folder / group).rglob("*.yaml")
    }
    return {name: files[name] for name in sorted(files, key=lambda name: (name.rpartition("/")[0], name))}
