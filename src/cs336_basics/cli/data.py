"""The data of a run: opened, and known by what it is rather than by where it lies."""

import shlex
from typing import cast

import numpy as np

from cs336_basics.cli.inputs import is_same
from cs336_basics.cli.tokenizer import holds_tokenizer, load_tokenizer, require_same_tokenizer
from cs336_basics.config import ConfigError, DataConfig
from cs336_basics.data.token_file import open_tokens, read_info
from cs336_basics.tokenizer import Tokenizer
from cs336_basics.train.run import DataIdentity, RunFolder


def open_tokenizer(data: DataConfig, *, resumed: RunFolder | None = None) -> Tokenizer:
    """The tokenizer that the config names; of a resumed run, its own copy, unless another folder is named.

    Raises: ConfigError where the data is not named; TokenizerError for what is no tokenizer.
    """
    for name in ("train", "tokenizer"):
        if not getattr(data, name):
            raise ConfigError(f"data.{name} must be given, as --data.{name} PATH or in a --config file")
    if not resumed:
        return load_tokenizer(data.tokenizer, name="data.tokenizer")
    if holds_tokenizer(resumed.tokenizer) and data.tokenizer == resumed.load_config().data.tokenizer:
        return Tokenizer.load(resumed.tokenizer)
    mend = "say where the one that the run was made with lies: --data.tokenizer FOLDER"
    return load_tokenizer(data.tokenizer, name="data.tokenizer", mend=mend)


def tokenizer_of(folder: RunFolder) -> Tokenizer:
    """A run's own copy of its tokenizer.

    Raises: TokenizerError where it is gone, saying whether the run can be given it back.
    """
    source = folder.load_config().data.tokenizer
    mend = "put back the one that the run was made with"
    if source and not is_same(source, folder.tokenizer) and holds_tokenizer(source):
        resume = shlex.join(["cs336", "train", "--run", str(folder.path), "--resume"])
        mend += f": {resume} copies it from {source}"
    return load_tokenizer(folder.tokenizer, mend=mend)


def open_data(data: DataConfig, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The tokens to learn from and the tokens to evaluate on.

    Raises: TokenizerError for tokens of another tokenizer; DataError for what are none.
    """
    paths = [data.train, data.valid] if data.valid else [data.train]
    for path in paths:
        require_same_tokenizer(tokenizer, data.tokenizer, path)
    tokens = [cast("np.ndarray", open_tokens(path, verify=data.verify)) for path in paths]
    if len(tokens) == 2:
        return tokens[0], tokens[1]
    cut = round(len(tokens[0]) * (1 - data.valid_share))
    return tokens[0][:cut], tokens[0][cut:]


def identify(data: DataConfig, tokenizer: Tokenizer) -> DataIdentity:
    """What the data is, from its sidecars, which `open_data` has held the files to."""
    return DataIdentity(
        tokenizer=tokenizer.fingerprint(),
        train=read_info(data.train).sha256,
        valid=read_info(data.valid).sha256 if data.valid else "",
    )
