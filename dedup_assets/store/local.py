"""Local paths and files, as the operating system takes them: no URL, no pattern."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dedup_assets.errors import InputError

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def absolute_path(path: str, root: Path) -> str:
    """A path from ``root`` made absolute; ``~/`` is the home folder.

    Links are not resolved: where one points to may change while definitions stay loaded.
    """
    if path == "~" or path.startswith("~/"):
        path = f"{Path.home()}{path[1:]}"
    return os.path.normpath(root / path)


def is_below(path: str, folder: str) -> bool:
    """Whether one resolved path is another one, or lies below it."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def refuse_outside(path: str, real: str, root: str) -> None:
    """Refuse a link that leads out of a folder.

    Args:
        path: the link.
        real: where it leads to.
        root: the folder, which may itself be reached by a link.

    Raises:
        InputError: it leads out of it.
    """
    if not is_below(real, os.path.realpath(root)):
        raise InputError(
            f"{path} leads out of {root}, to {real}; put what it leads to there instead, or, in a "
            "clips folder whose links you trust, set allow_links (--allow-links)"
        )


def stat_of(entry: os.DirEntry[str]) -> os.stat_result:
    """Of what a link leads to; of the link itself where that is not there, so that it is listed
    and to read it fails by name."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def walk(base: str) -> Iterator[tuple[os.DirEntry[str], str | None]]:
    """Files and linked folders below ``base``, and for a link where it leads to.

    Links to folders are followed, each folder once on a way down. There may be millions of files
    and a folder a cluster: each costs one look, and no path is resolved but a link's.
    """
    waiting = [(base, os.path.realpath(base), frozenset[str]())]
    while waiting:
        folder, here, above = waiting.pop()
        above |= {here}
        try:
            with os.scandir(folder) as found:
                entries = list(found)
        except (FileNotFoundError, NotADirectoryError):
            continue  # gone; one that may not be read is not an empty one
        for entry in entries:
            real = os.path.realpath(entry.path) if entry.is_symlink() else None
            if _is_folder(entry):
                target = real or f"{here.rstrip('/')}/{entry.name}"
                if target in above:
                    continue  # a link to where it lies itself
                waiting.append((entry.path, target, above))
                if real is None:
                    continue
            yield entry, real


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is one or leads to one; a link in a circle leads nowhere."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def special_kind(path: str) -> str | None:
    """What a path leads to, such as "a pipe", if it is neither a file nor a folder."""
    try:
        return _special(Path(path).stat())
    except (OSError, ValueError):
        return None  # nothing is there, or nothing that can be looked at


def refuse_special(path: str) -> None:
    """Refuse a path to a pipe, a device or a socket.

    Raises:
        InputError: it is one.
    """
    kind = special_kind(path)
    if kind is not None:
        raise _refused(path, kind)


def open_regular(path: str) -> IO[bytes]:
    """Open a file for reading in binary; one that might never end or never answer is refused.

    Raises:
        InputError: it is a pipe, a device or a socket.
    """
    refuse_special(path)  # to open a device may already do something
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    kind = _special(os.fstat(file.fileno()))
    if kind is not None:  # it was put there just now
        file.close()
        raise _refused(path, kind)
    return file


def _without_waiting(path: str, flags: int) -> int:
    """To open a pipe otherwise waits for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _special(found: os.stat_result) -> str | None:
    kind = stat.S_IFMT(found.st_mode)
    return None if kind in (stat.S_IFREG, stat.S_IFDIR) else _KINDS.get(kind, "a special file")


def _refused(path: str, kind: str) -> InputError:
    return InputError(
        f"{path} is {kind}, and only regular files are read; replace it by a file, or move it away"
    )
