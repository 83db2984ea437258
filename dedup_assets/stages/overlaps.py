"""What a run writes lies apart from what it reads, links resolved."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from dedup_assets.errors import SettingsError
from dedup_assets.settings import SPLIT, Settings
from dedup_assets.store.access import Access, is_remote
from dedup_assets.store.inputs import EXTENSIONS
from dedup_assets.store.local import is_below
from dedup_assets.store.source import Source, open_source
from dedup_assets.store.split import CLIPS, find_split


@dataclass(frozen=True)
class _Place:
    """A path of the user's, with the name of its setting."""

    name: str
    path: str
    access: Access

    @property
    def real(self) -> str:
        """The path with its links resolved, as far as it exists."""
        path = self.path
        return path.rstrip("/") if is_remote(path) else os.path.realpath(path)

    def overlaps(self, other: "_Place") -> bool:
        """Whether one is the other, or lies in it."""
        ours, theirs = self.real, other.real
        if is_remote(ours) != is_remote(theirs):
            return False
        if is_remote(ours):
            return _same_endpoint(self.access, other.access) and (
                f"{ours}/".startswith(f"{theirs}/") or f"{theirs}/".startswith(f"{ours}/")
            )
        return is_below(ours, theirs) or is_below(theirs, ours)

    def __str__(self) -> str:
        real = "" if self.real == self.path.rstrip("/") else f" (which is {self.real})"
        return f"{self.name} {self.path}{real}"


def refuse_overlaps(
    settings: Settings, output_zip: str | None = None, spell: Callable[[str], str] = str
) -> None:
    """Refuse an output or ZIP file that overlaps the input, the clips or the other one.

    Nothing is written. The input is listed only where the output lies in it: in the output of a
    split pipeline that is fine, beside the folders that are read.

    Args:
        settings: with the paths; clips that are found in the input are a part of it.
        output_zip: where the results are to be packed.
        spell: how the user named a setting.

    Raises:
        SettingsError: it does.
        InputError: the output lies in an input that cannot be read.
    """
    reading, writing = settings.storage.input_access, settings.storage.output_access
    output = _Place(spell("output_path"), settings.storage.output_path, writing)
    written = [output]
    given = {
        "video_dir": settings.videos.video_dir,
        "input_embeddings_path": settings.source.input_embeddings_path,
        "clips_path": settings.source.clips_path,
    }
    if settings.begins_with_videos:
        split = _Place(spell("output_clip_path"), settings.split_path, writing)
        beside = _Place("", f"{output.path.rstrip('/')}/{SPLIT}", writing)
        same = split.path.rstrip("/") == output.path.rstrip("/")
        if not same and split.real != beside.real and split.overlaps(output):
            raise _refused(split, output)
        written.append(split)
    read = [_Place(spell(name), path, reading) for name, path in given.items() if path is not None]
    pairs = list(product(written, read))
    if output_zip is not None:
        pairs += product([_Place(spell("output_zip"), output_zip, writing)], [*written, *read])
    for ours, other in pairs:
        if ours.overlaps(other):
            of_split = ours is output and other.path == settings.source.input_embeddings_path
            if of_split and _is_beside_split(settings, output):
                continue
            raise _refused(ours, other)


def refuse_links_to_output(settings: Settings, source: Source) -> None:
    """Refuse links in an input by which a run would read what another one has written.

    Raises:
        SettingsError: there is one.
        InputError: there is one that leads out, where that is not allowed.
    """
    output = _Place("output_path", settings.storage.output_path, settings.storage.output_access)
    for path, real in source.links():
        if output.overlaps(_Place("", real, settings.input_access)):
            raise _refused(output, _Place("the link", path, settings.input_access))


def _is_beside_split(settings: Settings, output: _Place) -> bool:
    path, access = settings.input_path.rstrip("/"), settings.input_access
    source = open_source(path, access)
    split = find_split(source, path, settings.source.input_filetype, tuple(EXTENSIONS.values()))
    if split is None:
        return False
    read = (split.embeddings, f"{path}/{CLIPS}")
    return not any(output.overlaps(_Place("", part, access)) for part in read)


def _refused(written: _Place, other: _Place) -> SettingsError:
    return SettingsError(
        f"{written} and {other} must not overlap: neither may lie in the other; choose another "
        f"{written.name}"
    )


def _same_endpoint(one: Access, other: Access) -> bool:
    """Whether two may reach the same store; a profile may name an endpoint that is not known."""
    ours, theirs = one.known_endpoint, other.known_endpoint
    return ours is None or theirs is None or ours == theirs
