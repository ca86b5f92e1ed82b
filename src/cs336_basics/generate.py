"""From a prompt to its continuation: prefill once, then one token at a time through the KV cache."""

from collections.abc import Collection, Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from cs336_basics.config import ModelConfig
from cs336_basics.contracts import contract, require
from cs336_basics.ops.attention import KVCache
from cs336_basics.ops.sampling import sample
from cs336_basics.tokenizer import StreamingDecoder, Tokenizer
from cs336_basics.tokenizer.specials import Specials


@runtime_checkable
class LanguageModel(Protocol):
    """What generation needs of a model; `nn.TransformerLM` is one."""

    @property
    def config(self) -> ModelConfig: ...

    def extend(self, ids: Tensor, cache: tuple[KVCache, ...] | None = None) -> tuple[Tensor, tuple[KVCache, ...]]: ...


@contract
def generate(
    model: LanguageModel,
    prompt: Int[Tensor, "seq"],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Iterator[int]:
    """Yield x_{t+1} ~ sample(model(x_1 ... x_t)) until a stop id (not yielded) or max_new_tokens of them.

    While prompt and continuation fit the context, the ids are those of the uncached model (its logits agree up
    to rounding). Where they do not, the model sees the last context_length tokens of the prompt, and each time
    its context is full it goes on from the later half.

    Shapes: prompt (seq,), on the model's device.
    Raises: ContractError for an empty prompt, if max_new_tokens < 0, or, with the first token, for an option of
        `sample` or an id outside the vocabulary.
    Source: Radford et al. 2019 (GPT-2), with the cache of Shazeer 2019, arXiv:1911.02150.
    """
    require(prompt.shape[0] > 0, "generate: prompt must hold at least one token, got none")
    require(max_new_tokens >= 0, "generate: max_new_tokens must be at least 0, got {}", max_new_tokens)
    context = model.config.context_length

    def ids() -> Iterator[int]:
        seen, pending = prompt[-context:].tolist(), prompt[-context:]
        cache: tuple[KVCache, ...] | None = None
        for _ in range(max_new_tokens):
            if len(seen) > context:
                seen = seen[-max(1, context // 2) :]
                pending, cache = torch.tensor(seen, device=prompt.device), None
            with torch.no_grad():
                logits, cache = model.extend(pending, cache)
                drawn = sample(
                    logits[-1], generator=generator, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
                )
            token = int(drawn)
            if token in stop_ids:
                return
            yield token
            seen.append(token)
            pending = drawn.reshape(1)

    return ids()


@contract
def generate_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_new_tokens: int,
    stop: Collection[str] = (),
    allowed_special: Specials = "none",
    disallowed_special: Specials = "all",
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    device: torch.device | str | None = None,
) -> Iterator[str]:
    """Yield the continuation of `prompt` as it comes, in pieces of whole characters; `stop` names special tokens.

    Pieces joined are the decoded ids of `generate`; the prompt is not repeated. `device` is the model's. A prompt may
    come from anybody, so a special token in it is refused unless `allowed_special` says otherwise: the two options
    are those of `Tokenizer.encode`.

    Raises: ContractError as `generate`; TokenizerError for a stop that is no special token of the tokenizer, and for
        a special token in the prompt that is not allowed.
    """
    prompt_ids = tokenizer.encode(prompt, allowed_special=allowed_special, disallowed_special=disallowed_special)
    mend = "a special token will do, if it is allowed: one of {}"
    require(len(prompt_ids) > 0, "generate_text: prompt must not be empty; " + mend, list(tokenizer.special_tokens))
    stop_ids = frozenset(tokenizer.special_id(token) for token in stop)
    ids = generate(
        model,
        torch.tensor(prompt_ids, device=device),
        max_new_tokens=max_new_tokens,
        stop_ids=stop_ids,
        generator=generator,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
    )

    def pieces() -> Iterator[str]:
        decoder = StreamingDecoder(tokenizer)
        for token in ids:
            if piece := decoder.push(token):
                yield piece
        if piece := decoder.finish():
            yield piece

    return pieces()
