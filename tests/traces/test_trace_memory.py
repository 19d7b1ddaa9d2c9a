"""Heaps of a process: few, whatever the number of its threads, and small again after a burst."""

from __future__ import annotations

import os
import re
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


def measured(script: str, tmp_path: Path, how: str, env: dict[str, str]) -> str:
    """What the C library says of its heaps after a script."""
    target = tmp_path / "info.xml"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | env
    done = subprocess.run([sys.executable, "-c", script, str(target), how], env=environ, capture_output=True, text=True)
    if "malloc_info" in done.stderr:
        pytest.skip("another C library than glibc")
    assert done.returncode == 0, done.stderr
    return target.read_text()


def heaps(tmp_path: Path, how: str, **env: str) -> int:
    """Heaps that six threads at work make."""
    return measured(THREADS, tmp_path, how, env).count("<heap nr=")


def test_six_threads_share_two_heaps(tmp_path: Path) -> None:
    assert heaps(tmp_path, "as it is") > 2, "else this shows nothing"
    assert heaps(tmp_path, "shared") == 2


def test_whoever_starts_the_process_has_the_last_word(tmp_path: Path) -> None:
    assert heaps(tmp_path, "shared", MALLOC_ARENA_MAX="4") == 4


BURST = """
import ctypes, sys, threading
from opentracy.traces.memory import give_back, share_heaps
if sys.argv[2] == "shared":
    share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
def work():
    libc.free(libc.malloc(30 << 20))  # one large buffer, once
    kept = libc.malloc(1000)
    for block in [libc.malloc(300_000) for _ in range(60)]:
        libc.free(block)
    give_back()
thread = threading.Thread(target=work)
thread.start()
thread.join()
file = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
"""


def largest_heap(tmp_path: Path, how: str, **env: str) -> int:
    """Bytes that the C library keeps for the heap of a thread that took 18 MB and freed them."""
    info = measured(BURST, tmp_path, how, env)
    return max(int(size) for size in re.findall(r'<system type="current" size="(\d+)"/>', info))


def test_a_burst_is_given_back(tmp_path: Path) -> None:
    assert largest_heap(tmp_path, "as it is") > 18_000_000, "else this shows nothing"
    assert largest_heap(tmp_path, "shared") < 4_000_000
    assert largest_heap(tmp_path, "shared", MALLOC_TRIM_THRESHOLD_=str(64 << 20)) > 18_000_000
