"""Which sets of kept clips a run may replace without being told to."""

import polars as pl

from dedup_assets.errors import InputError, SettingsError
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.members import shown_some
from dedup_assets.store.tables import read_info, read_table, to_frame

TARS, FILES, NO_MEDIA = "WebDataset tars", "plain media files", "an index of ids without media"

_BACK = {
    TARS: "set export to shards",
    FILES: "set export to media",
}
_ANYWAY = "add --replace-shards (in the Launchpad, replace_shards: true) to replace them"


def kind_of(export: str | None) -> str:
    """What an export writes; None: there is no clips folder."""
    return {"shards": TARS, "media": FILES, None: NO_MEDIA}[export]


def refuse_loss(store: Store, eps: str, kind: str, missing: pl.Series, clips: str | None) -> None:
    """Refuse a run after which a kept clip has no media that it has now, or another kind of it.

    A smaller kept set, another number of samples in a tar, and changed or new clips are no loss.

    Args:
        store: the output, with the set of an earlier run or without one.
        eps: of the set.
        kind: what this run writes.
        missing: kept ids for which it has no media.
        clips: where it looked for them.

    Raises:
        SettingsError: the kind would change.
        InputError: media would be lost.
    """
    name = layout.shard_index(eps)
    if read_info(store, name) is None:
        return
    index = to_frame(read_table(store, name, [schemas.ID, "shard"]))
    before = _kind_written(index)
    if before not in (None, NO_MEDIA, kind):
        again = "give clips_path again" if kind == NO_MEDIA else _BACK[before]
        raise SettingsError(
            f"{store.url(name)} is of {before}, and this run would replace them by {kind}; "
            f"{again}, or {_ANYWAY}"
        )
    placed = index.filter(pl.col("shard").is_not_null())[schemas.ID]
    lost = placed.filter(placed.is_in(missing.implode()))
    if len(lost):
        raise InputError(
            f"{len(lost)} kept clips have media in {store.url(name)}, which this run would "
            f"replace, and none below {clips}: {shown_some(lost)}; put the files back, or {_ANYWAY}"
        )


def _kind_written(index: pl.DataFrame) -> str | None:
    """The kind of an index; None if it has no rows."""
    if index.is_empty():
        return None
    shards = index["shard"].drop_nulls()
    if shards.is_empty():
        return NO_MEDIA
    return TARS if shards[0].endswith(".tar") else FILES
