"""A sample of a trained model, kept in its run folder."""

from pathlib import Path

import torch

from cs336_basics.files import write_text
from cs336_basics.generate import generate_text
from cs336_basics.nn import TransformerLM
from cs336_basics.tokenizer import Tokenizer


def write_sample(
    path: Path, model: TransformerLM, tokenizer: Tokenizer, *, prompt: str, seed: int, device: torch.device
) -> str:
    """Continue the prompt by up to 150 tokens, until a special token; write the whole text and return it.

    Special tokens in the prompt are taken as such: it is the run's own, most often the first of them.
    """
    pieces = generate_text(
        model,
        tokenizer,
        prompt,
        max_new_tokens=150,
        stop=tokenizer.special_tokens,
        allowed_special="all",
        generator=torch.Generator(device).manual_seed(seed),
        temperature=0.7,
        top_p=0.95,
        device=device,
    )
    text = prompt + "".join(pieces) + "\n"
    write_text(path, text)
    return text
