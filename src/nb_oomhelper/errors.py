"""Our own exceptions.

::

    OomHelperError            anything that this package raises on purpose
    ├── UsageError            a magic or function was called with arguments that make no sense
    │   ├── StaleError        what a fix was made for is gone or has changed
    │   └── RowsError         rows that were to be computed apart depend on each other
    ├── KnowledgeError        an entry or fix file is missing, broken or incomplete
    └── DriverError           the NVIDIA driver's library could not answer
"""


class OomHelperError(Exception):
    """Base of every exception raised on purpose here; its text is one plain line for the user."""


class UsageError(OomHelperError):
    """A magic or a public function was called with arguments that make no sense."""


class StaleError(UsageError):
    """What a fix was made for is gone, or is not what it was when the cell failed; nothing was done."""


class RowsError(UsageError):
    """Rows that were to be computed in parts depend on each other, or a part gave something else than its rows."""


class KnowledgeError(OomHelperError):
    """An entry or fix file is missing, broken or incomplete; the text names the file and the key."""


class DriverError(OomHelperError):
    """The NVIDIA driver's library could not answer; the text says why in one line."""
