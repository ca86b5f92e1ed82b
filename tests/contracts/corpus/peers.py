"""The tools that look at the corpus, each as one function: name -> what it says of each function of the corpus.

A tool says nothing of a function ("": accepted), something (refused), or that it cannot read it (UNREAD and why).
A tool that is not installed raises Missing.
"""

import ast
import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from beartype import beartype
from jaxtyping import AnnotationError, jaxtyped

from tests.contracts.corpus import inputs
from tests.contracts.corpus.registry import RIGHT, WRONG, Entry, files

ROOT: Final = Path(__file__).parents[3]
UNREAD: Final = "cannot be read: "
PACKAGES: Final = (
    "torchtyc==0.5.0",
    "pyrefly==1.4.1",
    *(f"pyrefly-{name}==1.4.0" for name in ("torch-stubs", "einops-stubs", "shape-extensions")),
)

Verdicts = Mapping[str, str]


class Missing(Exception):  # noqa: N818  # a state, not a fault
    """The tool is not installed here."""


def install(folder: Path) -> None:
    """Put the peers into a folder of their own: mypy would read the stubs for torch if they stood beside it."""
    # Without dependencies: torch and jaxtyping are the ones that run this. The stubs ask for 3.12, but are only text.
    options = ["-qq", "--no-deps", "--ignore-requires-python", "--upgrade", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *PACKAGES], check=True)


def jaxtyping_distinct(_: Path) -> Verdicts:
    """jaxtyping + beartype at run time: one call with sizes that all differ."""
    return {entry.name: _called(entry, (2,), inputs.GENERIC) for entry in _entries()}


def jaxtyping_equal(_: Path) -> Verdicts:
    """jaxtyping + beartype at run time: one call with every axis the same size."""
    return {entry.name: _called(entry, inputs.EQUAL_BATCH, inputs.EQUAL) for entry in _entries()}


def _entries() -> Iterable[Entry]:
    return [*WRONG.values(), *RIGHT.values()]


def _called(entry: Entry, batch: tuple[int, ...], sizes: Mapping[str, int]) -> str:
    checked = jaxtyped(entry.function, typechecker=beartype)
    for call in inputs.calls(entry.function, batch=batch, sizes=sizes):
        try:
            checked(*call.args, **call.kwargs)
        except AnnotationError as error:
            return f"{UNREAD}{str(error).splitlines()[0]}"
        except Exception as error:  # whatever it is, a test that makes this call is red
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return ""


def torchtyc(peers: Path) -> Verdicts:
    """torchtyc: one trace on meta tensors, each axis a prime."""
    program = _program(peers, "torchtyc")
    paths = [str(path.relative_to(ROOT)) for kind in ("wrong", "right") for path in files(kind)]
    command = [program, "check", "--format", "json", "--python", sys.executable, *paths]
    done = _run(command, ROOT, PYTHONPATH=os.pathsep.join((str(peers), str(ROOT / "src"), str(ROOT))))
    report = json.loads(done)
    if report["worker_error"]:
        raise Missing(f"torchtyc could not start: {report['worker_error']}")
    verdicts = _silent()
    for found in report["diagnostics"]:
        name, rule = found["function"], found["rule"]
        if name not in verdicts or found["severity"] == "info":
            continue
        unread = rule in ("unresolved-arg", "unsupported-annotation", "uninstantiable")
        verdicts[name] = verdicts[name] or f"{UNREAD if unread else ''}{rule}: {found['message'].splitlines()[0]}"
    return verdicts


def pyrefly(peers: Path) -> Verdicts:
    """Pyrefly with its stubs for torch and einops, the annotations as they are."""
    return _pyrefly(peers, "as_written", {})


def pyrefly_one_batch_axis(peers: Path) -> Verdicts:
    """Pyrefly, each *batch rewritten to one axis, which more of its stubs follow."""
    return _pyrefly(peers, "one_batch_axis", {"*#batch": "batch", "*batch": "batch", "*shape": "shape"})


def _pyrefly(peers: Path, variant: str, renamed: Mapping[str, str]) -> Verdicts:
    program = _program(peers, "pyrefly")
    place = peers / "rewritten" / variant
    place.mkdir(parents=True, exist_ok=True)
    owners: dict[str, list[tuple[int, int, str]]] = {}
    for path in [*files("wrong"), *files("right")]:
        text = declared(source(path), renamed)
        (place / path.name).write_text(text, encoding="utf-8")
        owners[path.name] = _spans(text)
    site = Path(torch.__file__).parents[1]
    settings = {"search-path": [place, ROOT / "src", ROOT], "site-package-path": [peers, site]}
    lines = [f"{key} = {json.dumps([str(path) for path in paths])}" for key, paths in settings.items()]
    config = place / "pyrefly.toml"
    # The stubs are written in the syntax of 3.13.
    config.write_text("\n".join(['python-version = "3.13"', "skip-interpreter-query = true", *lines]), encoding="utf-8")
    command = [program, "check", "-c", str(config), "--output-format", "json", *map(str, sorted(place.glob("*.py")))]
    report = json.loads(_run(command, place))
    verdicts = _silent()
    for found in report["errors"]:
        name = _owner(owners[Path(found["path"]).name], found["line"])
        if name not in verdicts or found["severity"] != "error":
            continue
        unread = found["name"] == "invalid-annotation"
        said = f"{UNREAD if unread else ''}{found['name']}: {found['description'].splitlines()[0]}"
        verdicts[name] = said if unread or not verdicts[name] else verdicts[name]
    return verdicts


def declared(text: str, renamed: Mapping[str, str]) -> str:
    """The file with @static_jaxtyping("names") in place of our decorators, on which Pyrefly looks at shapes."""
    for old, new in renamed.items():
        text = text.replace(f'"{old} ', f'"{new} ').replace(f'"{old}"', f'"{new}"')
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or not node.decorator_list:
            continue
        annotations = [ast.unparse(part) for part in ast.walk(node) if isinstance(part, ast.Subscript)]
        shapes = [shape for part in annotations for shape in re.findall(r"Tensor, '([^']*)'", part)]
        words = dict.fromkeys(re.findall(r"(?<!\w)\*?#?[A-Za-z_]\w*", " ".join(shapes).replace("*#", "*")))
        first = node.decorator_list[0]
        declaration = f'@static_jaxtyping("{" ".join(word.replace("#", "") for word in words)}")'
        if isinstance(node, ast.FunctionDef):
            span = range(first.lineno - 1, first.end_lineno or first.lineno)
            lines[span.start] = declaration
            for number in span[1:]:
                lines[number] = ""
    at = next(number for number, line in enumerate(lines) if line.startswith("from tests.contracts.corpus.registry"))
    lines[at] = "from shape_extensions import static_jaxtyping"
    return "\n".join(lines) + "\n"


def source(path: Path) -> str:
    """A file of the corpus, without the comments that would keep a checker from complaining."""
    return re.sub(r"  # type: ignore\[shape\].*", "", path.read_text(encoding="utf-8"))


def mypy(peers: Path) -> Verdicts:
    """mypy --strict with our plugin, which looks at calls and leaves bodies to prove."""
    if importlib.util.find_spec("cs336_basics.contracts.mypy") is None:
        raise Missing("the plugin is not there")
    place = peers / "mypy"
    place.mkdir(parents=True, exist_ok=True)
    config = place / "mypy.ini"
    settings = "strict = true\nplugins = cs336_basics.contracts.mypy\nexplicit_package_bases = true\n"
    config.write_text(f"[mypy]\n{settings}mypy_path = {ROOT / 'src'}:{ROOT}\n", encoding="utf-8")
    paths = []
    for path in (*files("wrong"), *files("right")):  # copies in which no complaint is ignored
        copy = place / path.name
        copy.write_text(source(path), encoding="utf-8")
        paths.append(str(copy))
    options = ["--config-file", str(config), "--cache-dir", str(place), "--no-pretty", "--output", "json"]
    said = _run([sys.executable, "-m", "mypy", *options, *paths], ROOT, quiet=True, PYTHONPATH=str(ROOT / "src"))
    owners = {
        path.name: _spans(path.read_text(encoding="utf-8")) for kind in ("wrong", "right") for path in files(kind)
    }
    verdicts = _silent()
    for found in map(json.loads, (line for line in said.splitlines() if line.startswith("{"))):
        name = _owner(owners.get(Path(found["file"]).name, []), found["line"])
        if name in verdicts and found["severity"] == "error":
            verdicts[name] = verdicts[name] or f"{found['code']}: {found['message']}"
    return verdicts


@functools.cache
def prove(_: Path) -> Verdicts:
    """Our proof for every size."""
    contracts = _ours("prove")
    return {entry.name: _said_by_prove(contracts.prove(entry.function)) for entry in _entries()}


def _said_by_prove(proof: Any) -> str:
    return "" if proof.ok else f"{proof.failures[0].rule}: {proof.failures[0].message}"


@functools.cache
def laws(_: Path) -> Verdicts:
    """Our laws, tried on drawn calls."""
    contracts = _ours("laws")
    verdicts = _silent()
    for entry in _entries():
        try:
            contracts.laws(entry.function)
        except contracts.ContractError as error:
            verdicts[entry.name] = str(error).splitlines()[0]
    return verdicts


def prove_and_laws(peers: Path) -> Verdicts:
    """Both, as `nox -s contracts` runs them."""
    proved, held = prove(peers), laws(peers)
    return {name: proved[name] or held[name] for name in proved}


def _ours(name: str) -> Any:
    contracts = importlib.import_module("cs336_basics.contracts")
    if not hasattr(contracts, name):
        raise Missing(f"cs336_basics.contracts has no {name}")
    return contracts


def complains(said: str) -> bool:
    """Whether a verdict refuses the function, rather than saying that it cannot be read."""
    return bool(said) and not said.startswith(UNREAD)


def _silent() -> dict[str, str]:
    return dict.fromkeys((entry.name for entry in _entries()), "")


def _spans(text: str) -> list[tuple[int, int, str]]:
    """First line (the decorator's), last line and name of each function of a file."""
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return [(node.decorator_list[0].lineno, node.end_lineno or 0, node.name) for node in nodes]


def _owner(spans: list[tuple[int, int, str]], line: int) -> str:
    return next((name for start, end, name in spans if start <= line <= end), "")


def _program(peers: Path, name: str) -> str:
    program = peers / "bin" / name
    if not program.exists():
        raise Missing(f"{name} is not in {peers}; --install puts it there")
    return str(program)


def _run(command: list[str], folder: Path, *, quiet: bool = False, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if not done.stdout.strip() and not (quiet and done.returncode == 0):
        raise Missing(f"{Path(command[0]).name} said nothing: {done.stderr.strip()[-300:]}")
    return done.stdout
