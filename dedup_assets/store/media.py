"""Sample keys, and the media files that belong to an id."""

from collections import defaultdict
from typing import Any
from urllib.parse import quote

from dedup_assets.errors import InputError, shown
from dedup_assets.store.access import Access
from dedup_assets.store.source import Source, open_source


def sample_key(id_: Any) -> str:
    """The id, percent-encoded (UTF-8) outside ``[A-Za-z0-9_-]``.

    WebDataset splits a name at its first dot and takes a slash for a folder.
    """
    # quote() never encodes these two, whatever it is told is safe.
    return quote(str(id_), safe="").replace(".", "%2E").replace("~", "%7E")


def refuse_missing_folder(store: Source) -> None:
    """Refuse a clips folder that is not there.

    Raises:
        InputError: it does not exist.
    """
    if not store.exists(""):
        raise InputError(
            f"clips_path {store.url()} does not exist; point it at the folder of the clips, or "
            "leave it out for an index of ids only"
        )


class MediaFiles:
    """The files of a clips folder by the id that they belong to.

    Args:
        path: a folder, searched recursively; local or a URL of fsspec; it may lie in a zip.

    Raises:
        InputError: the folder is missing or empty.
    """

    def __init__(self, path: str, access: Access | None = None) -> None:
        self.store = open_source(path, access)
        refuse_missing_folder(self.store)
        self.versions = self.store.list_versions("")
        if not self.versions:
            raise InputError(
                f"clips_path {self.store.url()} holds no files; point it at the folder of the "
                "clips, or leave it out for an index of ids only"
            )
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self.versions):
            stem, _, extension = name.rpartition("/")[2].partition(".")
            if stem and extension:
                self._by_stem[stem].append(name)

    def of(self, id_: Any) -> dict[str, str]:
        """Files of an id by extension: those whose name up to the first dot is the id's key, or
        the id itself if that has no dot or slash. Empty if there is none.

        Raises:
            InputError: two files have the same name in different folders.
        """
        stems = {sample_key(id_): None}
        raw = str(id_)
        if "." not in raw and "/" not in raw:
            stems[raw] = None
        found: dict[str, str] = {}
        for stem in stems:
            for name in self._by_stem.get(stem, []):
                extension = name.rpartition("/")[2].partition(".")[2]
                if extension in found:
                    raise InputError(
                        f"id {shown(id_)} has two media files, {found[extension]} and {name}, "
                        f"below {self.store.url()}; leave one of them"
                    )
                found[extension] = name
        return found
