"""The one error of this room."""


class TokenizerError(ValueError):
    """A text, an id, a vocabulary or a tokenizer file is unusable; the message names it and the mend."""
