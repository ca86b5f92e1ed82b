"""Damage of a single bit is seen and told in one line; without a checksum it is not, and plain files show it."""

from pathlib import Path

import pytest

from tests.faults.damage import damaged, kinds, passed_over, plain_kinds

KINDS = ["checkpoint", "token file", "sidecar", "tokenizer"]


@pytest.mark.parametrize("kind", KINDS)
def test_all_damage_is_seen(kind: str, tmp_path: Path) -> None:
    for row in damaged(kind, kinds(tmp_path)[kind], flips=100, cuts=50):
        assert row.injected in (50, 100)
        assert row.lost == 0, row.why


def test_the_checkpoint_before_a_damaged_one_serves(tmp_path: Path) -> None:
    row = passed_over(tmp_path, count=50)
    assert (row.injected, row.lost) == (50, 0), row.why


def test_every_cut_at_the_end_is_seen(tmp_path: Path) -> None:
    """Where the last bytes alone are gone, all fields still read well."""
    for files, load, error in kinds(tmp_path).values():
        for path in files:
            sound = path.read_bytes()
            for missing in range(1, 130):
                path.write_bytes(sound[:-missing])
                with pytest.raises(error):
                    load()
            path.write_bytes(sound)
            load()


@pytest.mark.parametrize("kind", ["plain .pt", "safetensors"])
def test_plain_files_are_loaded_wrong_without_a_word(kind: str, tmp_path: Path) -> None:
    flipped, _ = damaged(kind, plain_kinds(tmp_path)[kind], flips=50, cuts=0)
    assert flipped.lost > 25
