"""`cs336 generate`: continue a prompt, shown as it comes."""

import sys
from pathlib import Path

import torch

from cs336_basics.cli.commands import Generate
from cs336_basics.cli.data import tokenizer_of
from cs336_basics.cli.progress import say_next
from cs336_basics.cli.train import load_model
from cs336_basics.config import ConfigError
from cs336_basics.generate import generate_text
from cs336_basics.train.device import choose_device, describe_device
from cs336_basics.train.run import RunFolder


def run(command: Generate) -> None:
    """Print the prompt and its continuation."""
    folder, device = RunFolder(Path(command.run)), choose_device(command.device)
    model, _ = load_model(folder, device)
    tokenizer = tokenizer_of(folder)
    prompt = command.prompt or "".join(tokenizer.special_tokens[:1])
    if not prompt:
        raise ConfigError("prompt must be given: the tokenizer has no special token to begin with")
    pieces = generate_text(
        model,
        tokenizer,
        prompt,
        max_new_tokens=command.max_new_tokens,
        stop=tokenizer.special_tokens if command.stop is None else command.stop,
        allowed_special=command.allowed_special if command.prompt else "all",
        disallowed_special=command.disallowed_special,
        generator=torch.Generator(device).manual_seed(command.seed),
        temperature=command.temperature,
        top_k=command.top_k,
        top_p=command.top_p,
        min_p=command.min_p,
        device=device,
    )
    first = next(pieces, "")  # so that a model that cannot go on says so before anything is printed
    print(f"on {describe_device(device)}, seed {command.seed}", file=sys.stderr)
    print(prompt, end=first, flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print(flush=True)
    say_next("evaluate", "--run", folder.path, "--text", "FILE", to=sys.stderr)
