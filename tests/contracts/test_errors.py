import pytest

from cs336_basics.contracts import ContractError, require


class Unspeakable:
    def __format__(self, spec: str) -> str:
        raise AssertionError("formatted although the condition holds")


def test_require_says_nothing_where_the_condition_holds() -> None:
    require(True, "f: {}", Unspeakable())


def test_require_formats_its_message() -> None:
    with pytest.raises(ContractError, match=r"^f: n must be below 2, got 3 and \[1\]$"):
        require(False, "f: n must be below {}, got {} and {}", 2, 3, [1])


def test_require_takes_a_message_with_braces_as_it_is() -> None:
    with pytest.raises(ContractError, match=r"^got \{'a': 1\}$"):
        require(False, f"got { {'a': 1} }")


@pytest.mark.parametrize("expected", [ContractError, TypeError, ValueError])
def test_a_contract_error_is_what_a_caller_may_expect(expected: type[Exception]) -> None:
    with pytest.raises(expected):
        require(False, "f")
