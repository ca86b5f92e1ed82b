"""A text that every Python carries: the documentation of its standard library, as installed."""

import ast
import hashlib
import importlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from cs336_basics.config import ConfigError

END = "<|endoftext|>"


def stdlib_documents() -> dict[str, str]:
    """Name -> text: pydoc's topics, and for each module its docstrings in order, read without importing it.

    A docstring that stands in several places is kept once, so that none is both learned and tested.

    Raises: ConfigError where the installation carries no sources.
    """
    documents = {f"topic {name}": f"{name}\n\n{text.strip()}" for name, text in sorted(_topics().items())}
    seen: set[str] = set()
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if {"site-packages", "dist-packages", "__pycache__"} & set(parts) or any("test" in part for part in parts):
            continue
        name = ".".join(parts).removesuffix(".py").removesuffix(".__init__")
        pieces = [text for text in dict.fromkeys(_docstrings(path)) if text not in seen]
        seen.update(pieces)
        if pieces:
            documents[f"module {name}"] = f"module {name}\n\n" + "\n\n".join(pieces)
    if not documents:
        raise ConfigError(f"text: no Python sources under {root}; give a text file of your own with --text FILE")
    return documents


def split_documents(documents: dict[str, str], *, valid_share: float) -> tuple[str, str]:
    """(train, valid) texts, documents apart by `<|endoftext|>`; whole ones are held out, the same each time.

    Where whole ones make up less than half the share, as where one document is nearly all of the text, the end of
    the longest makes up the rest.

    Raises: ConfigError where no document has two characters, to be cut between.
    """
    names = sorted(documents, key=lambda name: hashlib.sha256(name.encode()).digest())
    limit = valid_share * sum(len(text) for text in documents.values())
    valid: dict[str, str] = {}
    size = 0
    # In a fixed random order, whatever still fits.
    for name in names:
        if size + len(documents[name]) <= limit:
            valid[name] = documents[name]
            size += len(documents[name])
    train = {name: text for name, text in documents.items() if name not in valid}
    if size < limit / 2:
        longest = max(train, key=lambda name: len(train[name]))
        train[longest], valid[longest] = _cut(train[longest], round(limit - size))
    first, second = ("".join(f"{side[name]}\n{END}\n" for name in documents if name in side) for side in (train, valid))
    return first, second


def _cut(text: str, wanted: int) -> tuple[str, str]:
    """(head, tail), the tail about `wanted` characters long: cut at the nearest line end, or where none is near."""
    if len(text) < 2:
        raise ConfigError("text: it must hold a document of two characters or more, so that a part can be held out")
    at = min(max(len(text) - wanted, 1), len(text) - 1)
    ends = (text.rfind("\n", 1, at), text.find("\n", at, len(text) - 1))
    near = [end for end in ends if end > 0 and abs(end - at) <= wanted / 2]
    if not near:
        return text[:at], text[at:]
    end = min(near, key=lambda end: abs(end - at))
    return text[:end], text[end + 1 :]


def read_documents(path: str | Path) -> dict[str, str]:
    """The documents of a UTF-8 text file, apart by `<|endoftext|>`; a text without any is cut every 100 lines.

    Raises: ConfigError where the file cannot be read, is not UTF-8 or is blank.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"text: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"text: {path} must be UTF-8, is not at byte offset {error.start}; convert it") from None
    parts = text.split(END)
    if len(parts) == 1:
        lines = text.splitlines(keepends=True)
        parts = ["".join(lines[at : at + 100]) for at in range(0, len(lines), 100)]
    documents = {f"{number:06}": part.strip("\n") for number, part in enumerate(parts) if part.strip()}
    if not documents:
        raise ConfigError(f"text: {path} must hold text to learn from, got none; name another file")
    return documents


def _topics() -> dict[str, str]:
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return topics


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # templates and files for other versions
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                title = "" if isinstance(node, ast.Module) else f"{_kind(node)} {node.name}\n"
                yield title + text


def _kind(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return "class" if isinstance(node, ast.ClassDef) else "def"
