"""What other tools say of the corpus, beside prove and laws: one table.

    python -m tests.contracts.corpus.rivals                      # the tools that are installed
    python -m tests.contracts.corpus.rivals --peers FOLDER --install   # torchtyc and Pyrefly into FOLDER first
    python -m tests.contracts.corpus.rivals --long               # and a row for each function

`nox -s rivals` does all of it. Each tool sees the same functions: the wrong ones that it complains of are caught, the
right ones that it complains of are refused in error, whatever the complaint. A function that a tool says it cannot
read (a formula of axes, say) counts as neither. A tool that is missing is said to be, and gets no row.

The corpus is ours, written with prove and laws in mind: their rows say that the rules hold, not how often the bugs of
strangers would be caught.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.contracts.corpus import peers
from tests.contracts.corpus.registry import RIGHT, WRONG, Entry, load

TOOLS: Final[Mapping[str, Callable[[Path], peers.Verdicts]]] = {
    "jaxtyping + beartype, all sizes equal": peers.jaxtyping_equal,
    "jaxtyping + beartype, sizes that differ": peers.jaxtyping_distinct,
    "Pyrefly + stubs": peers.pyrefly,
    "Pyrefly + stubs, *batch as one axis": peers.pyrefly_one_batch_axis,
    "torchtyc": peers.torchtyc,
    "mypy + cs336_basics.contracts.mypy": peers.mypy,
    "prove": peers.prove,
    "laws": peers.laws,
    "prove + laws": peers.prove_and_laws,
}


def main() -> None:
    """Ask every tool and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=Path, help="folder with torchtyc and Pyrefly; a temporary one if not given")
    parser.add_argument("--install", action="store_true", help="install the peers into that folder first")
    parser.add_argument("--long", action="store_true", help="print a row for each function, and what was said of it")
    options = parser.parse_args()
    load()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.peers or Path(temporary)).resolve()
        if options.install:
            peers.install(folder)
        answers, seconds = ask(folder)
    say(table(answers, seconds))
    if options.long:
        say(rows(answers))


def ask(folder: Path) -> tuple[dict[str, peers.Verdicts], dict[str, float]]:
    """What each tool says, and how long it took; says which are missing."""
    answers: dict[str, peers.Verdicts] = {}
    seconds = {}
    for name, tool in TOOLS.items():
        start = time.perf_counter()
        try:
            answers[name] = tool(folder)
        except peers.Missing as missing:
            say(f"skipped: {name}: {missing}")
        seconds[name] = time.perf_counter() - start
    return answers, seconds


def table(answers: Mapping[str, peers.Verdicts], seconds: Mapping[str, float]) -> str:
    """One line for each tool."""
    lines = ["| tool | wrong caught | right refused | cannot read (wrong, right) | seconds |", "|---|---|---|---|---|"]
    for name, verdicts in answers.items():
        cells = [name]
        for entries in (WRONG, RIGHT):
            cells.append(f"{sum(map(peers.complains, _of(entries, verdicts)))} / {len(entries)}")
        unread = [sum(said.startswith(peers.UNREAD) for said in _of(entries, verdicts)) for entries in (WRONG, RIGHT)]
        cells += [", ".join(map(str, unread)), f"{seconds[name]:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _of(entries: Mapping[str, Entry], verdicts: peers.Verdicts) -> list[str]:
    return [verdicts[name] for name in entries]


def rows(answers: Mapping[str, peers.Verdicts]) -> str:
    """For each function who complains (x), who cannot read it (?), who is silent (-), and the words."""
    lines = [f"{number}: {name}" for number, name in enumerate(answers, start=1)]
    for title, entries in (("wrong", WRONG), ("right", RIGHT)):
        lines += ["", f"{title}: {' '.join(map(str, range(1, len(answers) + 1)))}"]
        for name, entry in entries.items():
            marks = [_mark(verdicts[name]) for verdicts in answers.values()]
            expected = ", ".join((*entry.rules, *([f"law {entry.law}"] if entry.law else [])))
            lines.append(f"       {' '.join(marks)}  {name}  {expected}")
            lines += [
                f"           {number}: {said[:160]}"
                for number, verdicts in enumerate(answers.values(), start=1)
                if (said := verdicts[name])
            ]
    return "\n".join(lines)


def _mark(said: str) -> str:
    return "?" if said.startswith(peers.UNREAD) else "x" if said else "-"


def say(text: str) -> None:
    """Print, so that a long run shows what it has."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
