"""The error of this package, apart from what needs torch."""

from dedup_assets.errors import DedupError


class EmbedError(DedupError):
    """A model cannot be had, or does not embed; the message is one line with the next step."""
