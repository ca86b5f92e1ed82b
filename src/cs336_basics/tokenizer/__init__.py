"""Byte-level BPE: training (`train_bpe`), text to ids and back (`Tokenizer`), decoding as ids come.

`pretokenize` cuts text, `count` counts the pre-tokens of a file, `bpe` learns merges from the counts, `merge`
applies them, `encode` turns text to ids, `specials` says what becomes of special tokens in it, `codec` is the
tokenizer, `files` its formats on disk, `stream` the streaming decoder, `text` reads text files, `checks` what is
refused. Nothing here imports torch.
"""

from cs336_basics.tokenizer.bpe import train_bpe
from cs336_basics.tokenizer.codec import Tokenizer
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.stream import StreamingDecoder
from cs336_basics.tokenizer.text import read_text, text_size

__all__ = ["StreamingDecoder", "Tokenizer", "TokenizerError", "read_text", "text_size", "train_bpe"]
