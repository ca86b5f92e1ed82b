"""Every component of a Transformer language model as a pure function under a strict shape contract.

Importing this package loads nothing else: ask for the room you need, `cs336_basics.ops.norm`,
`cs336_basics.tokenizer`, `cs336_basics.optim`, ...
"""


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; import the room it is in")
    from importlib.metadata import version  # slow to load, and few ask

    return version("cs336-basics")
