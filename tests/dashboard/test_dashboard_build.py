"""The files that are served: whole, small, without anything inline, and what web/ gives."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "src" / "opentracy" / "dashboard" / "static"


def test_every_file_has_its_compressed_twin_and_all_stay_within_150_kb() -> None:
    plain = [p for p in STATIC.iterdir() if p.suffix != ".gz"]
    assert {p.name for p in STATIC.glob("*.gz")} == {f"{p.name}.gz" for p in plain}
    for path in plain:
        assert gzip.decompress((STATIC / f"{path.name}.gz").read_bytes()) == path.read_bytes(), path.name
    assert sum(p.stat().st_size for p in STATIC.glob("*.gz")) <= 150_000


def test_names_carry_the_digest_of_the_content() -> None:
    hashed = [p for p in STATIC.iterdir() if p.suffix in (".js", ".css", ".svg")]
    assert len(hashed) == 3
    for path in hashed:
        assert path.stem.rpartition("-")[2] == hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def test_the_page_names_files_that_exist_and_nothing_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    for name in re.findall(r'(?:src|href)="([^"]+)"', page):
        # what the page asks first may be on its way before its script is there
        own = name == "/v1/dashboard/session"
        assert own or (name.startswith("/assets/") and (STATIC / name.removeprefix("/assets/")).exists()), name
    assert not re.search(r"<script[^>]*>[^<]|<style| style=| on[a-z]+=", page)
    for path in STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\beval\(|new Function\(|https?://(?!www\.w3\.org/)", text)


def test_the_committed_files_are_what_web_gives() -> None:
    if shutil.which("node") is None or not (ROOT / "web" / "node_modules").exists():
        pytest.skip("no node, or npm ci was not run in web/")
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "build_dashboard.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    types = subprocess.run(["npx", "tsc", "--noEmit"], cwd=ROOT / "web", capture_output=True, text=True)
    assert types.returncode == 0, types.stdout
