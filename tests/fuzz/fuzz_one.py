"""One target under atheris, in a process of its own: `fuzz_one.py <target> <corpus folder> [libFuzzer options]`."""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-not-found]  # lives only in the environment that run.py makes
from targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
