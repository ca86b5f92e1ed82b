"""Generated text: whole characters as they come, which joined are the decoded ids; special tokens that stop it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.config import ModelConfig
from cs336_basics.contracts import ContractError
from cs336_basics.generate import generate, generate_text
from cs336_basics.ops.attention import KVCache
from cs336_basics.tokenizer import Tokenizer, TokenizerError
from tests.train.tiny import MODEL, tiny_model

END = "<|end|>"
BYTES = Tokenizer({byte: bytes([byte]) for byte in range(256)}, [], [END])
# Tokens that begin in one character and end in the next.
CROOKED = Tokenizer(
    {**{byte: bytes([byte]) for byte in range(256)}, 256: "é".encode() + b"\xe6", 257: b"\x9d\xb1", 258: b" \xf0\x9f"},
    [],
    [END],
)


class Scripted:
    """A model that says what it is told to, whatever the prompt."""

    def __init__(self, script: list[int], vocab_size: int) -> None:
        self.script = iter(script)
        self.config = ModelConfig(vocab_size=vocab_size, context_length=1000, d_model=2, n_layers=1, n_heads=1)

    def extend(
        self,
        ids: Tensor,
        cache: tuple[KVCache, ...] | None = None,  # noqa: ARG002  # as LanguageModel has it
    ) -> tuple[Tensor, tuple[KVCache, ...]]:
        logits = torch.zeros(ids.shape[0], self.config.vocab_size)
        logits[-1, next(self.script)] = 1.0
        return logits, ()


def told(tokenizer: Tokenizer, script: list[int], **options: Any) -> Iterator[str]:
    model = Scripted(script, tokenizer.vocab_size)
    arguments: dict[str, Any] = {"max_new_tokens": len(script), "temperature": 0.0} | options
    return generate_text(model, tokenizer, "p", **arguments)


def test_text_comes_in_whole_characters() -> None:
    assert list(told(BYTES, list("né東🙂!".encode()))) == ["n", "é", "東", "🙂", "!"]
    assert list(told(CROOKED, [110, 256, 257, 258, 0x99, 0x82])) == ["n", "é", "東", " ", "🙂"]


@given(text=st.text(max_size=30))
@settings(deadline=None, max_examples=30)
def test_pieces_of_any_text_are_its_characters(text: str) -> None:
    assert list(told(BYTES, list(text.encode()))) == list(text)


@given(script=st.lists(st.integers(0, 259), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_pieces_joined_are_the_decoded_ids(script: list[int]) -> None:
    pieces = list(told(CROOKED, script))
    assert "".join(pieces) == CROOKED.decode(script)
    assert all(pieces)


def test_half_a_character_at_the_end_is_marked() -> None:
    script = list("a東".encode())
    assert list(told(BYTES, script, max_new_tokens=3)) == ["a", "\ufffd"]
    assert list(told(BYTES, [*script[:3], 256, 98], stop=(END,))) == ["a", "\ufffd"]


def test_text_of_a_real_model_is_that_of_its_ids() -> None:
    model = tiny_model(replace(MODEL, vocab_size=BYTES.vocab_size))
    prompt = torch.tensor(BYTES.encode("hé"))
    options: dict[str, Any] = {"max_new_tokens": 40, "top_k": 200}
    ids = list(generate(model, prompt, generator=torch.Generator().manual_seed(3), **options))
    text = "".join(generate_text(model, BYTES, "hé", generator=torch.Generator().manual_seed(3), **options))
    assert text == BYTES.decode(ids)
    again = "".join(
        generate_text(model, BYTES, "hé", generator=torch.Generator().manual_seed(3), device="cpu", **options)
    )
    assert again == text


def test_a_special_token_stops_the_text_and_may_be_the_prompt() -> None:
    assert list(told(BYTES, [97, 98, 256, 99], stop=(END,))) == ["a", "b"]
    assert list(told(BYTES, [97, 256, 99])) == ["a", END, "c"]
    options: dict[str, Any] = {"max_new_tokens": 1, "temperature": 0.0}
    stream = generate_text(Scripted([97], 257), BYTES, END, allowed_special="all", **options)
    assert list(stream) == ["a"]
    stream = generate_text(Scripted([97], 257), BYTES, END, disallowed_special="none", **options)
    assert list(stream) == ["a"]


def test_a_special_token_in_a_prompt_is_refused_unless_allowed() -> None:
    with pytest.raises(TokenizerError, match=r"got '<\|end\|>' at index 3; allow it by allowed_special, or"):
        generate_text(tiny_model(), BYTES, f"One{END}", max_new_tokens=1)


def test_a_stop_that_is_no_special_token() -> None:
    with pytest.raises(TokenizerError, match=r"must be one of the special tokens, \['<\|end\|>'\], got str '<eos>'"):
        told(BYTES, [97], stop=("<eos>",))


def test_an_empty_prompt_names_what_may_stand_for_it() -> None:
    with pytest.raises(ContractError, match=r"generate_text: prompt must not be empty; .*one of \['<\|end\|>'\]"):
        generate_text(tiny_model(), BYTES, "", max_new_tokens=1)
