"""Every component of a Transformer language model as a pure function under a strict shape contract.

Importing this package loads nothing else: ask for the room you need, `cs336_basics.ops.norm`,
`cs336_basics.tokenizer`, `cs336_basics.optim`, ...
"""

from importlib.metadata import version as _version

__version__ = _version("cs336-basics")
