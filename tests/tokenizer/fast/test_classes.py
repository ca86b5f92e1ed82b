"""The table of classes is what `regex` says, and machine code sees that very table."""

import subprocess
import sys
import unicodedata

import numpy as np
import regex
from numba import njit

from cs336_basics.tokenizer.fast.classes import LETTER, NUMBER, OTHER, SPACE, classes_address, find_classes
from cs336_basics.tokenizer.fast.machine import load_u8, store_u8
from cs336_basics.tokenizer.fast.scan import next_end


@njit(cache=False)
def copy_classes(to: int, n_code_points: int) -> None:
    """Copy the table that machine code sees."""
    for number in range(n_code_points):
        store_u8(to + number, load_u8(classes_address() + number))


def test_every_code_point_is_classed_as_by_regex() -> None:
    """One by one, where the table is made from runs."""
    characters = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    classes = find_classes()
    n_classed = 0
    for kind, pattern in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s"), (OTHER, r"[^\s\p{L}\p{N}]")):
        matches = regex.findall(pattern, characters)
        assert (classes[[ord(match) for match in matches]] == kind).all()
        n_classed += len(matches)
    assert n_classed == len(characters)


def test_machine_code_sees_the_table() -> None:
    seen = np.empty(0x110000, np.uint8)
    copy_classes(seen.ctypes.data, len(seen))
    assert np.array_equal(seen, find_classes())


def test_machine_code_kept_on_disk_sees_the_regex_of_the_day() -> None:
    """A process whose `regex` calls ! a letter runs the scanner that this one has compiled, and cuts as it should."""
    next_end(np.frombuffer(b"a", np.uint8).ctypes.data, 0, 1)
    assert scan_in_new_process("") == "1 2 3 5, compiled: 0"
    other_regex = r"find = regex.finditer; regex.finditer = lambda p, s: find(p.replace(r'\p{L}', r'[!\p{L}]'), s)"
    assert scan_in_new_process(other_regex) == "3 5, compiled: 0"


def scan_in_new_process(before: str) -> str:
    code = f"""
import numpy as np, regex
{before}
from cs336_basics.tokenizer.fast.scan import next_end
letters = np.frombuffer(b"a!b 7", np.uint8)
ends = [0]
while ends[-1] < len(letters):
    ends.append(next_end(letters.ctypes.data, ends[-1], len(letters)))
print(*ends[1:], end=f", compiled: {{sum(next_end.stats.cache_misses.values())}}")
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_old_letters_are_those_of_the_unicode_database() -> None:
    """A second opinion, on what no later Unicode changes: the first plane's scripts up to the ideographs."""
    classes = find_classes()
    for number in range(0x250):
        category = unicodedata.category(chr(number))[0]
        assert (classes[number] == LETTER) == (category == "L")
        assert (classes[number] == NUMBER) == (category == "N")
        assert (classes[number] == SPACE) == (chr(number) in "\t\n\x0b\x0c\r \x85\xa0")
