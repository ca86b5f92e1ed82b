"""Tokenizers and text shared by this room's tests."""

import json
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import tiktoken

from cs336_basics.tokenizer import Tokenizer, TokenizerError, train_bpe
from cs336_basics.tokenizer.files import from_printable
from cs336_basics.tokenizer.pretokenize import GPT2_PATTERN

END = "<|endoftext|>"


@pytest.fixture(scope="session")
def prose() -> str:
    """130 KB of English and code that every Python brings along."""
    return END.join(text for _, text in sorted(topics.items()))[:130_000]


@pytest.fixture(scope="session")
def small(prose: str, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer of 600 tokens that also knows long runs of one letter and of spaces."""
    path = tmp_path_factory.mktemp("small") / "text.txt"
    path.write_text(prose + f"{END}{'a' * 64}\n{' ' * 64}\n" * 99, encoding="utf-8", newline="")
    return Tokenizer(*train_bpe(path, 600, [END]), [END])


@pytest.fixture(scope="session")
def gpt2(shared_data: Path) -> Tokenizer:
    """GPT-2's tokenizer, read from its files."""
    return Tokenizer.from_files(shared_data / "gpt2" / "vocab.json", shared_data / "gpt2" / "merges.txt", [END])


@pytest.fixture(scope="session")
def oracle(shared_data: Path) -> tiktoken.Encoding:
    """tiktoken with GPT-2's vocabulary."""
    written = json.loads((shared_data / "gpt2" / "vocab.json").read_text(encoding="utf-8"))
    ranks = {from_printable(token, where="vocab.json"): index for token, index in written.items() if token != END}
    return tiktoken.Encoding(
        "gpt2-from-files", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={END: written[END]}
    )


@pytest.fixture
def refused() -> Callable[..., None]:
    """Assert that a call raises TokenizerError with all the words given, in one line."""

    def check(call: Callable[[], object], *words: str) -> None:
        with pytest.raises(TokenizerError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        for word in words:
            assert word in message, message

    return check
