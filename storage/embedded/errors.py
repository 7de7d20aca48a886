"""What goes wrong with the embedded servers, in words for the person who started them."""

from storage.ports import StorageError


class StartFailed(StorageError):
    """An embedded server did not come up; where it said something itself, the message ends with that."""
