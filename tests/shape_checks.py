"""Checks annotated shapes at run time, and leaves all other types to mypy.

Tests hand in small fakes where a store or a tokenizer is expected, so beartype sees only the
annotations that name a shape.
"""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """The type checker that jaxtyping's import hook puts around every function of realm."""
    hints = {name: hint for name, hint in function.__annotations__.items() if names_a_shape(hint)}
    if not hints:
        return function
    function.__annotations__ = hints
    return beartype(function)


def names_a_shape(hint: Any) -> bool:
    """Whether a shape stands anywhere in an annotation."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(names_a_shape(part) for part in get_args(hint))
