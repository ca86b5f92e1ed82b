"""The plugin in mypy: its cache, its failures, and that it leaves alone what is not its own.

torch and jaxtyping are stubs of a few lines here, so that a run takes a moment. Which calls are accepted and which are
rejected, with the real ones, is in `tests/typing`.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mypy import api
from mypy.types import Type

from cs336_basics.contracts import mypy as plugin_module
from cs336_basics.contracts.plugin import calls, carry

STUBS = {
    "jaxtyping.py": "from typing import Annotated as Float, Annotated as Int\n",
    "torch.pyi": "class Tensor: ...\n",
}

LIBRARY = """
from typing import NamedTuple
from jaxtyping import Float
from torch import Tensor

Vector = Float[Tensor, "n"]

class Pair(NamedTuple):
    one: Float[Tensor, "a b"]
    other: Float[Tensor, "b c"]

def turned(x: Float[Tensor, "a b"]) -> Float[Tensor, "b a"]: ...
def both(x: Float[Tensor, "a b"], y: Float[Tensor, "b a"]) -> tuple[Float[Tensor, "a a"], Float[Tensor, "b"]]: ...
def pair(x: Float[Tensor, "a b"]) -> Pair: ...
def vector(x: Vector) -> Vector: ...
"""

PROGRAM = """
from jaxtyping import Float
from torch import Tensor
from library import Pair, both, pair, turned, vector

def use(x: Float[Tensor, "p q"], v: Float[Tensor, "p"]) -> None:
    turned(v)
    both(x, x)
    vector(x)
    square, row = both(x, turned(x))
    vector(square)
    turned(row)
    Pair(x, x)
    turned(pair(x).one)
    vector(pair(x).other)
"""

WRONG = {
    7: "turned: x must be",
    8: "both: y must be",
    9: "vector: x must be",
    11: "vector: x must be",
    12: "turned: x must be",
    13: "Pair: other must be",
    15: "vector: x must be",
}

SETTINGS = """
[mypy]
strict = True
plugins = cs336_basics.contracts.mypy
disable_error_code = empty-body
[mypy-jaxtyping]
implicit_reexport = True
"""

Run = Callable[..., dict[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run mypy over `program.py` of a folder, with one cache; what it says, by line."""
    monkeypatch.chdir(tmp_path)
    for name, text in (STUBS | {"library.py": LIBRARY, "program.py": PROGRAM}).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(SETTINGS, encoding="utf-8")

    def checked(program: str = "program.py") -> dict[int, str]:
        out, err, _ = api.run(["--no-error-summary", "--no-pretty", "--show-traceback", program])
        assert not err
        lines = [line.split(":", 2) for line in out.splitlines()]
        assert {name for name, *_ in lines} <= {program}, out
        return {int(number): said.strip() for _, number, said in lines}

    return checked


def assert_says(found: dict[int, str], expected: dict[int, str]) -> None:
    assert found.keys() == expected.keys(), found
    for line, text in expected.items():
        assert found[line].startswith(f"error: {text}"), found[line]
        assert found[line].endswith("[shape]"), found[line]


def test_shapes_come_through_the_cache(run: Run, tmp_path: Path) -> None:
    cold = run()
    assert_says(cold, WRONG)
    assert run() == cold  # nothing is checked: mypy repeats what it said
    (tmp_path / "program.py").write_text(PROGRAM + "later = 1\n", encoding="utf-8")
    assert run() == cold  # the program alone is checked, against a library from the cache
    (tmp_path / "again.py").write_text(PROGRAM, encoding="utf-8")
    assert run("again.py") == cold


def test_a_shape_changed_in_one_file_is_seen_in_another(run: Run, tmp_path: Path) -> None:
    run()
    (tmp_path / "library.py").write_text(
        LIBRARY.replace('Vector = Float[Tensor, "n"]', 'Vector = Float[Tensor, "n m"]')
    )
    found = run()
    assert 9 not in found
    assert 11 not in found
    assert 15 not in found
    (tmp_path / "library.py").write_text(LIBRARY.replace('(x: Float[Tensor, "a b"]) -> Pair', "(x: Tensor) -> Pair"))
    assert_says(run(), WRONG)


def test_what_another_version_of_the_plugin_cached_is_checked_anew(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgets(self: carry.Carried, annotation: object, unmarked: Type) -> Type:  # noqa: ARG001 - as the real one
        return unmarked

    with monkeypatch.context() as older:
        older.setattr(plugin_module, "_VERSION", "older")
        older.setattr(carry.Carried, "analyze", forgets)
        found = run()
        assert not {7, 8} & found.keys()
    assert_says(run(), WRONG)


def test_a_join_of_two_shapes_takes_nothing_off_a_signature(run: Run, tmp_path: Path) -> None:
    joining = """
from jaxtyping import Float
from torch import Tensor

def joins(x: Float[Tensor, "a b"], y: Float[Tensor, "a"], flag: bool) -> Float[Tensor, ""]:
    z = x if flag else y
    pair = (x, y)
    for each in pair:
        z = each
    joins(x, x, flag)
    joins(z, z, flag)
    return x if flag else y
"""
    (tmp_path / "joining.py").write_text(joining, encoding="utf-8")
    assert_says(run("joining.py"), {10: "joins: y must be"})
    (tmp_path / "joining.py").write_text(joining.replace("joins(x, x, flag)", ""), encoding="utf-8")
    assert run("joining.py") == {}
    using = """
from jaxtyping import Float
from torch import Tensor
from joining import joins

def uses(x: Float[Tensor, "p"]) -> None:
    joins(x, x, True)
"""
    (tmp_path / "using.py").write_text(using, encoding="utf-8")
    assert_says(run("using.py"), {7: "joins: x must be"})


def test_any_other_annotated_is_as_ever(run: Run, tmp_path: Path) -> None:
    program = """
import typing
from typing import Annotated
import jaxtyping as jt
from torch import Tensor

text = "n"

def plain(a: Annotated[int, "n"], b: typing.Annotated[Tensor, "n"], c: jt.Float[Tensor, text]) -> Annotated[str, 3]:
    return "a"

def shaped(x: jt.Float[Tensor, "n n"], y: jt.Float[jt.Float[Tensor, "n"], "m"], z: jt.Float[Tensor, "n,"]) -> None:
    plain(1, x, x)
    shaped(y, x, x)
    shaped(z, x, x)
    plain("1", x, x)
    a: Annotated[int] = 1
    reveal_type(x)
    reveal_type(plain(a, x, x))
"""
    (tmp_path / "other.py").write_text(program, encoding="utf-8")
    found = run("other.py")
    assert found.keys() == {16, 17, 18, 19}
    assert "incompatible type" in found[16]
    assert "Annotated[...] must have exactly one type argument" in found[17]
    assert 'Revealed type is "torch.Tensor"' in found[18]
    assert 'Revealed type is "str"' in found[19]


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("owner", "method"),
    [(calls.Calls, "end"), (calls.Calls, "begin"), (carry.Carried, "analyze"), (carry.Carried, "form")],
)
def test_a_failure_is_told_once_and_mypy_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(owner, method, fails)
    (tmp_path / "program.py").write_text(PROGRAM + '    turned("text")\n', encoding="utf-8")
    out, err, status = api.run(["--no-error-summary", "--no-pretty", "program.py"])
    assert status == 1
    assert not err
    assert out.count("shapes are not checked from here on: RuntimeError: out of order") <= 1
    assert (method == "form") or out.count("note: shapes are not checked from here on") == 1
    assert 'program.py:16: error: Argument 1 to "turned" has incompatible type "str"; expected "Tensor"' in out
    assert out.count("error:") == 1


def test_overloads_are_chosen_by_shape(run: Run, tmp_path: Path) -> None:
    program = """
from typing import overload
from jaxtyping import Float
from torch import Tensor

@overload
def norm(x: Float[Tensor, "n"]) -> float: ...
@overload
def norm(x: Float[Tensor, "n m"]) -> Float[Tensor, "n"]: ...  # type: ignore[overload-cannot-match]
def norm(x: Tensor) -> float | Tensor: ...

def uses(v: Float[Tensor, "p"], m: Float[Tensor, "p q"], t: Float[Tensor, "p q r"]) -> None:
    one: float = norm(v)
    many: Tensor = norm(m)
    norm(norm(m))
    norm(t)
"""
    (tmp_path / "over.py").write_text(program, encoding="utf-8")
    assert_says(run("over.py"), {16: "norm: x must be"})


ALIASES = {
    "forward": 'Many = list["Matrix"]\nMatrix = Float[Tensor, "a b"]',
    "recursive": 'Matrix = Float[Tensor, "a b"]\nRec = Union[Matrix, List["Rec"]]',
    "recursive_forward": 'Rec = Dict[str, Union["Matrix", "Rec"]]\nMatrix = Float[Tensor, "a b"]',
    "in_classes": """
T = TypeVar("T", bound="Float[Tensor, 'a']")
class Has(Protocol):
    def has(self, x: "Matrix") -> "Has": ...
class Holds(Generic[T]):
    x: "Holds[Vector]"
Vector = Float[Tensor, "a"]
Matrix = Float[Tensor, "a b"]
Keyed = TypedDict("Keyed", {"a": "Matrix"})
Named = NamedTuple("Named", [("a", "Matrix")])
Called = Callable[["Matrix"], "Called"]
""",
    "unused": 'Matrix = Float[Tensor, "a b"]',
    "of_another": 'Many = list["Again"]\nMatrix = Float[Tensor, "a b"]\nAgain = Matrix',
}


@pytest.mark.parametrize("aliases", ALIASES.values(), ids=ALIASES)
def test_aliases_are_read_before_they_are_made_and_within_themselves(run: Run, tmp_path: Path, aliases: str) -> None:
    library = f"from typing import *\nfrom jaxtyping import Float\nfrom torch import Tensor\n{aliases}\n"
    (tmp_path / "aliases.py").write_text(library, encoding="utf-8")
    program = """
from jaxtyping import Float
from torch import Tensor
from aliases import Matrix

def matrix(x: Matrix) -> Matrix: ...

def uses(x: Float[Tensor, "p q"], v: Float[Tensor, "p"]) -> None:
    matrix(matrix(x))
    matrix(v)
"""
    (tmp_path / "uses.py").write_text(program, encoding="utf-8")
    assert_says(run("uses.py"), {10: "matrix: x must be"})
    (tmp_path / "uses.py").write_text(program + "later = 1\n", encoding="utf-8")
    assert_says(run("uses.py"), {10: "matrix: x must be"})  # with the aliases from the cache


def test_a_type_within_itself_ends_no_check_of_shapes(run: Run, tmp_path: Path) -> None:
    program = """
from typing import List, Tuple, Union
from jaxtyping import Float
from torch import Tensor

Matrix = Float[Tensor, "a b"]
Tree = Union[Matrix, List["Tree"], Tuple["Tree", ...]]
Chain = Tuple[Matrix, "Chain"]

def takes(tree: Tree, chain: Chain, x: Matrix) -> Tree: ...

def uses(tree: Tree, chain: Chain, x: Float[Tensor, "p q"], v: Float[Tensor, "p"]) -> None:
    takes(takes(x, chain, x), chain[1], x)
    takes([x, [v]], chain, v)
    takes(tree, chain, chain[0])
"""
    (tmp_path / "within.py").write_text(program, encoding="utf-8")
    assert_says(run("within.py"), {14: "takes: x must be"})


def test_it_is_imported_without_torch() -> None:
    code = (
        "import sys, cs336_basics.contracts.mypy, cs336_basics.contracts.plugin.calls\n"
        "assert not {'torch', 'jaxtyping', 'beartype'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_with_nothing_to_check_imports_none_of_the_machinery() -> None:
    code = (
        "import sys, cs336_basics.contracts.mypy\n"
        "assert not {'cs336_basics.contracts.plugin.calls', 'torch', 'jaxtyping', 'sympy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
