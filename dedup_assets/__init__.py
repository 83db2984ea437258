"""Semantic deduplication of video-clip embeddings as Dagster assets."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dedup_assets.component import SemanticDedup, build_definitions
    from dedup_assets.resources import StoreResource

__all__ = ["SemanticDedup", "StoreResource", "build_definitions"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazily, so that `dedup_assets.compute` can be used where Dagster is not installed.
    if name == "StoreResource":
        from dedup_assets.resources import StoreResource

        return StoreResource
    if name in __all__:
        from dedup_assets import component

        return getattr(component, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # `dg` finds components by looking through the names of the package.
    return sorted({*globals(), *__all__})
