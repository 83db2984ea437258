"""The media files that belong to an id."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from dedup_assets.errors import InputError
from dedup_assets.store.access import Access
from dedup_assets.store.members import (
    Members,
    extension_of,
    members,
    sample_key,
    shown,
    shown_file,
    stem_of,
)
from dedup_assets.store.source import Source, open_source


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
        path: a folder, searched recursively; local or on S3; it may lie in a zip.
        allow_links: whether links in a local folder may lead out of it.

    Raises:
        InputError: the folder is missing or empty, or has a link that leads out of it.
    """

    def __init__(
        self, path: str, access: Access | None = None, *, allow_links: bool = False
    ) -> None:
        self.store = open_source(path, access, allow_links=allow_links)
        refuse_missing_folder(self.store)
        self.versions = self.store.list_versions("")
        if not self.versions:
            raise InputError(
                f"clips_path {self.store.url()} holds no files; point it at the folder of the "
                "clips, or leave it out for an index of ids only"
            )
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self.versions):
            if stem_of(name) and extension_of(name):
                self._by_stem[stem_of(name)].append(name)

    def match(self, ids: Iterable[Any], shared: Mapping[str, str]) -> dict[Any, Members]:
        """The members of the sample of each id; of one without media, our JSON alone.

        A file belongs to the id that its name up to the first dot is, if that has no dot or
        slash, or whose key it is. Where both give an id the same member, the exact name counts.
        Where a name is one id and the key of another, it belongs to the first if the second has
        files of its own exact name.

        Args:
            ids: clips that need their media.
            shared: ids of the input that are the key of another one, by `keys_of_others`.

        Raises:
            InputError: two ids may own a file, a file cannot be a member, or two would be one.
        """
        return {id_: self._members(id_, shared) for id_ in ids}

    def _members(self, id_: Any, shared: Mapping[str, str]) -> Members:
        text = str(id_)
        key = sample_key(text)
        exact = self._exact(text)
        by_key = self._by_stem.get(key, []) if key != text else []
        if by_key and key in shared:
            if not exact:
                raise self._claimed_twice(by_key[0], key, id_)
            by_key = []
        if exact and text in shared and not self._exact(shared[text]):
            raise self._claimed_twice(exact[0], id_, shared[text])
        found = members(id_, exact, self.store.url())
        if not by_key:
            return found
        taken = {extension.lower() for extension in found if found[extension] is not None}
        rest = [name for name in by_key if extension_of(name).lower() not in taken]
        return found | members(id_, rest, self.store.url())

    def _exact(self, text: str) -> list[str]:
        """The files whose name up to the first dot is this id."""
        # No file is listed under a name with a dot or slash.
        return self._by_stem.get(text, [])

    def _claimed_twice(self, file: str, exact: Any, by_key: Any) -> InputError:
        own = "" if {".", "/"} & set(str(by_key)) else f"name the files of {shown(by_key)} so, or "
        return InputError(
            f"{shown_file(file)} below {self.store.url()} may belong to id {shown(exact)}, which "
            f"is its name, or to id {shown(by_key)}, whose key that is; {own}change one of the ids"
        )
