"""An output folder holds its files in one layout."""

from dedup_assets.errors import SettingsError
from dedup_assets.store.filesystem import Store
from dedup_assets.store.layout import LAYOUTS


def refuse_other_layout(store: Store) -> None:
    """Refuse a folder that was written in another layout than the one that is asked for.

    Nothing would keep the files of the other one up to date, and nothing would say so.

    Raises:
        SettingsError: it was.
    """
    for other in LAYOUTS.values():
        if other is store.layout or not any(store.has_any(start) for start in other.owned):
            continue
        theirs = ", ".join(f"{start}*" for start in other.owned)
        raise SettingsError(
            f"layout is {store.layout.name}, and {store.url()} was written as {other.name}; set "
            f"layout to {other.name}, choose another output_path, or delete {theirs} there to "
            "have them written anew"
        )
