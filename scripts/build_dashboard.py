"""Builds web/ into src/opentracy/dashboard/static, or with --check says whether what is committed is what web/ gives.

    python scripts/build_dashboard.py            build (needs node and npm, once)
    python scripts/build_dashboard.py --check    compare, exit 1 on a difference

Files carry a digest of their content in their names, so browsers may keep them for ever; each has a gzip twin, so the
engine compresses nothing. The check compares contents: compressed bytes may differ from one zlib to the next.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "web"
STATIC = ROOT / "src" / "opentracy" / "dashboard" / "static"
BUDGET = 150_000  # bytes, compressed, all together


def bundle() -> dict[str, bytes]:
    """Name -> content of everything that is served, uncompressed."""
    if not (WEB / "node_modules").exists():
        subprocess.run(["npm", "ci", "--no-fund", "--no-audit"], cwd=WEB, check=True)
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(["node", "build.mjs", out], cwd=WEB, check=True)
        parts = {
            "app": ("js", (Path(out) / "app.js").read_bytes()),
            "style": ("css", (Path(out) / "style.css").read_bytes()),
            "icon": ("svg", (WEB / "icon.svg").read_bytes()),
        }
    files: dict[str, bytes] = {}
    names: dict[str, str] = {}
    for name, (kind, content) in parts.items():
        names[name] = f"{name}-{hashlib.sha256(content).hexdigest()[:12]}.{kind}"
        files[names[name]] = content
    page = (WEB / "index.html").read_text(encoding="utf-8")
    for name, hashed in names.items():
        page = page.replace(f"{{{name}}}", hashed)
    files["index.html"] = page.encode()
    return files


def committed() -> dict[str, bytes]:
    """What the package holds now; every file must have its twin."""
    files: dict[str, bytes] = {}
    for twin in sorted(STATIC.glob("*.gz")):
        content = gzip.decompress(twin.read_bytes())
        plain = twin.with_suffix("")
        if not plain.exists() or plain.read_bytes() != content:
            sys.exit(f"{twin.name} is not the compressed form of {plain.name}")
        files[plain.name] = content
    return files


def write(files: dict[str, bytes]) -> None:
    """Replaces the folder."""
    shutil.rmtree(STATIC, ignore_errors=True)
    STATIC.mkdir(parents=True)
    for name, content in files.items():
        (STATIC / name).write_bytes(content)
        (STATIC / f"{name}.gz").write_bytes(gzip.compress(content, 9, mtime=0))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare with what is committed, change nothing")
    check = parser.parse_args().check
    files = bundle()
    size = sum(len(gzip.compress(content, 9)) for content in files.values())
    print(f"{len(files)} files, {size / 1000:.1f} kB compressed (budget {BUDGET / 1000:.0f} kB)")
    if size > BUDGET:
        sys.exit("too large")
    if not check:
        write(files)
        return
    now = committed()
    different = sorted(name for name in files.keys() | now.keys() if files.get(name) != now.get(name))
    if different:
        sys.exit(f"not what web/ gives: {', '.join(different)}; run python scripts/build_dashboard.py")
    print("the committed files are what web/ gives")


if __name__ == "__main__":
    main()
