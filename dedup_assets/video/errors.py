"""Errors of this package, apart from the codec so that catching one does not import PyAV."""

from dedup_assets.errors import DedupError


class ClipError(DedupError):
    """A clip cannot be read or written; the message is one line that names the file."""


class SceneError(DedupError):
    """A detector of scenes cannot be had; the message is one line with the next step."""
