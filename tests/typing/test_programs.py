"""mypy --strict on the two programs beside this file: one it must accept, one it must reject as foretold."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

EXPECTED = re.compile(r"\s*# E: (.*)")
IGNORE = re.compile(r"  # type: ignore\[([\w-]+)\]  # .*$")
FOUND = re.compile(r"^(.*?):(\d+): error: (.*?)  \[([\w-]+)\]$", re.MULTILINE)


@pytest.mark.slow
def test_mypy_accepts_the_one_and_rejects_the_other_as_foretold(tmp_path: Path) -> None:
    lines = (HERE / "rejected.py").read_text(encoding="utf-8").splitlines()
    foretold = _foretold(lines)
    program = tmp_path / "rejected.py"
    program.write_text("\n".join(IGNORE.sub("", line) for line in lines) + "\n", encoding="utf-8")
    # Both in one run: two at once would write into one cache.
    arguments = ["--no-pretty", "--no-error-summary", str(HERE / "accepted.py"), str(program)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    errors = FOUND.findall(done.stdout)
    assert {Path(path).name for path, *_ in errors} == {"rejected.py"}, done.stdout
    said = {int(line): (message, code) for _, line, message, code in errors}
    assert said.keys() == foretold.keys()
    for line, (message, code) in foretold.items():
        assert said[line][0].startswith(message), f"rejected.py:{line}: {said[line][0]}"
        assert said[line][1] == code, f"rejected.py:{line}: {said[line][1]}"


def _foretold(lines: list[str]) -> dict[int, tuple[str, str]]:
    """The message and the code foretold for each line; a line foretells by its ignore and the comment above it."""
    foretold = {}
    for number, line in enumerate(lines, start=1):
        if ignore := IGNORE.search(line):
            message = EXPECTED.match(lines[number - 2])
            assert message, f"rejected.py:{number}: say above the line what mypy says of it"
            foretold[number] = (message[1], ignore[1])
    assert len(foretold) >= 15
    assert len(foretold) == sum(EXPECTED.match(line) is not None for line in lines)
    return foretold
