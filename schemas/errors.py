"""Errors that a user can act upon; the command line prints their message and exits with their code."""

from schemas.credentials import redacted


class ColignError(Exception):
    """The work failed (exit code 1). The message says where, what was expected, what was found, and the remedy.

    Messages are shown, logged and stored, so credentials in URLs, as libraries put into theirs, are left out.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class InputError(ColignError):
    """Something given by the user is wrong (exit code 2); nothing half-written is left, finished tasks stay."""

    exit_code = 2


class RangeError(InputError):
    """A value does not fit the type in which it is stored."""


class SchemaError(InputError):
    """A dataset breaks its schema; the message lists every violation at once."""


class BudgetError(InputError):
    """The plan needs more memory or disk than the machine is allowed to use."""


class StoreError(ColignError):
    """A store is missing, damaged, of another version or cannot be written."""


class WorkersError(ColignError):
    """Workers, or what hands out their tasks, are gone."""


class TaskError(ColignError):
    """A task failed; the message names its key and the cause."""
