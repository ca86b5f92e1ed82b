"""`cs336 accounting`: what a model costs, before it is built."""

import dataclasses
from pathlib import Path

from cs336_basics.accounting import (
    GPT2_SIZES,
    Precision,
    flops,
    format_table,
    kv_cache_bytes,
    parameters,
    table_rows,
    training_memory,
)
from cs336_basics.cli.commands import Accounting
from cs336_basics.cli.progress import memory, say, say_next
from cs336_basics.config import ModelConfig, OptimizerConfig
from cs336_basics.train.run import RunFolder


def run(command: Accounting) -> None:
    """Print the GPT-2 table, or one model part by part."""
    optimizer = OptimizerConfig(name=command.optimizer)
    if command.what == "gpt2" and not command.run:
        rows = table_rows(GPT2_SIZES, batch_size=command.batch_size, optimizer=optimizer)
        say(format_table(rows))
        say()
        say(
            "GPT-2's sizes in this library's architecture; FLOPs of one sequence as long as the context, forward (the "
            "backward pass takes twice as many);\nGiB (2**30 bytes) of a float32 training step with "
            f"{command.optimizer} at batch size {command.batch_size}."
        )
        say_next("accounting", "model", "--model.d-model", 768, "--model.n-layers", 12)
        return
    if not command.run:
        _one_model(command.model, command.batch_size, optimizer, ("float32", "bfloat16"))
        data = ("--data.train", "FILE", "--data.tokenizer", "FOLDER")
        say_next("train", "--run", "runs/mine", *data, *_flags(command.model))
        return
    config = RunFolder(Path(command.run)).load_config()
    optimizer = dataclasses.replace(config.optimizer, name=command.optimizer)
    dtype = config.train.dtype
    _one_model(config.model, command.batch_size, optimizer, ("float32", "bfloat16") if dtype == "auto" else (dtype,))
    say_next("generate", "--run", command.run)


def _one_model(
    config: ModelConfig, batch_size: int, optimizer: OptimizerConfig, precisions: tuple[Precision, ...]
) -> None:
    counted = parameters(config)
    say(f"parameters  {counted.total:>15,}  ({counted.non_embedding:,} without the vocabulary tables)")
    for name, number in dataclasses.asdict(counted).items():
        say(f"  {name.replace('_', ' '):24}{number:>15,}")
    work = flops(config, batch_size=batch_size)
    tokens = batch_size * config.context_length
    say(f"FLOPs of a forward pass over {batch_size} x {config.context_length} tokens: {work.forward_flops:,}")
    for name, number in dataclasses.asdict(work).items():
        say(f"  {name.removesuffix('_flops').replace('_', ' '):24}{number / work.forward_flops:>15.1%}")
    say(f"FLOPs to train on one token: {work.total_flops // tokens:,}")
    for dtype in precisions:
        parts = training_memory(config, batch_size=batch_size, dtype=dtype, optimizer=optimizer)
        say(f"memory of a training step, {dtype}, {optimizer.name}: {memory(parts.total_bytes)}")
        for name, number in dataclasses.asdict(parts).items():
            say(f"  {name.removesuffix('_bytes').replace('_', ' '):24}{memory(number):>15}")
    say(f"KV cache of a full context, float32: {memory(kv_cache_bytes(config, batch_size=batch_size))}")
    say("(memory in powers of 1024: 1 GiB is 2**30 bytes)")


def _flags(config: ModelConfig) -> list[str]:
    """What to add to `cs336 train` to get this model; the size of the vocabulary is the tokenizer's."""
    words: list[str] = []
    for name, value in vars(config).items():
        if name == "vocab_size" or value == getattr(ModelConfig(), name):
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--model.{option}" if value else f"--model.no-{option}")
        else:
            words += [f"--model.{option}", str(value)]
    return words
