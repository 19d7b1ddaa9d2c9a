"""Heaps of a process: few, whatever the number of its threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

THREADS = """
import ctypes, sys, threading
from opentracy.traces.memory import share_heaps
if sys.argv[2] == "shared":
    share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
begun = threading.Barrier(7)
def work():
    libc.malloc(100_000)
    begun.wait()
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
begun.wait()
for thread in threads: thread.join()
file = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
"""


def heaps(tmp_path: Path, how: str, **env: str) -> int:
    """Heaps that six threads at work make, as the C library counts them."""
    target = tmp_path / "info.xml"
    environ = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"} | env
    done = subprocess.run([sys.executable, "-c", THREADS, str(target), how], env=environ, capture_output=True, text=True)
    if "malloc_info" in done.stderr:
        pytest.skip("another C library than glibc")
    assert done.returncode == 0, done.stderr
    return target.read_text().count("<heap nr=")


def test_six_threads_share_two_heaps(tmp_path: Path) -> None:
    assert heaps(tmp_path, "as it is") > 2, "else this shows nothing"
    assert heaps(tmp_path, "shared") == 2


def test_whoever_starts_the_process_has_the_last_word(tmp_path: Path) -> None:
    assert heaps(tmp_path, "shared", MALLOC_ARENA_MAX="4") == 4
