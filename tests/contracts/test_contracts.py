"""The room as a whole: what it loads, seen from a fresh interpreter."""

import json
import subprocess
import sys

PROGRAM = """
import json, sys
import cs336_basics.contracts as room
first = sorted(sys.modules)

@room.contract
def twice(n: int) -> int:
    return 2 * n

answer = twice(4)
try:
    twice("4")
except room.ContractError as error:
    message = str(error)
print(json.dumps({"first": first, "later": sorted(sys.modules), "answer": answer, "message": message}))
"""


def test_imports_nothing_heavy_and_works_without_torch() -> None:
    told = json.loads(subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True).stdout)
    assert not {"torch", "numpy", "jaxtyping", "beartype"} & set(told["first"])
    assert "torch" not in told["later"]
    assert told["answer"] == 8
    assert told["message"] == "twice: n must be int, got str '4'"
