"""Coverage-guided fuzzing of the parsers: `make fuzz`, or `python tests/fuzz/run.py [target ...] [--seconds N] [--runs N]`.

Not part of `make test`: it needs atheris (which has no wheels for every Python) and time. The first run makes an
environment of its own, `.venv-fuzz`, beside the project's. New inputs are kept in `.fuzz/<target>`; an input that
breaks a promise is written there as `crash-...` and ends the run with status 1. To look at one again:
`python tests/fuzz/run.py <target> --input .fuzz/<target>/crash-...`
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / ".venv-fuzz"
KEPT = ROOT / ".fuzz"


def main() -> int:
    """Runs the wanted targets one after the other; 1 when one of them found something."""
    sys.path.insert(0, str(HERE))
    from targets import SEEDS, TARGETS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all of them when none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--runs", type=int, default=-1, help="executions for each target at most, whatever the seconds allow")
    parser.add_argument("--max-len", type=int, default=4096, help="of an input, in bytes: short ones are run more often")
    parser.add_argument("--input", type=Path, help="run one input through the target, without atheris")
    wanted = parser.parse_args()
    unknown = [t for t in wanted.targets if t not in TARGETS]
    if unknown:
        parser.error(f"unknown target {unknown[0]!r}: choose of {', '.join(TARGETS)}")
    names = wanted.targets or list(TARGETS)
    if wanted.input:
        for name in names:
            TARGETS[name](wanted.input.read_bytes())
        return 0
    python = prepare()
    failed = []
    for name in names:
        folder = KEPT / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed in SEEDS[name]:
            (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
        limits = [f"-max_total_time={wanted.seconds}", f"-runs={wanted.runs}", f"-max_len={wanted.max_len}"]
        limits += ["-rss_limit_mb=1024", "-timeout=10", "-verbosity=0", "-print_final_stats=1"]
        command = [str(python), str(HERE / "fuzz_one.py"), name, str(folder), f"-artifact_prefix={folder}/", *limits]
        print(f"{name}: {wanted.seconds} s", flush=True)
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"broken: {', '.join(failed)}" if failed else f"nothing found in {', '.join(names)}")
    return 1 if failed else 0


def prepare() -> Path:
    """The interpreter of an environment with atheris and this package."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / ".done").exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "atheris", "-e", str(ROOT)], check=True)
        (ENVIRONMENT / ".done").touch()
    return python


if __name__ == "__main__":
    sys.exit(main())
