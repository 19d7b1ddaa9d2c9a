"""What our exceptions derive from while nobody has imported the openai package: stand-ins that give way to its classes.

Importing that package costs half a second and sixty megabytes. Only who has imported it can name one of its classes in
an `except`, so the first error of a process need not pay for it: the bases are exchanged the moment it is imported,
also for errors that exist already. It must be the bases, since `except` looks at nothing else, and at that moment,
since it may be imported by whoever has just caught ours.
Not here: the exceptions themselves (`_error_classes`), and what they are without that package (`_error_bases`).
"""

from __future__ import annotations

import contextlib
import importlib
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
    """Whether the openai package could be imported, or is being imported by whoever imports us."""
    if _PACKAGE in sys.modules:
        return bool(getattr(getattr(sys.modules[_PACKAGE], "__spec__", None), "_initializing", False))
    return importlib.util.find_spec(_PACKAGE) is not None


def imported() -> bool:
    """Whether somebody has imported it, as far as the classes that we derive from."""
    module = sys.modules.get(_PACKAGE)
    return module is not None and all(isinstance(getattr(module, name, None), type) for name in _PARENTS)


def settled() -> bool:
    """`imported`, once an import that another thread is about to finish is over."""
    if sys.modules.get(_PACKAGE) is not None:
        with contextlib.suppress(Exception):  # whoever imports it is told
            importlib.import_module(_PACKAGE)
    return imported()


def stand_ins() -> ModuleType:
    """A module with an empty class for each of openai's that we derive from, related as those are."""
    module = ModuleType("opentracy._openai_stand_ins")
    for name, parent in _PARENTS.items():
        base = getattr(module, parent) if parent else Exception
        setattr(module, name, type(name, (base,), {"__module__": module.__name__}))
    return module


def adopt(classes: Sequence[type], stand_in: ModuleType) -> None:
    """Puts openai's classes in the places of the stand-ins. `classes`: ours, every one after those it derives from.

    May be done twice, and by two threads at once: no lock, since whoever calls may hold that of an import.
    """
    openai = sys.modules[_PACKAGE]
    for cls in classes:
        cls.__bases__ = tuple(
            getattr(openai, base.__name__) if base.__module__ == stand_in.__name__ else base for base in cls.__bases__
        )


def when_imported(then: Callable[[], object]) -> None:
    """Calls `then` as soon as somebody has imported the openai package, before that import statement is over."""
    sys.meta_path.insert(0, _Watch(then))


class _Watch:
    """Finds nothing itself; notices that openai is looked for, and goes away once it was imported."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The spec that the other finders give, with a loader that tells us when it is done."""
        if name != _PACKAGE:
            return None
        for finder in list(sys.meta_path):
            look = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = look(name, path, target) if look is not None and finder is not self else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Telling(spec.loader, self._done)  # type: ignore[assignment]
                return spec
        return None

    def _done(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self._then()


class _Telling:
    """A loader like another (which may serve other modules too, so it is not changed) that says when it is done."""

    def __init__(self, loader: Any, done: Callable[[], object]) -> None:
        self._loader, self._tell = loader, done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the other does."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """As the other does; afterwards nothing of us is left in the module."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._tell()
