"""Generation of one sequence: through the cache, against computing the whole sequence anew for each token."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import torch

from cs336_basics.generate import generate
from cs336_basics.nn.model import TransformerLM
from tests.bench.measure import Figure, compare
from tests.bench.train import SMALL, TINY

PROMPT: Final = 16
NEW: Final = 64


def figures(rounds: int) -> Iterator[Figure]:
    """Greedy generation after a prompt of 16 tokens."""
    for name, config in (("small", SMALL), ("tiny", TINY)):
        model = TransformerLM(config, generator=torch.Generator().manual_seed(0))
        prompt = torch.randint(config.vocab_size, (PROMPT,))
        candidates = {"cached": cached(model, prompt), "uncached": uncached(model, prompt)}
        figure = compare("generate", f"{NEW} tokens, {name}", candidates, rounds=rounds)
        yield replace(figure, rates={"cached tokens/s": NEW / figure.seconds["cached"]})


def cached(model: TransformerLM, prompt: torch.Tensor) -> Callable[[], object]:
    return lambda: list(generate(model, prompt, max_new_tokens=NEW, temperature=0.0))


def uncached(model: TransformerLM, prompt: torch.Tensor) -> Callable[[], object]:
    def call() -> object:
        ids = prompt
        with torch.no_grad():
            for _ in range(NEW):
                ids = torch.cat((ids, model(ids)[-1].argmax().reshape(1)))
        return ids

    return call
