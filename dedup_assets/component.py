"""The component: what a user writes in YAML for one dataset."""

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import BetaWarning, PreviewWarning
from pydantic import BaseModel, create_model
from pydantic.fields import FieldInfo

from dedup_assets.assets import build_assets
from dedup_assets.assets.common import store_keys
from dedup_assets.automation import build_automation
from dedup_assets.checks import build_checks
from dedup_assets.errors import SettingsError, shown
from dedup_assets.scaffolding import Scaffolder
from dedup_assets.settings import GROUPS, PATHS, Settings
from dedup_assets.store.access import is_remote
from dedup_assets.store.local import absolute_path

_IN_YAML: dict[str, Any] = {
    "eps_thresholds": list[float | str],
    "eps_to_extract": float | str | None,
    "memory_budget": int | str,
    "task_memory": int | str | None,
}
"""Types in YAML of settings that are kept as another one."""


@dg.scaffold_with(Scaffolder)
class SemanticDedup(dg.Component, Settings, dg.Resolvable):
    """Semantic deduplication of one dataset of video-clip embeddings.

    Relative paths start at the folder of the project's pyproject.toml.
    """

    @classmethod
    @functools.cache
    def model(cls) -> type[BaseModel]:
        """The schema of the YAML: a group is its fields, not also any text.

        Dagster's own lets a template stand for every field. For a group that would only hide at
        which line of it a mistake is.
        """
        derived = super().model()
        groups: dict[str, Any] = {
            name: (group.model(), derived.model_fields[name]) for name, group in GROUPS.items()
        }
        return create_model(derived.__name__, __base__=derived, **groups)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return build_definitions(rooted(self, context.project_root))


def _describe_fields(model: type[dg.Model]) -> None:
    """Let descriptions and numbers reach the schema that `dg` checks YAML by and shows in its docs.

    Dagster derives a model of its own from the fields, and drops the description of every field
    that has a default.
    """
    for name, field in model.model_fields.items():
        if name in GROUPS:
            resolver = dg.Resolver.default(description=GROUPS[name].__doc__)
        else:
            # Not Resolver.default: with that one, Dagster overlooks the type.
            resolver = dg.Resolver(
                lambda context, value: context.resolve_value(value),
                description=field.description,
                examples=_examples(field),
                model_field_type=_IN_YAML.get(name),
                inject_before_resolve=False,
            )
        field.metadata = [*field.metadata, resolver]


def _examples(field: FieldInfo) -> list[Any] | None:
    """The examples of a field, or its default, which is one."""
    if field.examples or field.is_required():
        return field.examples
    default = field.get_default(call_default_factory=True)
    return None if default is None else [default]


for group in GROUPS.values():
    _describe_fields(group)
_describe_fields(SemanticDedup)


def build_definitions(*datasets: Settings) -> dg.Definitions:
    """Assets, checks, jobs, schedule and resources of some datasets.

    Args:
        datasets: a `SemanticDedup` (or plain `Settings`) each.

    Raises:
        SettingsError: two of them have one name, or write to one place.
    """
    refuse_shared(datasets)
    with warnings.catch_warnings():
        # Backfill policies and partitioned checks may change in a later Dagster; the version is
        # pinned below the next minor one, so users need not hear of it at every start.
        warnings.simplefilter("ignore", BetaWarning)
        warnings.simplefilter("ignore", PreviewWarning)
        return dg.Definitions.merge(*(_definitions(settings) for settings in datasets))


def refuse_shared(datasets: Sequence[Settings]) -> None:
    """Refuse datasets that would overwrite each other.

    Raises:
        SettingsError: two of them have one name, or write to one place.
    """
    shared = (
        ("dataset", [settings.dataset for settings in datasets]),
        ("output_path", [settings.storage.output_path.rstrip("/") for settings in datasets]),
        ("output_clip_path", [s.split_path.rstrip("/") for s in datasets if s.begins_with_videos]),
    )
    for field, values in shared:
        repeated = next((v for v in values if values.count(v) > 1), None)
        if repeated is not None:
            raise SettingsError(
                f"each dataset needs its own {field}, and two have {shown(repeated)}"
            )


def _definitions(settings: Settings) -> dg.Definitions:
    return dg.Definitions.merge(
        dg.Definitions(
            assets=build_assets(settings),
            asset_checks=build_checks(settings),
            resources=_own_resources(settings),
        ),
        build_automation(settings),
    )


def _own_resources(settings: Settings) -> dict[str, object]:
    """What a dataset binds by itself: nothing where it names a resource of the user's."""
    if settings.storage.store_resource is not None or not store_keys(settings):
        return {}

    from dedup_assets.resources import own_store

    return dict.fromkeys(store_keys(settings), own_store(settings))


def rooted(settings: Settings, root: Path) -> Settings:
    """The settings with relative local paths made absolute from ``root``.

    Raises:
        SettingsError: a path is not text, which settings are written as.
    """
    values = settings.values()
    paths = {
        field: value if is_remote(value) else absolute_path(value, root)
        for field in PATHS
        if (value := values[field]) is not None
    }
    for field, path in paths.items():
        if path != path.encode(errors="replace").decode():
            raise SettingsError(
                f"{field} {shown(path)} is not UTF-8 text; rename the folder, or start elsewhere"
            )
    return settings.replace(**paths)
