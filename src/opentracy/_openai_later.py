"""What our exceptions derive from while nobody has imported the openai package: stand-ins that give way to its classes.

Importing that package costs half a second and sixty megabytes. Only who has imported it can name one of its classes in
an `except`, so the first error of a process need not pay for it: the bases are exchanged the moment it is imported.
Not here: the exceptions themselves (`_error_classes`), and what they are without that package (`_error_bases`).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PARENTS = {
    "APIError": "", "APIResponseValidationError": "APIError", "APIConnectionError": "APIError",
    "APITimeoutError": "APIConnectionError", "APIStatusError": "APIError", "BadRequestError": "APIStatusError",
    "AuthenticationError": "APIStatusError", "PermissionDeniedError": "APIStatusError",
    "NotFoundError": "APIStatusError", "ConflictError": "APIStatusError", "UnprocessableEntityError": "APIStatusError",
    "RateLimitError": "APIStatusError", "InternalServerError": "APIStatusError",
}  # fmt: skip


_PACKAGE = "openai"


def installed() -> bool:
    """Whether the openai package could be imported."""
    return importlib.util.find_spec(_PACKAGE) is not None


def imported() -> bool:
    """Whether somebody has imported it."""
    return sys.modules.get(_PACKAGE) is not None


def stand_ins() -> ModuleType:
    """A module with an empty class for each of openai's that we derive from, related as those are."""
    module = ModuleType("opentracy._openai_stand_ins")
    for name, parent in _PARENTS.items():
        base = getattr(module, parent) if parent else Exception
        setattr(module, name, type(name, (base,), {"__module__": module.__name__}))
    return module


def adopt(classes: Sequence[type], stand_in: ModuleType) -> None:
    """Puts openai's classes in the places of the stand-ins. `classes`: ours, every one after those it derives from."""
    import openai

    for cls in classes:
        cls.__bases__ = tuple(
            getattr(openai, base.__name__) if base.__module__ == stand_in.__name__ else base for base in cls.__bases__
        )


def when_imported(then: Callable[[], object]) -> None:
    """Calls `then` as soon as somebody has imported the openai package."""
    sys.meta_path.insert(0, _Watch(then))


class _Watch:
    """Finds nothing itself; notices that openai is looked for, and goes away once it was imported."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then
        self._looking = False

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The spec that the other finders give, with a loader that tells us when it is done."""
        if name != _PACKAGE or self._looking:
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                self._then()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
