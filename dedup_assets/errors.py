"""Errors a user can act on: one line with the rule, the value, the place and the next step."""


class DedupError(Exception):
    """Base of every error that the user, not the program, has to mend."""


class SettingsError(DedupError):
    """A setting, flag or partition key is outside its rule."""


class InputError(DedupError):
    """The input files break a rule (missing column, invalid row, duplicate id, ...)."""


class StaleError(DedupError):
    """An artifact that this step reads is missing, or was made from something else."""


class IntegrityError(DedupError):
    """A promise of the product does not hold for the artifacts found (rows lost, say)."""


class LockedError(DedupError):
    """Another run is writing what this one would write or read."""


class StorageError(DedupError):
    """A store refused a request, kept failing, or holds a damaged file."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
