"""Weights for other programs: safetensors, with the SHA-256 of what it holds."""

import hashlib
import json
import os

from safetensors.torch import save
from torch import nn

from cs336_basics.config import ModelConfig, to_dict
from cs336_basics.files import whole_file
from cs336_basics.train.errors import SaveError


def export_safetensors(model: nn.Module, path: str | os.PathLike[str], *, config: ModelConfig) -> None:
    """Write a model's weights under the names of its state_dict, whole or not at all.

    The metadata hold the model's config as JSON, and `sha256` of all bytes behind the header: safetensors itself
    notices no damage there.

    Raises: SaveError where the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    about = {"format": "pt", "config": json.dumps(to_dict(config))}
    digest = hashlib.sha256(_behind_header(save(tensors, about))).hexdigest()
    try:
        with whole_file(path) as file:
            file.write(save(tensors, {**about, "sha256": digest}))
    except OSError as error:
        raise SaveError(f"export_safetensors: {path} cannot be written: {error.strerror or error}") from None


def _behind_header(content: bytes) -> memoryview:
    return memoryview(content)[8 + int.from_bytes(content[:8], "little") :]
