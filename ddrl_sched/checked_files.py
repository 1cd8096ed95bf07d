"""Hydra's reading of yaml files with a check of each before it, and what the current command has read."""

from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from ddrl_sched.yaml_files import check, check_defaults, unreadable


class CheckedFiles(FileConfigSource):
    """Hydra's reader of yaml files; what it reads is checked first, and an error names the file."""

    folders: ClassVar[list[Path]] = []  # of the current command
    files: ClassVar[dict[str, Path]] = {}  # read by the current command, by their name in Hydra

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self.folders.append(Path(self.path))

    def load_config(self, config_path: str) -> Any:
        file = Path(self.path, self._normalize_file_name(config_path))
        self.files[config_path] = file
        check(file)
        try:
            found = super().load_config(config_path)
        except (YAMLError, OmegaConfBaseException, ValueError, OSError) as error:
            raise unreadable(file, error) from None
        plain: Any = OmegaConf.to_container(found.config, resolve=False)
        check_defaults(file, plain.get("defaults", []))
        return found
