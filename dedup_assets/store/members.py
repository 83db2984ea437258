"""The members of a sample, in a tar or a folder: their names, and which files cannot be one.

The rules are those of webdataset's reader: it splits a name at its first dot, puts extensions
into lower case, raises where a sample has one twice, skips names such as ``__a.b__``, and keeps
``__key__``, ``__url__`` and others of this form for itself.
"""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import polars as pl

from dedup_assets.errors import InputError

JSON = "json"
"""Extension of our own member, which says what is known of the clip."""

MOST_BYTES = 255
"""Of a file name, on the file systems in use."""

_MOST_KEY_BYTES, _PREFIX_BYTES, _DIGITS = 200, 160, 32
_PLAIN = re.compile(f"[A-Za-z0-9_-]{{0,{_MOST_KEY_BYTES}}}")
_UNUSUAL = f"(?s)[^A-Za-z0-9_-]|^.{{{_PREFIX_BYTES}}}"
_SHOWN, _NAMED = 120, 10
_IDS_AT_ONCE = 1 << 16


def sample_key(id_: Any) -> str:
    """The id, percent-encoded (UTF-8) outside ``[A-Za-z0-9_-]``.

    WebDataset splits a name at its first dot and takes a slash for a folder. Of a key over 200
    bytes only the first 160 stay, with a hyphen and 32 digits of the id's SHA-256, so that the
    name of a file has room for an extension.
    """
    text = str(id_)
    if _PLAIN.fullmatch(text):
        return text
    # quote() never encodes these two, whatever it is told is safe.
    key = quote(text, safe="").replace(".", "%2E").replace("~", "%7E")
    if len(key) <= _MOST_KEY_BYTES:
        return key
    return f"{key[:_PREFIX_BYTES]}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"


def sample_keys(ids: pl.Series) -> pl.Series:
    """The `sample_key` of each id."""
    parts = [pl.Series(list(map(sample_key, part)), dtype=pl.String) for part in _parts(ids)]
    return pl.concat(parts) if parts else pl.Series(dtype=pl.String)


def is_unusual(ids: pl.Series) -> pl.Series:
    """Which ids are not their own `sample_key`, or could be one of another id."""
    if ids.dtype.is_integer():
        return pl.repeat(False, len(ids), eager=True)
    return ids.str.contains(_UNUSUAL)


def refuse_shared_keys(ids: pl.Series) -> None:
    """Refuse two ids of one key: a long id, and another that is spelled as the key of that.

    Raises:
        InputError: there are two.
    """
    unusual = ids.filter(is_unusual(ids))
    keys = sample_keys(unusual)
    shortened = keys.str.len_bytes() == _PREFIX_BYTES + 1 + _DIGITS
    keys, unusual = keys.filter(shortened), unusual.filter(shortened)
    twice = keys.is_duplicated()
    if twice.any():
        first, second, *_ = unusual.filter(keys == keys.filter(twice)[0])
        raise InputError(
            f"ids {shown(first)} and {shown(second)} have one sample key; change one of them in "
            "the input"
        )


def keys_of_others(ids: pl.Series) -> dict[str, str]:
    """Of the ids that are the key of another one: that other, by the id. There are hardly any.

    Args:
        ids: those of the input that `is_unusual` picks; of text.
    """
    keys = pl.DataFrame({"key": sample_keys(ids), "id": ids})
    others = keys.filter(pl.col("id") != pl.col("key"))
    return dict(others.join(pl.DataFrame({"key": ids}), on="key", how="semi").rows())


def _parts(ids: pl.Series) -> Iterator[pl.Series]:
    """Some ids at a time, so that there are never Python objects for all of them."""
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids.slice(start, _IDS_AT_ONCE)


def stem_of(file: str) -> str:
    """The name of a file up to its first dot."""
    return file.rpartition("/")[2].partition(".")[0]


def extension_of(file: str) -> str:
    """What follows the first dot, as a member has it: a clip's own JSON does not hide ours."""
    extension = file.rpartition("/")[2].partition(".")[2]
    return f"source.{extension}" if extension.lower() == JSON else extension


Members = dict[str, str | None]
"""Of one sample: the file that each member comes from, by extension; None for our own JSON."""


def members(id_: Any, files: Iterable[str], place: str) -> Members:
    """The members of the sample of an id, by extension; each is called ``{key}.{extension}``.

    Args:
        id_: the clip.
        files: its media files.
        place: where these are, for errors.

    Raises:
        InputError: a file cannot be a member, or two would be one.
    """
    key = sample_key(id_)
    found: Members = {JSON: None}
    taken: dict[str, str] = {}
    for file in files:
        extension = extension_of(file)
        why = _refusal(key, extension)
        if why is not None:
            raise InputError(
                f"{shown_file(file)} below {place} cannot be in the sample of id {shown(id_)}: "
                f"{why}; rename it, or move it out of that folder"
            )
        other = taken.setdefault(extension.lower(), file)
        if other != file:
            raise InputError(
                f"id {shown(id_)} has two media files, {shown_file(other)} and "
                f"{shown_file(file)}, below {place} for one member .{extension.lower()} of its "
                f"sample{_note(other, file)}; leave one of them, or rename it"
            )
        found[extension] = file
    return found


def _refusal(key: str, extension: str) -> str | None:
    """Why ``{key}.{extension}`` cannot be the name of a member."""
    if not key:
        return "the id is empty"
    if why := _refused(extension):
        return why
    if key.startswith("__") and extension.endswith("__"):
        return "webdataset skips names that begin and end with two underscores"
    if len(key) + 1 + len(extension.encode()) > MOST_BYTES:
        return f"the name of the member would be longer than {MOST_BYTES} bytes"
    return None


@functools.lru_cache(maxsize=1024)
def _refused(extension: str) -> str | None:
    """Why no member can have an extension; there are few, and samples by the million."""
    lower = extension.lower()
    if not extension:
        return "it has no extension"
    if "/" in extension or ".." in extension:
        return "its extension has a slash, or two dots in a row"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in extension):
        return "its extension has a control character, or is not UTF-8"
    if lower.startswith("__") and lower.endswith("__"):
        return f"webdataset keeps the name {lower} for itself"
    return None


def _note(*files: str) -> str:
    extensions = {file.rpartition("/")[2].partition(".")[2] for file in files}
    if len(extensions) == 1:
        return ""
    if len({extension.lower() for extension in extensions}) == 1:
        return " (readers ignore the case of extensions)"
    return " (a clip's .json becomes .source.json beside ours)"


def shown(id_: Any) -> str:
    """An id in an error."""
    return _cut(repr(id_))


def shown_some(ids: Sequence[Any] | pl.Series) -> str:
    """The first of some ids in an error."""
    return ", ".join(map(shown, ids[:_NAMED])) + (" ..." if len(ids) > _NAMED else "")


def shown_file(name: str) -> str:
    """The name of a file in an error, which is one line."""
    return _cut(name if name.isprintable() else repr(name))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
