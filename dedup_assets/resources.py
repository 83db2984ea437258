"""The store as a Dagster resource."""

import dagster as dg

from dedup_assets.store.access import Access
from dedup_assets.store.filesystem import Store
from dedup_assets.store.layout import COSMOS_CURATE


class StoreResource(dg.ConfigurableResource[None]):
    """Files below the output folder of a dataset."""

    output_path: str
    layout: str = COSMOS_CURATE

    def open(self, access: Access) -> Store:
        """The store, after what killed processes left half-written is deleted.

        Args:
            access: credentials; not a part of the resource, whose values the UI shows.
        """
        store = Store(self.output_path, access, self.layout)
        store.sweep()
        return store


def store_key(dataset: str) -> str:
    """The resource key of a dataset's store; datasets share one code location."""
    return f"{dataset}_store"
