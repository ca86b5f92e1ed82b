"""Byte-level BPE: training (`train_bpe`), text to ids and back (`Tokenizer`), files to ids (`encode_file`).

`pretokenize` cuts text, `count` counts the pre-tokens of a file, `bpe` learns merges from the counts, `merge`
applies them, `encode` turns text to ids, `specials` says what becomes of special tokens in it, `codec` is the
tokenizer, `files` its formats on disk, `stream` the streaming decoder, `text` reads text files, `checks` what is
refused. `shards` cuts large files for many workers, `corpus` encodes them. `fast` has the twins of all that in
machine code; `engine` and `coder` choose between the two. Nothing here imports torch.
"""

from cs336_basics.tokenizer.bpe import train_bpe
from cs336_basics.tokenizer.codec import Tokenizer
from cs336_basics.tokenizer.corpus import encode_file
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.stream import StreamingDecoder
from cs336_basics.tokenizer.text import read_text, text_size

__all__ = ["StreamingDecoder", "Tokenizer", "TokenizerError", "encode_file", "read_text", "text_size", "train_bpe"]
