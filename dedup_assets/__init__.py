"""Semantic deduplication of video-clip embeddings as Dagster assets."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dedup_assets.component import SemanticDedup, build_definitions

__all__ = ["SemanticDedup", "build_definitions"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazily, so that `dedup_assets.compute` can be used where Dagster is not installed.
    if name in __all__:
        from dedup_assets import component

        return getattr(component, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
