"""Decoding ids as they come, for text that appears while it is generated."""

import codecs

from cs336_basics.tokenizer.codec import Tokenizer


class StreamingDecoder:
    """Turns ids into text one by one, never showing a part of a character.

    All that `push` returned, and then `finish`, joined, is what `decode` makes of all the ids.

    >>> tokenizer = Tokenizer({byte: bytes([byte]) for byte in range(256)}, [])
    >>> decoder = StreamingDecoder(tokenizer)
    >>> [decoder.push(index) for index in "né".encode()], decoder.finish()
    (['n', '', 'é'], '')
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The whole characters that this id completes; bytes that are no UTF-8 become U+FFFD.

        Raises: TokenizerError on an id outside the vocabulary.
        """
        return self._decoder.decode(self._tokenizer.decode_bytes([token_id]))

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed. The next push begins anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
