"""The values that a scheduler has before the command line changes any: those of its yaml and of what that inherits."""

from collections.abc import Sequence
from functools import lru_cache

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ddrl_sched.key_value import key_value


def is_default(scheduler: str, word: str, words: Sequence[str], config: DictConfig) -> bool:
    """Whether an override of a key of the scheduler gives it the value that it has anyway.

    `words` are all overrides of the job; those that choose an option inside the scheduler (its agent) hold before
    `word` does. `config` is the composed config of the job. To be called while Hydra runs the job.
    """
    key = key_value(word).group  # of an option that is chosen for a place, the name of its group
    if not key.startswith("scheduler."):
        return False
    chosen = tuple(other for other in words if "@scheduler." in key_value(other).name)
    stated: object = OmegaConf.select(_composed(_loader(), scheduler, chosen), key)
    given: object = OmegaConf.select(config, key)
    return stated is not None and isinstance(stated, bool) == isinstance(given, bool) and bool(stated == given)


def _loader() -> ConfigLoader:
    """What finds the yaml files of the current command."""
    return GlobalHydra.instance().config_loader()


@lru_cache(maxsize=200)
def _composed(loader: ConfigLoader, scheduler: str, chosen: tuple[str, ...]) -> DictConfig:
    """The group `scheduler` alone, with the options that were `chosen` inside it. A command has a loader of its own."""
    assert isinstance(loader, ConfigLoaderImpl)
    return loader.load_configuration(None, [f"+scheduler={scheduler}", *chosen], RunMode.RUN, from_shell=False)
