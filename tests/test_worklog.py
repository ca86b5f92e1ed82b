"""WORKLOG.md keeps its form: newest entry first, every part filled, every commit one that exists."""

import re
import shutil
import subprocess
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Objective", "Actions & Command(s)", "Observations & Results", "Analysis & Decisions", "Artifacts")

HEADING = re.compile(r"^###\s+\*\*(.*?)\*\*\s*$", re.MULTILINE)
COMMIT = re.compile(r"^\*\s+\*\*Commit:\*\*\s+`([0-9a-f]{40})`", re.MULTILINE)


def entries(text: str) -> list[tuple[str, str]]:
    """Heading and body of each entry, as they stand; what is inside a code fence is no entry."""
    shown = _without_fences(text)
    headings = list(HEADING.finditer(shown))
    edges = [heading.start() for heading in headings] + [len(shown)]
    return [(heading[1], shown[heading.end() : edge]) for heading, edge in zip(headings, edges[1:], strict=True)]


def faults(text: str) -> list[str]:
    """What is wrong with the form of a worklog, in words; nothing where it is as it should be."""
    found = entries(text)
    if not found:
        return ["there is no entry"]
    said, times = [], []
    for heading, body in found:
        try:
            times.append(datetime.strptime(heading, "%Y-%m-%d %H:%M"))  # a wall clock, as written
        except ValueError:
            said.append(f"{heading}: the heading must be **YYYY-MM-DD HH:MM**")
        said += [f"{heading}: {fault}" for fault in _faults_of_an_entry(body)]
    for newer, older in pairwise(times):
        if newer < older:
            said.append(f"{newer:%Y-%m-%d %H:%M} stands above {older:%Y-%m-%d %H:%M}: the newest entry comes first")
    return said


def commits(text: str) -> list[str]:
    """The commit of each entry that names one."""
    return [match[1] for _, body in entries(text) if (match := COMMIT.search(body))]


def _faults_of_an_entry(body: str) -> list[str]:
    said = []
    places = [body.find(f"\n**{part}:**") for part in PARTS]
    said += [f"{part} is missing" for part, place in zip(PARTS, places, strict=True) if place < 0]
    if said:
        return said
    if places != sorted(places):
        said.append("the parts must come in the order " + ", ".join(PARTS))
    for part, place in zip(PARTS, places, strict=True):
        end = min([other for other in places if other > place], default=len(body))
        content = body[place:end].split(":**", 1)[1]
        if not re.search(r"\w", content):
            said.append(f"{part} is empty")
        elif re.match(r"\s*\*\s+\(", content) or "[Paste" in content:
            said.append(f"{part} still holds the template's own words")
    if not COMMIT.search(body, places[-1]):
        said.append("Artifacts must name the commit by its 40 hexadecimal digits, as in * **Commit:** `...`")
    return said


def _without_fences(text: str) -> str:
    """The text with every fenced block emptied; an entry may show commands and output in one."""
    kept, fence = [], ""
    for line in text.splitlines():
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if fence:
            if mark and mark[1].startswith(fence) and line.strip() == mark[1]:
                fence = ""
            kept.append("fenced")
        elif mark:
            fence = mark[1]
            kept.append("fenced")
        else:
            kept.append(line)
    return "\n".join(kept)


GOOD_ENTRY = """\
---
### **2026-01-02 03:04**

**Objective:**
*   Softmax that does not overflow.

**Actions & Command(s):**
```
### **1999-01-01 00:00**
pytest tests/ops
```

**Observations & Results:**
*   First red: `inf / inf`. Then 12 passed.

**Analysis & Decisions:**
1.  Subtract the maximum.

**Artifacts:**
*   **Commit:** `0123456789abcdef0123456789abcdef01234567`
*   **Log File(s):** `runs/log.txt`
---
"""
OLDER_ENTRY = GOOD_ENTRY.replace("2026-01-02 03:04", "2026-01-01 23:59")
HEAD = """\
# Worklog

```markdown
---
### **YYYY-MM-DD HH:MM**

**Objective:**
*   (State the goal.)
---
```

"""


def test_a_good_log_has_no_faults() -> None:
    text = HEAD + GOOD_ENTRY + GOOD_ENTRY + OLDER_ENTRY
    assert faults(text) == []
    assert [heading for heading, _ in entries(text)] == ["2026-01-02 03:04"] * 2 + ["2026-01-01 23:59"]
    assert commits(text) == ["0123456789abcdef0123456789abcdef01234567"] * 3


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "there is no entry"),
        (HEAD, "there is no entry"),
        (
            HEAD + OLDER_ENTRY + GOOD_ENTRY,
            "2026-01-01 23:59 stands above 2026-01-02 03:04: the newest entry comes first",
        ),
        (GOOD_ENTRY.replace("2026-01-02 03:04", "2026-01-02"), "2026-01-02: the heading must be"),
        (GOOD_ENTRY.replace("2026-01-02 03:04", "2026-13-02 03:04"), "2026-13-02 03:04: the heading must be"),
        (GOOD_ENTRY.replace("2026-01-02 03:04", "YYYY-MM-DD HH:MM"), "YYYY-MM-DD HH:MM: the heading must be"),
        *((GOOD_ENTRY.replace(f"**{part}:**", ""), f"{part} is missing") for part in PARTS),
        (GOOD_ENTRY.replace("*   Softmax that does not overflow.\n", ""), "Objective is empty"),
        (GOOD_ENTRY.replace("Softmax that does not overflow.", ""), "Objective is empty"),
        (GOOD_ENTRY.replace("1.  Subtract the maximum.\n", ""), "Analysis & Decisions is empty"),
        (GOOD_ENTRY.replace("Softmax that", "(State the clear, single goal)"), "Objective still holds the template's"),
        (
            GOOD_ENTRY.replace("Objective:", "X:").replace("Artifacts:", "Objective:").replace("X:", "Artifacts:"),
            "order",
        ),
        (GOOD_ENTRY.replace("89abcdef01234567`", "89abcdef0123456`"), "Artifacts must name the commit"),
        (GOOD_ENTRY.replace("0123456789abcdef0123456789abcdef01234567", "0123456"), "Artifacts must name the commit"),
        (GOOD_ENTRY.replace("*   **Commit:**", "*   Commit:"), "Artifacts must name the commit"),
        (HEAD + GOOD_ENTRY + OLDER_ENTRY.replace("Objective", "Goal"), "2026-01-01 23:59: Objective is missing"),
    ],
)
def test_a_bad_log_has_the_fault(text: str, fault: str) -> None:
    assert any(fault in found for found in faults(text)), faults(text)


def test_the_worklog_has_no_faults() -> None:
    found = faults((ROOT / "WORKLOG.md").read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


def test_every_commit_of_the_worklog_exists() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("no git history here: not a checkout, or no git")
    if _git(git, "rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("this clone is shallow: it does not hold the whole history")
    named = commits((ROOT / "WORKLOG.md").read_text(encoding="utf-8"))
    missing = [commit for commit in named if not _exists(git, commit)]
    assert not missing, f"not in this history: {missing}"


def test_a_commit_that_is_not_there_is_seen() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("no git history here: not a checkout, or no git")
    assert _exists(git, _git(git, "rev-parse", "HEAD").stdout.strip())
    assert not _exists(git, "0123456789abcdef0123456789abcdef01234567")


def _exists(git: str, commit: str) -> bool:
    return _git(git, "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


def _git(git: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
