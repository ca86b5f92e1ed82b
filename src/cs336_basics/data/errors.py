"""The one error of this room."""


class DataError(ValueError):
    """A token file is unusable, or a corpus does not fit what is asked of it; the message names the mend."""
