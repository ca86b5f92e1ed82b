"""Sessions: `nox -s demo`, `nox -s tests typecheck`, `nox -l` for all. Add -R to reuse an environment.

Every session runs on the interpreter that nox itself runs on, so that none can be skipped for want of another,
and installs with pip from the exact versions of .ci/constraints.txt, which are known to work together.
"""

from pathlib import Path

import nox

CONSTRAINTS = Path(__file__).parent / ".ci" / "constraints.txt"

# Where tensors pass through contracts; what is slow or runs the command line says nothing new in full mode.
TENSOR_ROOMS = [f"tests/{name}" for name in ("contracts", "data", "nn", "ops", "optim", "train", "test_generate.py")]
PEERS = ("gigatoken", "rustbpe", "transformers")  # beside tiktoken and tokenizers, which the tests need anyway
# litgpt asks for older versions of much that it does not need for its model: these are what that imports.
LITGPT = ("litgpt", "lightning", "pytorch-lightning", "lightning-utilities", "torchmetrics", "jsonargparse")
QUICK = "not gpu and not bench and not slow and not e2e"

nox.options.sessions = ["tests", "typecheck", "lint"]
nox.options.error_on_missing_interpreters = True


def install(session: nox.Session, *extras: str) -> None:
    """Install the package with extras, at the known versions."""
    target = f".[{','.join(extras)}]" if extras else "."
    session.install("-c", str(CONSTRAINTS), "-e", target)


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test that needs no GPU, the GPU tests on the CPU, and the rooms of tensors once more with
    CS336_CONTRACTS=full; arguments after `--` go to pytest."""
    install(session, "dev")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("pytest", "-n", "2")
    session.run("pytest", "-m", "gpu", "--gpu-device", "cpu", "tests/gpu")
    session.run("pytest", "-n", "2", "-m", QUICK, *TENSOR_ROOMS, env={"CS336_CONTRACTS": "full"})


@nox.session
def typecheck(session: nox.Session) -> None:
    """Hold src, tests and this file to mypy --strict."""
    install(session, "dev")
    session.run("mypy", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    session.install("-c", str(CONSTRAINTS), "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def contracts(session: nox.Session) -> None:
    """Prove every public function of ops, nn and optim and hold it to its laws: a table; names after `--` choose."""
    install(session, "dev")
    session.run("python", "-m", "tests.contracts.table", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """From raw text to a generating model: `cs336 demo` into runs/demo; arguments after `--` go to it."""
    install(session, "plot")
    session.run("cs336", "demo", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """Run the GPU tests; fails where there is no GPU, so that a pass means one was there."""
    install(session, "dev")
    session.run("python", "-c", "import torch; assert torch.cuda.is_available(), 'no CUDA device: nothing to test on'")
    session.run("pytest", "-m", "gpu", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure contracts, ops, training, generation, tokenizer; arguments after `--` name what. Fails where a figure
    falls short of what it must reach. The tokenizer is measured on the text of CS336_DATA."""
    install(session, "dev")
    for peer in PEERS:  # one that has no wheel for this machine is left out, and the bench says so
        session.install("-c", str(CONSTRAINTS), peer, success_codes=[0, 1])
    session.install("-c", str(CONSTRAINTS), "--no-deps", *LITGPT, "psutil", success_codes=[0, 1])
    # One thread: what other processes do meanwhile does not count, and waiting for each other does not either.
    session.run("python", "-m", "tests.bench", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def faults(session: nox.Session) -> None:
    """Kill, fill, flip, cut and mutate until something is lost, as a table; names of groups after `--` choose, and
    `-- --part 0.1` puts in a tenth of the faults. Takes about ten minutes; fails where anything is lost."""
    install(session, "dev")
    session.run("python", "-m", "tests.faults", *session.posargs)


@nox.session
def rivals(session: nox.Session) -> None:
    """Tabulate what other tools, prove and laws say of the corpus; `-- --long` for a row each function."""
    install(session, "dev")
    folder = session.create_tmp()
    session.run("python", "-m", "tests.contracts.corpus.rivals", "--install", "--peers", folder, *session.posargs)
