"""Writes requirements.lock: every dependency of a deployment with its version and the hashes of its files.

    python scripts/lock.py            write it anew
    python scripts/lock.py --check    status 1 when pyproject.toml asks for something that is not in it

Install with `pip install --require-hashes -r requirements.lock`, then `pip install --no-deps opentracy`.
What is locked are the base dependencies and the extras that `opentracy serve` needs. pip resolves them in a dry run;
hashes are those of every file of that version which this machine's pip can see for the Python versions we support.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
EXTRAS = ("engine", "bedrock", "proxy", "redis")
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_28_aarch64")
HEAD = """\
# Every dependency of an engine, locked by hash. Made by scripts/lock.py; install with
#   pip install --require-hashes -r requirements.lock && pip install --no-deps opentracy
"""


def wanted() -> list[str]:
    """The requirements of pyproject.toml that are locked."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(r for extra in EXTRAS for r in project["optional-dependencies"][extra])]


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def resolved() -> dict[str, tuple[str, set[str]]]:
    """name -> (version, hashes) as pip resolves it here."""
    done = pip("install", "--dry-run", "--ignore-installed", "--report", "-", *wanted())
    if done.returncode:
        raise SystemExit(done.stderr)
    found = {}
    for item in json.loads(done.stdout)["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        found[name] = (item["metadata"]["version"], {digest})
    return found


def add_other_files(found: dict[str, tuple[str, set[str]]]) -> None:
    """The same versions for the other Pythons and machines: a lock for one wheel would be of no use elsewhere."""
    pins = [f"{name}=={version}" for name, (version, _) in found.items()]
    for python in PYTHONS:
        for platform in PLATFORMS:
            with tempfile.TemporaryDirectory() as folder:
                older = [platform.replace("2_28", "2_17"), platform.replace("manylinux_2_28", "manylinux2014")]
                where = ["--python-version", python, *(x for p in (platform, *older) for x in ("--platform", p))]
                done = pip("download", "--no-deps", "--only-binary", ":all:", "-d", folder, *where, *pins)
                if done.returncode:
                    print(f"{python} {platform}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                for file in Path(folder).iterdir():
                    name = re.sub(r"[-_.]+", "-", file.name.split("-")[0]).lower()
                    found[name][1].add(hashlib.sha256(file.read_bytes()).hexdigest())


def text(found: dict[str, tuple[str, set[str]]]) -> str:
    entries = []
    for name, (version, hashes) in sorted(found.items()):
        lines = [f"{name}=={version}", *(f"    --hash=sha256:{h}" for h in sorted(hashes))]
        entries.append(" \\\n".join(lines))
    return HEAD + "\n".join(entries) + "\n"


def missing() -> list[str]:
    """Requirements that no entry of the lock meets by name."""
    locked = {line.partition("==")[0] for line in LOCK.read_text().splitlines() if re.match(r"[a-z0-9]", line)}
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", r)[0]).lower() for r in wanted()}
    return sorted(names - locked)


if __name__ == "__main__":
    if "--check" in sys.argv:
        gone = missing()
        if gone:
            raise SystemExit(f"requirements.lock lacks {', '.join(gone)}: run python scripts/lock.py")
    else:
        found = resolved()
        add_other_files(found)
        LOCK.write_text(text(found))
        print(f"{LOCK.name}: {len(found)} packages, {sum(len(h) for _, h in found.values())} files")
