"""What the Secure Mapping Layer refuses, each with a stable code.

The code is the class's name: it is what a verdict records and what the documentation has a page
for. `what` and `resolve` stay on the machine where the error was raised.
"""

# The classes carry the names that go on the record, so no Error suffix.


class SmlError(Exception):
    """Anything the mapping or its random function refuses.

    Args:
        what: what was found, and what was expected instead.
        resolve: what the reader can do about it.
    """

    def __init__(self, what: str, resolve: str) -> None:
        super().__init__(what, resolve)
        self.what = what
        self.resolve = resolve

    @property
    def code(self) -> str:
        """The stable name that is recorded: the class's own."""
        return type(self).__name__

    def __str__(self) -> str:
        return f"{self.what} {self.resolve}"


class VrfKeyInvalid(SmlError):
    """A VRF secret or public key that no institution may hold."""


class VrfProofInvalid(SmlError):
    """A VRF proof that is malformed, or does not belong to this key and this alpha."""


class MappingInvalid(SmlError):
    """A mapping that cannot be derived for this model or applied to these tensors."""
