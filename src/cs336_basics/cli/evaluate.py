"""`cs336 evaluate`: nats per token, perplexity and bits per byte of a trained model on a text."""

import math
from pathlib import Path

import numpy as np
import torch

from cs336_basics.cli.commands import Evaluate
from cs336_basics.cli.data import identify, open_data, tokenizer_of
from cs336_basics.cli.progress import bar, say, say_next, size
from cs336_basics.cli.train import load_model
from cs336_basics.config import ConfigError, RunConfig
from cs336_basics.data.errors import DataError
from cs336_basics.nn import TransformerLM
from cs336_basics.ops.loss import bits_per_byte
from cs336_basics.tokenizer import Tokenizer, TokenizerError, read_text
from cs336_basics.train.device import choose_device, describe_device
from cs336_basics.train.evaluate import total_nats
from cs336_basics.train.run import RunFolder, require_same_data


def run(command: Evaluate) -> None:
    """Score the run's validation tokens, or a text of the user's."""
    folder, device = RunFolder(Path(command.run)), choose_device(command.device)
    model, config = load_model(folder, device)
    tokenizer = tokenizer_of(folder)
    if command.text:
        chunks = read_text(command.text, where="text")
        tokens = np.fromiter(tokenizer.encode_iterable(chunks, allowed_special="all"), np.int64)
    else:
        tokens = _validation_tokens(folder, config, tokenizer)
    if len(tokens) < 2:
        raise ConfigError(f"text: {command.text} must hold at least two tokens, got {len(tokens)}")
    nats, n_bytes = score(model, tokenizer, tokens, device)
    name = command.text or "validation tokens"
    say(f"{name}: {len(tokens):,} tokens, {size(n_bytes)}, on {describe_device(device)}")
    say(f"  {nats / len(tokens):.4f} nats per token, perplexity {_perplexity(nats / len(tokens))}")
    say(f"  {bits_per_byte(nats, n_bytes=n_bytes):.4f} bits per byte")
    say_next("generate", "--run", folder.path)


def _perplexity(loss: float) -> str:
    """exp(loss); a model that has diverged may have more than a float can hold."""
    try:
        value = math.exp(loss)
    except OverflowError:
        return "inf"
    return f"{value:.2f}" if value < 1e9 else f"{value:.3g}"


def _validation_tokens(folder: RunFolder, config: RunConfig, tokenizer: Tokenizer) -> np.ndarray:
    """The tokens the run was evaluated on, if they are still there and still the same."""
    try:
        tokens = open_data(config.data, tokenizer)[1]
        if recorded := folder.load_data():
            require_same_data(recorded, identify(config.data, tokenizer))
    except (ConfigError, DataError, TokenizerError) as error:
        raise ConfigError(f"the run's own tokens are not to be had ({error}); score a text with --text FILE") from None
    return tokens


def score(model: TransformerLM, tokenizer: Tokenizer, tokens: np.ndarray, device: torch.device) -> tuple[float, int]:
    """(nats, bytes) of all the tokens under the model."""
    with bar(len(tokens), unit="token", label="evaluate") as progress:
        nats = total_nats(
            model,
            tokens,
            context_length=model.config.context_length,
            vocab_size=model.config.vocab_size,
            device=device,
            progress=lambda done: progress.update(done - progress.n),
        )
    lengths = np.array([len(tokenizer.vocab[index]) for index in range(tokenizer.vocab_size)])
    return nats, int(lengths[tokens].sum())
