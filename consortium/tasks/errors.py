"""What a task refuses, as one exception tree with stable codes.

Texts name columns, counts and files, never a patient's value.
"""


class TaskError(Exception):
    """Base of the tasks' errors: `what` happened, and how to `resolve` it."""

    def __init__(self, what: str, resolve: str) -> None:
        super().__init__(what)
        self.what = what
        self.resolve = resolve

    def __reduce__(self) -> tuple[type["TaskError"], tuple[str, str]]:
        return type(self), (self.what, self.resolve)

    @property
    def code(self) -> str:
        """Stable name of this kind of error, equal to the class name."""
        return type(self).__name__


class DataCorrupt(TaskError):
    """A data file is truncated, has other columns, or is not the published one."""


class DataInvalid(TaskError):
    """A table does not fit the task's schema."""


class DataMissing(TaskError):
    """A data file is not where it was said to be."""


class DataUnavailable(TaskError):
    """A data file could not be fetched."""


class TaskInvalid(TaskError):
    """A task's folder does not define a task."""


class TaskUncalibrated(TaskError):
    """The limits of a task's checks were not measured."""


class TaskUnknown(TaskError):
    """There is no task of this name, or it does not come in the size asked for."""
