"""An output folder belongs to one dataset, and holds its files in one layout."""

from dedup_assets.errors import SettingsError, StaleError, shown
from dedup_assets.store.filesystem import Store
from dedup_assets.store.layout import LAYOUTS, MANIFEST
from dedup_assets.store.tables import read_info


def refuse_other_dataset(store: Store, dataset: str) -> None:
    """Refuse a folder that holds the results of another dataset, which would be replaced.

    The manifest names its dataset: it is written first, whichever way a run was started.

    Raises:
        SettingsError: it does.
    """
    try:
        owner = (read_info(store, MANIFEST) or {}).get("dataset")
    except StaleError:
        return  # not a table: nobody's, and about to be written anew
    if owner not in (None, dataset):
        raise SettingsError(
            f"{store.url()} holds the results of dataset {shown(owner)}, which those of dataset "
            f"{shown(dataset)} would replace; choose another output_path, set dataset to "
            f"{shown(owner)}, or delete what lies there"
        )


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
