"""Engines in front of a scripted provider, for every test here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from faultserver import FaultServer


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultServer]:
    with contextlib.closing(FaultServer()) as server:
        yield server
