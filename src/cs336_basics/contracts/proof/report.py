"""What a proof is: the rules, a failure, and the whole."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

Rule: TypeAlias = Literal[
    "shape",
    "dtype",
    "specialises",
    "writes",
    "random",
    "host read",
    "broadcast",
    "device",
    "edge",
    "contract",
    "error",
]
RULES: Final = get_args(Rule)


@dataclass(frozen=True)
class Failure:
    """One rule that a function breaks: in which case, about which axis and expression, and what happened."""

    rule: Rule
    case: str
    axis: str
    expression: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule} ({self.case}): {self.message}"


@dataclass(frozen=True)
class Proof:
    """What `prove` found. `given` are conditions that the function itself requires, and refuses a call without;
    `refused` are cases that it refuses whatever the sizes, as no axis at all for a softmax."""

    name: str
    cases: int
    seconds: float
    failures: tuple[Failure, ...]
    given: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the annotations hold."""
        return not self.failures

    def __str__(self) -> str:
        verdict = "proved" if self.ok else "not proved"
        head = f"{self.name}: {verdict}, {self.cases} cases, {self.seconds:.1f} s"
        given = [f"  where {condition}" for condition in self.given]
        note = [f"  {self.note}"] if self.note else []
        return "\n".join([head, *note, *given, *(f"  {failure}" for failure in self.failures)])
