"""The glossary itself; that nothing else is used in annotations is held by tests/test_house.py."""

from cs336_basics.contracts import AXES


def test_every_name_can_stand_in_a_shape_and_means_something() -> None:
    for name, meaning in AXES.items():
        assert name.isidentifier(), name
        assert name == name.lower(), name
        assert len(meaning) > 10, name
    assert len(set(AXES.values())) == len(AXES)
