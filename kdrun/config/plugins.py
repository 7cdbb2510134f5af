"""What Hydra must know about kdrun: the schema, models by name, and the resolver of `1 - alpha`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import omegaconf
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from kdrun.config.choices import ROLES
from kdrun.config.files import OF, entries, paired, shipped
from kdrun.config.schema import Recipe, Run
from kdrun.errors import KdrunError
from kdrun.models.names import TIMM, library, timm_names, torchvision_names
from kdrun.schedule import unfolded

Numbers = make_dataclass("Numbers", [(f.name, Any, field(default=None)) for f in fields(Recipe)])
"""A recipe as YAML has it: a number may also be a mapping from models to numbers, so no key has a type."""


@dataclass
class WrittenRecipes:
    """Both recipes as they are written."""

    teacher: Numbers = field(default_factory=Numbers)  # type: ignore[valid-type]
    student: Numbers = field(default_factory=Numbers)  # type: ignore[valid-type]
    labelled_share: float | None = None


@dataclass
class Written(Run):
    """A run as YAML has it, with keys whose final values are chosen after composing.

    diagnostics: one name, or several. assistant: one model's name, or several, or None. teachers: several
    names, or a mapping from names of teachers to models, or None. epochs, batch, lr: of both recipes, None if
    each has its own.
    """

    epochs: Any = None
    batch: Any = None
    lr: Any = None

    diagnostics: Any = field(default_factory=list)
    assistant: Any = None
    teachers: Any = None
    recipe: WrittenRecipes = field(default_factory=WrittenRecipes)  # type: ignore[assignment]


class ModelGroup(ConfigSource):
    """Serves `teacher/NAME` and `student/NAME` from the group `model`, and names of torchvision and timm.

    Shipped files, a user's files and names without a file so meet in one group, whose error lists them all.
    """

    @staticmethod
    def scheme() -> str:
        return "models"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path in ("", "model", *ROLES)

    def is_config(self, config_path: str) -> bool:
        group, _, name = config_path.removesuffix(".yaml").partition("/")
        return bool(name) and (group in ROLES or (group == "model" and library(name) is not None))

    def load_config(self, config_path: str) -> ConfigResult:
        group, _, name = config_path.removesuffix(".yaml").partition("/")
        if name.startswith(TIMM) and library(name) is None:
            raise KdrunError(group, name, "timm has no such model", timm_names(), "kdrun list models")
        if not self.is_config(config_path):
            raise ConfigLoadError(f"no such model: {name}")
        if group in ROLES and name.startswith(OF):
            name = paired(name.removeprefix(OF), group, (shipped(), *filter(None, [SearchModels.own])))
        content: dict[str, Any] = {"name": name, "family": library(name), "args": {}}
        if group in ROLES:
            content = {"defaults": [{"/model@_here_": name}]}
        config = OmegaConf.create(content)
        return ConfigResult(self.provider, f"models://{config_path}", config, header={"package": None})

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path == "" and results_filter != ObjectType.CONFIG:
            return sorted(ROLES)
        if results_filter == ObjectType.GROUP or not self.is_group(config_path):
            return []
        folders = (shipped(), *([SearchModels.own] if SearchModels.own else []))
        files = [entry.name for folder in folders for entry in entries(folder, "model")]
        return sorted({*(files if config_path in ROLES else []), *torchvision_names(), *timm_names()})


class SearchModels(SearchPathPlugin):
    """Puts `ModelGroup` and the user's folder on Hydra's search path, behind what kdrun ships.

    own: set by `register`, since Hydra makes the plugin from its class.
    """

    own: ClassVar[Path | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("kdrun", "models://")
        if self.own is not None:
            search_path.append("command-line", f"file://{self.own.resolve()}")


def complement(value: Any) -> Any:
    """1 - value; of a schedule, the schedule of that. Anything else is handed on, for the check to name."""
    value = unfolded(value)
    if isinstance(value, (dict, DictConfig)):
        turned = {key: complement(value[key]) if key in ("from", "to") else value[key] for key in value}
        return OmegaConf.create(turned)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return round(1 - value, 12) if number else value


def register(own: Path | None = None) -> None:
    """Tells Hydra; may be called any number of times. own: a folder of the user's files."""
    SearchModels.own = own
    _register()


@cache
def _register() -> None:
    ConfigStore.instance().store(name="schema", node=Written, provider="kdrun")
    for plugin in (ModelGroup, SearchModels):
        Plugins.instance().register(plugin)
    # omegaconf 2.3 has an older function of the second name, so that hasattr would not tell
    old = omegaconf.__version__.startswith("2.3")
    add: Any = OmegaConf.register_new_resolver if old else OmegaConf.register_resolver
    add("complement", complement, replace=True)
