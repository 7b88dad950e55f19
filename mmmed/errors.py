"""Everything that can go wrong through a user's input, as one tree.

    MmmedError                 one clear line: what was given, what was expected, how to mend it
    ├── ConfigError            a name, key or value in a configuration
    ├── DataError              a file or a record of a data set
    │   ├── RecordError        one record; the reader quarantines it and goes on
    │   └── ImageError         one image that cannot be decoded
    ├── WeightsError           a weight reference that cannot be resolved, or a file with a wrong hash
    ├── CheckpointError        a checkpoint that does not fit the model
    ├── PrivacyError           a record that is not known to be free of identifiers; it stops the run
    ├── OutputError            a place that cannot be written to
    ├── AccountError           a user, password or login that is not accepted
    └── SignoffError           a step that a draft's state, lock or reviewer does not allow

The command line prints a `MmmedError` as a single line and exits with 2; any other exception is a
defect of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class MmmedError(Exception):
    """Base of every error caused by input; its text is one line."""


class ConfigError(MmmedError):
    """A name, key or value in a configuration is not usable."""


class DataError(MmmedError):
    """A data set cannot be read."""


class RecordError(DataError):
    """One record is malformed."""


class ImageError(DataError):
    """One image cannot be decoded."""


class WeightsError(MmmedError):
    """Weights cannot be found, fetched or trusted."""


class CheckpointError(MmmedError):
    """A checkpoint does not fit the model it is loaded into."""


class PrivacyError(MmmedError):
    """A record is not known to be free of identifiers."""


class OutputError(MmmedError):
    """A result cannot be written."""


class AccountError(MmmedError):
    """A user, a password or a login is not accepted."""


class SignoffError(MmmedError):
    """A step that a draft's state, its lock or its reviewer does not allow."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Say which known names are near a misspelt one: ``" (did you mean 'align'?)"``, or list them all."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(names)})"
