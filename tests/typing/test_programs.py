"""mypy --strict on the programs beside this file: some it must accept, some it must reject as foretold."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

ACCEPTED = ("accepted.py", "accepted_shapes.py")
REJECTED = {"rejected.py": 15, "rejected_shapes.py": 50}  # and how many lines at least

SOURCE = ROOT / "src" / "cs336_basics"
COPIED = (
    *("ops/attention.py", "ops/feed_forward.py", "nn/attention.py", "nn/layers.py", "nn/model.py"),
    *("train/loop.py", "generate.py"),
)

MYPY = """
import sys
from mypy import api
from cs336_basics.contracts.plugin.calls import HELD
out, err, status = api.run(sys.argv[1:])
print(out, *(f"{path} holds {number}" for path, number in HELD.items()), sep=chr(10))
sys.exit(err or status)
"""

EXPECTED = re.compile(r"\s*# E: (.*)")
GOES_ON = re.compile(r"\s*#    (.*)")
IGNORE = re.compile(r"  # type: ignore\[([\w-]+)\]  # .*$")
HELD = re.compile(r"^(.*) holds (\d+)$", re.MULTILINE)
FOUND = re.compile(r"^(.*?):(\d+): error: (.*?)  \[([\w-]+)\]$", re.MULTILINE)


@pytest.mark.slow
def test_mypy_accepts_the_ones_and_rejects_the_others_as_foretold(tmp_path: Path) -> None:
    foretold: dict[tuple[str, int], tuple[str, str]] = {}
    for name, least in REJECTED.items():
        lines = (HERE / name).read_text(encoding="utf-8").splitlines()
        foretold |= {(name, line): said for line, said in _foretold(name, lines, least).items()}
        without = "\n".join(IGNORE.sub("", line) for line in lines)
        (tmp_path / name).write_text(without + "\n", encoding="utf-8")
    for name in COPIED:  # under another name, so that it is checked, and not found in the cache
        copy = tmp_path / f"copy_of_{name.replace('/', '_')}"
        copy.write_text((SOURCE / name).read_text(encoding="utf-8"), encoding="utf-8")
    # All in one run: two at once would write into one cache.
    programs = [*(str(HERE / name) for name in ACCEPTED), *map(str, sorted(tmp_path.glob("*.py")))]
    done = subprocess.run(
        [sys.executable, "-c", MYPY, "--no-pretty", "--no-error-summary", *programs],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    errors = FOUND.findall(done.stdout)
    assert {Path(path).name for path, *_ in errors} == set(REJECTED), done.stdout
    said = {(Path(path).name, int(line)): (message, code) for path, line, message, code in errors}
    assert said.keys() == foretold.keys()
    for place, (message, code) in foretold.items():
        assert said[place][0].startswith(message), f"{place}: {said[place][0]}"
        assert said[place][1] == code, f"{place}: {said[place][1]}"
    # Silence about our own source is worth something only where shapes were known.
    held = {Path(path).name: int(number) for path, number in HELD.findall(done.stdout)}
    assert sum(number for name, number in held.items() if name.startswith("copy_of_")) >= 30, held


def _foretold(name: str, lines: list[str], least: int) -> dict[int, tuple[str, str]]:
    """The message and the code foretold for each line; a line foretells by its ignore and the comment above it."""
    foretold = {}
    for number, line in enumerate(lines, start=1):
        if ignore := IGNORE.search(line):
            above = number - 2
            more: list[str] = []
            while goes_on := GOES_ON.match(lines[above]):
                more.insert(0, goes_on[1])
                above -= 1
            message = EXPECTED.match(lines[above])
            assert message, f"{name}:{number}: say above the line what mypy says of it"
            foretold[number] = (" ".join([message[1], *more]), ignore[1])
    assert len(foretold) >= least
    assert len(foretold) == sum(EXPECTED.match(line) is not None for line in lines)
    return foretold
