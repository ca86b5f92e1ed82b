"""The rules of the house, read off the syntax tree: each takes a file and returns its faults."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cs336_basics.contracts import AXES

# Lowest floor first; what each room may import. Arrows only point down.
ROOMS: dict[str, set[str]] = {
    "contracts": set(),
    "files": set(),
    "config": {"contracts"},
    "accounting": {"contracts", "config"},
    "ops": {"contracts"},
    "kernels": {"contracts", "ops"},
    "nn": {"contracts", "config", "ops"},
    "optim": {"contracts"},
    "tokenizer": {"contracts", "files"},
    "data": {"contracts", "files"},
    "generate": {"contracts", "config", "ops", "nn", "tokenizer"},
    "interop": {"contracts", "config", "nn", "tokenizer"},
}
ROOMS["train"] = {*ROOMS}
ROOMS["cli"] = {*ROOMS}

FOREIGN = ("torch.nn", "torch.optim", "torch.ops", "torch._C")
ALLOWED = {
    *(f"torch.nn.{name}" for name in ("Module", "Parameter", "Sequential", "init.trunc_normal_")),
    *(f"torch.nn.{name}" for name in ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict")),
    *("torch.optim.Optimizer", "torch.optim.optimizer.Optimizer", "torch.optim.optimizer.ParamsT"),
}
ALLOWED_MODULES = {"torch.nn", "torch.nn.init", "torch.optim", "torch.optim.optimizer"}
LABELLED_BACKENDS = {"kernels": {"torch.nn.functional", "torch.nn.functional.scaled_dot_product_attention"}}
# torch.nn.functional under other names: functions of torch, methods of tensors.
METHODS = {"softmax", "log_softmax", "logsumexp"}
TWINS = METHODS | {"rms_norm", "layer_norm", "embedding", "dropout"}

CODES = r"(\[[\w, -]*\]|: ?[A-Z]+\d+(, ?[A-Z]+\d+)*)?"
OFF = re.compile(rf"#?\s*(type: ignore|(ruff: )?noqa|pragma: no cover){CODES}")
CONDITIONAL = {"pytest.mark.skipif", "pytest.mark.xfail"}  # their first argument is a condition
PASSED_OVER = CONDITIONAL | {"pytest.mark.skip", "pytest.skip", "pytest.xfail"}

SHAPED = re.compile(r"(Shaped|Bool|Num|Inexact|Float|BFloat|Complex|Integer|Int|UInt|Real)\d*")


class File(NamedTuple):
    path: Path  # below the package
    text: str

    @property
    def room(self) -> str:
        return self.path.parts[0].removesuffix(".py")

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


def upward_imports(file: File) -> list[str]:
    """Imports of a room that the importing room may not know; imports inside functions count."""
    faults = []
    allowed = {file.room} | ROOMS.get(file.room, set())
    if file.room not in ROOMS and file.room != "__init__":
        faults.append(f"{file.path}: room {file.room} stands on no floor: enter it in ROOMS and DESIGN")
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            faults.append(f"{file.path}:{node.lineno}: a relative import hides its room")
    for name, line in _imported(file.tree):
        package, _, rest = name.partition(".")
        room = rest.split(".")[0]
        if package == "cs336_basics" and room in ROOMS and room not in allowed:
            faults.append(f"{file.path}:{line}: {file.room} must not import {room}")
    return faults


def borrowed_definitions(file: File) -> list[str]:
    """Uses of what torch.nn and torch.optim define, however they are named."""
    welcome = ALLOWED_MODULES | LABELLED_BACKENDS.get(file.room, set())
    faults = []
    for name, line in _used(file.tree):
        parts = name.split(".")
        prefixes = {".".join(parts[: n + 1]) for n in range(len(parts))}
        foreign = not prefixes.isdisjoint(FOREIGN) and name not in welcome and prefixes.isdisjoint(ALLOWED)
        twin = parts[-1] in {"torch": TWINS, "?": METHODS}.get(parts[0], ())
        if foreign or twin:
            faults.append(f"{file.path}:{line}: {name.replace('?', 'Tensor')} is not ours")
    return faults


def unknown_axes(file: File) -> list[str]:
    """Axis names outside the glossary, and `...`, which would let a result lose an axis."""
    faults = []
    for shape, line in shapes(file.tree):
        if "..." in shape:
            faults.append(f"{file.path}:{line}: '...' in {shape!r}; name the axes, as in '*batch seq'")
        unknown = sorted(set(re.findall(r"[A-Za-z_]\w*", shape)) - set(AXES))
        faults += [f"{file.path}:{line}: axis {name!r} is not in the glossary" for name in unknown]
    return faults


def hidden_annotations(file: File) -> list[str]:
    """The future import turns annotations into text, which hides shapes from the checks."""
    names = {name for name, _ in _imported(file.tree)}
    return [f"{file.path}: imports annotations from __future__"] if "__future__.annotations" in names else []


def too_long(file: File) -> list[str]:
    lines = file.text.count("\n")
    return [f"{file.path}: {lines} lines, must be under 300"] if lines >= 300 else []


def bare_operations(file: File) -> list[str]:
    """Public functions of `ops` and `kernels` that see tensors without a contract, or hide their shapes and errors."""
    if file.room not in ("ops", "kernels") or file.path.name.startswith("_"):
        return []
    faults = []
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or _is_property(node):
            continue
        annotations = [arg.annotation for arg in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
        if not any("Tensor" in ast.unparse(annotation) for annotation in [*annotations, node.returns] if annotation):
            continue
        place = f"{file.path}:{node.lineno}: {node.name}"
        if not node.decorator_list or not re.match(r"contract\b", ast.unparse(node.decorator_list[0])):
            faults.append(f"{place} must carry @contract, outermost")
        documented = ast.get_docstring(node) or ""
        faults += [f"{place} must say its {part}" for part in ("Shapes:", "Raises:") if part not in documented]
    return faults


def unreasoned(file: File) -> list[str]:
    """Checks switched off, and tests passed over, without a word beside them that says why."""
    faults = []
    for token in tokenize.generate_tokens(io.StringIO(file.text).readline):
        if token.type == tokenize.COMMENT and OFF.search(token.string):
            reason = OFF.sub("", token.string)
            if not re.search(r"\w{2}", reason):
                faults.append(f"{file.path}:{token.start[0]}: {token.string!r} needs its reason: `  # reason` after it")
    tree = file.tree
    known, called = _meanings(tree), {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Name) or (name := _full_name(node, known)) not in PASSED_OVER:
            continue
        if not _has_reason(called.get(id(node)), positional=name not in CONDITIONAL):
            faults.append(f"{file.path}:{node.lineno}: {name} needs a reason")
    return faults


RULES = (upward_imports, borrowed_definitions, unknown_axes, hidden_annotations, too_long, bare_operations, unreasoned)


def shapes(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The text of every jaxtyping annotation: Float[Tensor, "text"]."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and len(node.slice.elts) == 2:
            kind = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            text = node.slice.elts[1]
            if SHAPED.fullmatch(kind) and isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.value, node.lineno


def _imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The full name of everything imported anywhere in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _used(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every name imported, every dotted name in full, and dotted names in strings; `?` where the root is a value."""
    known = _meanings(tree)
    yield from _imported(tree)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            yield _full_name(node, known) or f"?.{node.attr}", node.lineno
        elif isinstance(node, ast.Constant) and re.fullmatch(r"torch(\.\w+)+", str(node.value)):
            yield str(node.value), node.lineno


def _meanings(tree: ast.Module) -> dict[str, str]:
    """What each local name stands for: import torch.nn as n, from torch import nn, N = torch.nn."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = _full_name(node.value, known)
            known |= {node.targets[0].id: name} if name else {}
    return known


def _full_name(node: ast.expr, known: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        root = _full_name(node.value, known)
        return f"{root}.{node.attr}" if root else None
    return None


def _is_property(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)


def _has_reason(call: ast.Call | None, *, positional: bool) -> bool:
    if call is None:
        return False
    given = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
    given += call.args[:1] if positional else []
    return any(not isinstance(value, ast.Constant) or bool(str(value.value or "").strip()) for value in given)
