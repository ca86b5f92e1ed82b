"""The rules of the house hold, and each of them is seen to find the faults it is there for."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from cs336_basics.contracts import AXES
from tests.house import (
    RULES,
    File,
    bare_operations,
    borrowed_definitions,
    hidden_annotations,
    shapes,
    too_long,
    unknown_axes,
    unreasoned,
    upward_imports,
)

Rule: TypeAlias = Callable[[File], list[str]]

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "cs336_basics"
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule: Rule) -> None:
    files = [File(path.relative_to(PACKAGE), path.read_text(encoding="utf-8")) for path in SOURCES]
    assert len(files) > 20, "the sources were found"
    faults = [fault for file in files for fault in rule(file)]
    assert not faults, "\n".join(faults)


def test_nothing_is_switched_off_without_a_reason() -> None:
    """The sources are looked at above; these are the other programs of the house."""
    paths = [ROOT / "noxfile.py", *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "typings").rglob("*.pyi"))]
    assert len(paths) > 50, "the tests were found"
    faults = [fault for path in paths for fault in unreasoned(File(path.relative_to(ROOT), path.read_text("utf-8")))]
    assert not faults, "\n".join(faults)


def test_every_axis_of_the_glossary_is_used() -> None:
    written = " ".join(shape for path in SOURCES for shape, _ in shapes(ast.parse(path.read_text(encoding="utf-8"))))
    assert set(AXES) <= set(re.findall(r"\w+", written))


BAD: list[tuple[Rule, str, str]] = [
    (upward_imports, "ops/a.py", "from cs336_basics.nn import Linear"),
    (upward_imports, "ops/a.py", "import cs336_basics.nn.layers as layers"),
    (upward_imports, "ops/a.py", "from cs336_basics import nn"),
    (upward_imports, "ops/a.py", "def f():\n    from cs336_basics.config import ModelConfig"),
    (upward_imports, "contracts/a.py", "from cs336_basics import ops"),
    (upward_imports, "config.py", "from cs336_basics.ops.norm import rms_norm"),
    (upward_imports, "tokenizer/a.py", "from cs336_basics.data import token_file"),
    (upward_imports, "train/a.py", "from cs336_basics.cli import main"),
    (upward_imports, "__init__.py", "from cs336_basics.ops import norm"),
    (upward_imports, "ops/a.py", "from .norm import rms_norm"),
    (upward_imports, "attic/a.py", ""),
    *(
        (borrowed_definitions, "nn/a.py", code)
        for code in (
            "from torch.nn import Linear",
            "from torch.nn import Identity as Same",
            "from torch.nn import *",
            "from torch import nn\nnn.Linear(1, 1)",
            "from torch import nn as n\nclass A(n.LayerNorm): pass",
            "import torch\ntorch.nn.Linear(1, 1)",
            "import torch\ndef f(x: torch.nn.Embedding) -> None: ...",
            "import torch.nn.functional as F",
            "import torch.nn.functional",
            "import torch\ntorch.nn.functional.gelu(1)",
            "from torch.nn import functional as G\nG.silu(1)",
            "from torch.nn.functional import silu",
            "import torch\nN = torch.nn\nN.Linear(1, 1)",
            "__import__('torch.nn.functional')",
            "import importlib\nimportlib.import_module('torch.nn.functional')",
            "import torch\ntorch.ops.aten.scaled_dot_product_attention(1, 1, 1)",
            "import torch\ntorch._C._nn.silu(1)",
            "import torch\ntorch.softmax(x, -1)",
            "import torch\ntorch.special.logsumexp(x, -1)",
            "def f(x): return x.softmax(-1)",
            "def f(x): return (x + 1).log_softmax(-1)",
            "from torch import nn\nnn.init.normal_(1)",
            "from torch.nn.init import xavier_normal_",
            "from torch.nn.utils import clip_grad_norm_",
            "from torch.optim import AdamW",
            "from torch.optim.adamw import AdamW",
            "import torch\ntorch.optim.lr_scheduler.LambdaLR(1)",
        )
    ),
    (borrowed_definitions, "kernels/a.py", "import torch.nn.functional as F\nF.softmax(1)"),
    (unknown_axes, "ops/a.py", "def f(x: Float[Tensor, '*batch width']): ..."),
    (unknown_axes, "ops/a.py", "def f() -> Int64[Tensor, 'seq d_modle']: ..."),
    (unknown_axes, "ops/a.py", "def f(x: tuple[Float32[Tensor, 'seq*width'], int] | None): ..."),
    (unknown_axes, "ops/a.py", "def f(x: Float[Tensor, '... d_model']): ..."),
    (unknown_axes, "ops/a.py", "class A:\n    x: jaxtyping.Bool[torch.Tensor, '*#batches']"),
    (hidden_annotations, "ops/a.py", "from __future__ import annotations"),
    (too_long, "ops/a.py", "x = 1\n" * 300),
    (bare_operations, "ops/a.py", "def f(x: Tensor) -> Tensor:\n    'Shapes: x. Raises: no.'"),
    (bare_operations, "kernels/a.py", "def f(x: Tensor) -> Tensor:\n    'Shapes: x. Raises: no.'"),
    (bare_operations, "ops/a.py", "@other\n@contract\ndef f(x: Tensor) -> Tensor:\n    'Shapes: x. Raises: no.'"),
    (bare_operations, "ops/a.py", "@contract\ndef f(x: Tensor) -> Tensor:\n    'Shapes: x.'"),
    (bare_operations, "ops/a.py", "@contract\ndef f(n: int) -> Float[Tensor, 'seq']:\n    'Raises: no.'"),
    (bare_operations, "ops/a.py", "class A:\n    def f(self, x: Float[Tensor, 'seq']) -> int: ..."),
    *(
        (unreasoned, "ops/a.py", code)
        for code in (
            "f(1)  # type: ignore[arg-type]",
            "f(1)  # type: ignore",
            "f(1)  # type: ignore[arg-type, misc]",
            "f(1)  # type: ignore[arg-type] #",
            "f(1)  # noqa",
            "f(1)  # noqa: S301",
            "f(1)  # noqa: S301, ARG001",
            "f(1)  # type: ignore[arg-type]  # noqa: S301",
            "# ruff: noqa: ARG001",
            "f(1)  # pragma: no cover",
            "import pytest\npytest.skip()",
            "import pytest\npytest.skip('')",
            "import pytest\npytest.xfail()",
            "from pytest import skip\nskip()",
            "import pytest\n@pytest.mark.skip\ndef test_a(): ...",
            "import pytest\n@pytest.mark.skip()\ndef test_a(): ...",
            "import pytest\n@pytest.mark.skipif(True)\ndef test_a(): ...",
            "import pytest\n@pytest.mark.skipif('no gpu here')\ndef test_a(): ...",
            "import pytest\n@pytest.mark.xfail\ndef test_a(): ...",
            "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_a(): ...",
            "import pytest\npytestmark = [pytest.mark.skipif(True, reason=' ')]",
        )
    ),
]

GOOD: list[tuple[Rule, str, str]] = [
    (
        upward_imports,
        "nn/a.py",
        "from cs336_basics.ops.norm import rms_norm\nfrom cs336_basics.nn.layers import Linear",
    ),
    (upward_imports, "cli/a.py", "from cs336_basics.train import loop\nfrom cs336_basics import __version__"),
    *(
        (borrowed_definitions, "nn/a.py", code)
        for code in (
            "from torch import nn\nclass A(nn.Module):\n    def f(self): nn.Module.__init__(self)",
            "import torch\ntorch.nn.Parameter(torch.zeros(1))",
            "from torch.nn import ModuleList, Parameter",
            "from torch import nn\nnn.init.trunc_normal_(1)",
            "from torch.optim import Optimizer\nfrom torch.optim.optimizer import ParamsT",
            "from cs336_basics.ops import softmax\nsoftmax.softmax(1)",
            "import torch\ntorch.sigmoid(1)\n'as torch.nn.functional.silu does'",
        )
    ),
    (borrowed_definitions, "kernels/a.py", "import torch.nn.functional as F\nF.scaled_dot_product_attention(1)"),
    (unknown_axes, "ops/a.py", "def f(x: Float[Tensor, '*#batch heads*d_k 4'], y: dict[str, 'width']): ..."),
    (too_long, "ops/a.py", "x = 1\n" * 299),
    (bare_operations, "ops/a.py", "@contract\ndef f(x: Tensor) -> Tensor:\n    'Shapes: x. Raises: no.'"),
    (bare_operations, "ops/a.py", "def _f(x: Tensor) -> Tensor: ...\ndef g(n: int) -> int: ..."),
    (bare_operations, "nn/a.py", "def f(x: Tensor) -> Tensor: ..."),
    *(
        (unreasoned, "ops/a.py", code)
        for code in (
            "f(1)  # type: ignore[arg-type]  # what must be refused",
            "f(1)  # noqa: S301  # our own bytes",
            "f(1)  # type: ignore[arg-type]  # noqa: S301  # our own bytes",
            "f(1)  # pragma: no cover  # only on Windows",
            "text = '# noqa: S301'",
            "f(1)  # a plain remark\n# fmt: skip",
            "import pytest\npytest.skip('no data here')",
            "import pytest\npytest.skip(WHY)",
            "import pytest\npytest.skip(reason=f'no {thing}')",
            "import pytest\n@pytest.mark.skip('later')\ndef test_a(): ...",
            "import pytest\n@pytest.mark.skipif(True, reason='no gpu here')\ndef test_a(): ...",
            "import pytest\n@pytest.mark.slow\ndef test_a(): ...",
        )
    ),
]


@pytest.mark.parametrize(("rule", "path", "code"), BAD)
def test_the_rule_finds_a_fault(rule: Rule, path: str, code: str) -> None:
    assert rule(File(Path(path), code))


@pytest.mark.parametrize(("rule", "path", "code"), GOOD)
def test_the_rule_finds_no_fault(rule: Rule, path: str, code: str) -> None:
    assert rule(File(Path(path), code)) == []
