"""einops patterns read for their shapes: `"b s (h d) -> b h s d"` applied to the axes of a tensor.

Nothing here imports einops; what it would refuse at run time for every size is a `PatternError`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cs336_basics.contracts.plugin.polynomials import Size, number, same, unknown, unknown_name
from cs336_basics.contracts.plugin.values import Axes, Several

Element: TypeAlias = str | tuple[str, ...]
"""One axis of a pattern: a name, a number, `...`, or several of them in parentheses."""


class PatternError(Exception):
    """A pattern that cannot be read, or that the tensors cannot have."""


@dataclass
class _Bound:
    """What the names of one pattern stand for."""

    sizes: dict[str, Size]
    rigid: bool
    rest: dict[str, Axes] = field(default_factory=dict)

    def of(self, name: str) -> Size:
        return number(int(name)) if name.isdigit() else self.sizes.setdefault(name, unknown(name))


def apply(operation: str, pattern: str, axes: Sequence[Axes | None], sizes: Mapping[str, Size], *, rigid: bool) -> Axes:
    """The axes of what `rearrange`, `reduce`, `repeat` or `einsum` returns; axes None: a tensor of unknown shape.

    Raises: PatternError where no sizes could make it right, or, with `rigid`, only special ones.

    >>> from cs336_basics.contracts.plugin.polynomials import named
    >>> from cs336_basics.contracts.plugin.values import written
    >>> x = (named("seq"), named("d_model"))
    >>> written(apply("rearrange", "b (h d) -> b h d", [x], {"h": number(2)}, rigid=True))
    'seq 2 d_model/2'
    """
    inputs, output = read(pattern)
    if len(inputs) != len(axes):
        raise PatternError(f"it is for {len(inputs)} tensors, not {len(axes)}")
    bound = _Bound(dict(sizes), rigid)
    _check_names(operation, inputs, output, sizes)
    for elements, given in zip(inputs, axes, strict=True):
        if given is not None:
            _match(elements, given, bound)
    return tuple(axis for element in output for axis in _built(element, bound))


def read(pattern: str) -> tuple[list[list[Element]], list[Element]]:
    """The elements of each input and of the output.

    Raises: PatternError for text that is no pattern.
    """
    sides = pattern.split("->")
    if len(sides) != 2:
        raise PatternError("a pattern has one ->")
    return [_elements(text) for text in sides[0].split(",")], _elements(sides[1])


def _elements(text: str) -> list[Element]:
    elements: list[Element] = []
    group: list[str] | None = None
    for part in re.findall(r"\.\.\.|\w+|\S", text.replace("…", "...")):
        if part == "(" and group is None:
            group = []
        elif part == ")" and group is not None:
            elements.append(tuple(group))
            group = None
        elif part == "..." or part.isidentifier() or part.isdigit():
            (elements if group is None else group).append(part)
        else:
            raise PatternError(f"{part!r} cannot stand there")
    if group is not None:
        raise PatternError("a parenthesis is not closed")
    names = [name for name in _flat(elements) if name.isidentifier() and name != "_"]
    if len(names) != len(set(names)):
        raise PatternError(f"{next(name for name in names if names.count(name) > 1)} stands twice on one side")
    return elements


def _flat(elements: Sequence[Element]) -> list[str]:
    return [name for element in elements for name in ([element] if isinstance(element, str) else element)]


def _check_names(
    operation: str, inputs: Sequence[Sequence[Element]], output: Sequence[Element], sizes: Mapping[str, Size]
) -> None:
    """A name must come from somewhere, and only reduce and einsum may leave one out."""
    given = [name for elements in inputs for name in _flat(elements) if not name.isdigit()]
    known = {*given, *(sizes if operation == "repeat" else ())}
    for name in _flat(output):
        if not name.isdigit() and name not in known:
            raise PatternError(f"{name} is on the right side only")
    for name in given if operation in ("rearrange", "repeat") else ():
        if name not in _flat(output):
            raise PatternError(f"{name} is on the left side only")


def _match(elements: Sequence[Element], axes: Axes, bound: _Bound) -> None:
    dots = next((i for i, element in enumerate(elements) if element == "..."), None)
    several = next((i for i, axis in enumerate(axes) if isinstance(axis, Several)), None)
    least, count = len(elements) - (dots is not None), len(axes) - (several is not None)
    promised = several is not None and bound.rigid and not str(axes[several]).startswith("...")
    if several is None or (dots is None and count > least):
        if count < least or (dots is None and count > least):
            raise PatternError(f"it has {least}{'' if dots is None else ' or more'} axes, not {count}")
    elif promised and (dots is None or count < least):
        raise PatternError(f"{axes[several]} is any number of axes, which only ... can stand for")
    left = min(len(elements) if dots is None else dots, len(axes) if several is None else several)
    right = min(
        len(elements) if dots is None else len(elements) - 1 - dots,
        len(axes) if several is None else len(axes) - 1 - several,
    )
    if dots is None and several is None:
        right = 0  # all stand on the left
    for element, axis in (*zip(elements[:left], axes[:left], strict=True), *_last(elements, axes, right)):
        if isinstance(axis, Size):
            _bind(element, axis, bound)
    if dots is not None and left == dots and right == len(elements) - 1 - dots:
        middle = axes[left : len(axes) - right]
        if bound.rest.setdefault("...", middle) != middle:  # they are broadcast: to what, is not worth knowing
            bound.rest["..."] = (Several(unknown_name("...")),)


def _last(elements: Sequence[Element], axes: Axes, count: int) -> list[tuple[Element, Size | Several]]:
    return list(zip(elements[len(elements) - count :], axes[len(axes) - count :], strict=True))


def _bind(element: Element, axis: Size, bound: _Bound) -> None:
    """Bind a name to an axis, or the last unbound one of a product."""
    names = (element,) if isinstance(element, str) else element
    if "..." in names or "_" in names:
        return
    product, unbound = number(1), []
    for name in names:
        if name.isdigit() or name in bound.sizes:
            product *= bound.of(name)
        else:
            unbound.append(name)
    if len(unbound) == 1 and (quotient := axis.over(product)) is not None:
        bound.sizes[unbound[0]] = quotient
    elif not unbound and same(product, axis, rigid=bound.rigid) is False:
        text = element if isinstance(element, str) else f"({' '.join(element)})"
        raise PatternError(f"{text} is {product}, not {axis}" if text != str(product) else f"{text}, not {axis}")


def _built(element: Element, bound: _Bound) -> Axes:
    """The axes that one element of the output stands for."""
    if element == "...":
        return bound.rest.get("...", (Several(unknown_name("...")),))
    product = number(1)
    for name in (element,) if isinstance(element, str) else element:
        product *= unknown("...") if name == "..." else bound.of(name)
    return (product,)
