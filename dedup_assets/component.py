"""The component: what a user writes in YAML for one dataset."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
from dagster import BetaWarning, PreviewWarning

from dedup_assets.assets import build_assets
from dedup_assets.automation import build_automation
from dedup_assets.checks import build_checks
from dedup_assets.errors import SettingsError, shown
from dedup_assets.resources import StoreResource, store_key
from dedup_assets.settings import Settings
from dedup_assets.store.access import is_remote
from dedup_assets.store.local import absolute_path


class SemanticDedup(dg.Component, Settings, dg.Resolvable):
    """Semantic deduplication of one dataset of video-clip embeddings.

    Relative paths start at the folder of the project's pyproject.toml.
    """

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        root = context.project_root
        everyone = context.component_tree.get_all_components(of_type=SemanticDedup)
        refuse_shared([rooted(settings, root) for settings in everyone])
        return build_definitions(rooted(self, root))


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
    for field in ("dataset", "output_path"):
        values = [getattr(settings, field) for settings in datasets]
        repeated = next((v for v in values if values.count(v) > 1), None)
        if repeated is not None:
            raise SettingsError(
                f"each dataset needs its own {field}, and two have {shown(repeated)}"
            )


def _definitions(settings: Settings) -> dg.Definitions:
    store = StoreResource(output_path=settings.output_path, layout=settings.layout)
    return dg.Definitions.merge(
        dg.Definitions(
            assets=build_assets(settings),
            asset_checks=build_checks(settings),
            resources={store_key(settings.dataset): store},
        ),
        build_automation(settings),
    )


def rooted(settings: Settings, root: Path) -> Settings:
    """The settings with relative local paths made absolute from ``root``.

    Raises:
        SettingsError: a path is not text, which settings are written as.
    """
    paths = {
        field: value if is_remote(value) else absolute_path(value, root)
        for field in ("input_embeddings_path", "output_path", "clips_path")
        if (value := getattr(settings, field)) is not None
    }
    for field, path in paths.items():
        if path != path.encode(errors="replace").decode():
            raise SettingsError(
                f"{field} {shown(path)} is not UTF-8 text; rename the folder, or start elsewhere"
            )
    return settings.model_copy(update=paths)
