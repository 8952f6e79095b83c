#!/usr/bin/env python3
"""Set up wmdsl on a fresh machine, then run its demo or its tests. Standard library only.

    python3 dev.py demo            demonstrations, training, closed loop, report in runs/demo
    python3 dev.py test            the fast test suite
    python3 dev.py test --slow     the slow test suite
    python3 dev.py setup           only `.venv` and the system packages
    python3 dev.py lock            resolve pyproject.toml anew and rewrite requirements.lock
    python3 dev.py clean           remove `.venv` and the caches (never `runs`)

Every other argument goes to the demo or to pytest: `python3 dev.py test -k formatter -x`. A
debugger needs one process: `python3 dev.py test -n 0 --pdb`.
Python packages come from wherever pip is configured to look, at the versions of requirements.lock.
"""

from __future__ import annotations

import argparse
import ctypes
import glob
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "wmdsl-lock.sha256"

# Pinned here because pyproject.toml leaves the choice open: triton is the one that this torch's
# CUDA build demands.
LOCK_PINS = ("torch==2.13.0", "triton==3.7.1")
CUDA_PREFIXES = ("nvidia-", "cuda-")
CUDA_EXTRA = "2.3 GB"
MOST_PROCESSES = 8  # of the tests

# Lists the installed distributions that lack a file which their RECORD names: what an interrupted
# installation leaves behind.
FIND_TORN = """
import csv, importlib.metadata
for distribution in importlib.metadata.distributions():
    record = distribution.read_text("RECORD") or ""
    names = [row[0] for row in csv.reader(record.splitlines()) if not row[0].endswith(".pyc")]
    if not names or not all(distribution.locate_file(name).exists() for name in names):
        print(distribution.name)
"""


class SetupError(Exception):
    """What the user has to do before setting up can go on."""


def run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    """Run a command in the repository root; raise CalledProcessError where it fails."""
    variables = {**os.environ, **(environment or {})}
    subprocess.run([str(part) for part in command], cwd=ROOT, env=variables, check=True)


def become(*arguments: str) -> None:
    """Go on as the environment's Python, which then gets signals and gives the exit status."""
    os.chdir(ROOT)
    os.execv(PYTHON, [str(PYTHON), *arguments])


def say(text: str) -> None:
    print(f"dev.py: {text}", flush=True)


# System packages


def loads(*libraries: str) -> bool:
    """Whether the dynamic linker finds any of these libraries."""
    for library in libraries:
        try:
            ctypes.CDLL(library)
            return True
        except OSError:
            continue
    return False


def has_software_renderer() -> bool:
    folders = ("/usr/lib", "/usr/lib64", "/usr/lib/*-linux-gnu")
    patterns = [f"{f}/{name}" for f in folders for name in ("dri/swrast_dri.so", "libgallium-*.so")]
    return any(map(glob.glob, patterns)) or loads("libEGL_nvidia.so.0")


# Debian package -> does this machine have what it brings?
SYSTEM_PACKAGES: dict[str, Callable[[], bool]] = {
    "python3-venv": lambda: importlib.util.find_spec("ensurepip") is not None,
    "python3-dev": lambda: Path(sysconfig.get_path("include"), "Python.h").is_file(),
    "g++": lambda: any(map(shutil.which, ("c++", "g++", "clang++"))),
    "libegl1": lambda: loads("libEGL.so.1"),
    "libegl-mesa0": lambda: loads("libEGL_mesa.so.0", "libEGL_nvidia.so.0"),
    "libgl1-mesa-dri": has_software_renderer,
    "libgles2": lambda: loads("libGLESv2.so.2"),
}


def install_system_packages() -> None:
    """Install what SYSTEM_PACKAGES finds missing, or raise SetupError with the line to type."""
    missing = [name for name, present in SYSTEM_PACKAGES.items() if not present()]
    if not missing:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(
            "system packages are missing; on Debian or Ubuntu type\n"
            f"    sudo apt-get update && sudo {' '.join(install)}\n"
            "elsewhere install what brings the same, or pass --skip-system to go on without"
        )
    say(f"installing by apt: {', '.join(missing)} (up to 160 MB to download)")
    run("apt-get", "update", "-q")
    run(*install, "-q", environment={"DEBIAN_FRONTEND": "noninteractive"})


# Python packages


def stamp() -> str:
    """The hash that a finished `.venv` carries: lock, project metadata and Python version."""
    digest = hashlib.sha256(LOCK.read_bytes())
    digest.update((ROOT / "pyproject.toml").read_bytes())
    digest.update("{}.{}".format(*sys.version_info).encode())
    return digest.hexdigest()


def is_ready() -> bool:
    return STAMP.is_file() and STAMP.read_text() == stamp() and PYTHON.exists()


def is_usable() -> bool:
    """Whether `.venv` is an environment of this Python version into which pip can install."""
    probe = "import pip, sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return answer.stdout.strip() == "{}.{}".format(*sys.version_info)


def make_environment() -> None:
    run(sys.executable, "-m", "venv", "--clear", VENV)


def install_locked() -> None:
    run(PYTHON, "-m", "pip", "install", "--no-compile", "-r", LOCK)
    run(PYTHON, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "-e", ROOT)
    compile_bytecode(VENV / "lib", processes=0)


def compile_bytecode(*folders: Path, processes: int = 1) -> None:
    """Write the bytecode of all modules, on every core where `processes` is 0.

    Not left to the first import: under PYTHONDONTWRITEBYTECODE every start would compile again.
    Some packages carry templates that are no Python, so the exit status says nothing.
    """
    compiler = (PYTHON, "-m", "compileall", "-qq", "-j", str(processes))
    subprocess.run([*compiler, *folders], cwd=ROOT, check=False)


def torn_distributions() -> list[str]:
    answer = subprocess.run([PYTHON, "-c", FIND_TORN], capture_output=True, text=True, check=True)
    return answer.stdout.split()


def install_python_packages() -> None:
    """Make `.venv` as the lock says; an environment of another lock or a torn one is repaired."""
    STAMP.unlink(missing_ok=True)
    size = LOCK.read_text().splitlines()[0].lstrip("# ")
    say(f"installing into {VENV}: {size}")
    if is_usable():
        install_locked()
        torn = torn_distributions()
        if not torn:
            STAMP.write_text(stamp())
            return
        say(f"an interrupted installation left {', '.join(torn)}: making .venv anew")
    make_environment()
    install_locked()
    STAMP.write_text(stamp())


def setup(skip_system: bool) -> None:
    """Bring the machine to where demo and test run; does nothing where it is there already."""
    if sys.version_info < (3, 11):
        raise SetupError(f"wmdsl needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    if not skip_system:
        install_system_packages()
    if not is_ready():
        install_python_packages()
    compile_bytecode(ROOT / "wmdsl", ROOT / "kernels")


# Verbs


def demo(options: argparse.Namespace, rest: Sequence[str]) -> None:
    setup(options.skip_system)
    # Unbuffered, so that the text keeps its order with the progress bars in a log file.
    become("-u", "-m", "wmdsl.tools.demo", *rest)


def test(options: argparse.Namespace, rest: Sequence[str]) -> None:
    setup(options.skip_system)
    marks = ("-m", "slow and not gpu") if options.slow else ()
    # One process a core, each with one thread; a file stays in one, with the models it shares.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    processes = str(min(os.cpu_count() or 1, MOST_PROCESSES))
    become("-m", "pytest", "-n", processes, "--dist", "loadfile", *marks, *rest)


def prepare(options: argparse.Namespace, rest: Sequence[str]) -> None:
    setup(options.skip_system)


def lock(options: argparse.Namespace, rest: Sequence[str]) -> None:
    """Rewrite requirements.lock from pyproject.toml: exact versions, no index, no local suffix."""
    if not is_usable():
        make_environment()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        resolve = ("install", "--dry-run", "--ignore-installed", "--quiet", "--report", report)
        run(PYTHON, "-m", "pip", *resolve, *LOCK_PINS, *requirements())
        LOCK.write_text(lock_text(json.loads(report.read_text())["install"]))
    say(f"wrote {LOCK.name}")


def requirements() -> list[str]:
    """What the `dev` extra installs, spelt out: pip resolves it without building the project."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = list(project["dependencies"])
    for item in extras["dev"]:
        if item.startswith("wmdsl["):
            wanted += [one for name in item[6:-1].split(",") for one in extras[name]]
        else:
            wanted.append(item)
    return wanted


def lock_text(packages: Sequence[dict]) -> str:
    """The lock from the `install` list of pip's report.

    The packages of torch's CUDA build stay out: torch itself pins them where it needs them.
    """
    kept = [p for p in packages if not p["metadata"]["name"].startswith(CUDA_PREFIXES)]
    megabytes = sum(download_size(p["download_info"]["url"]) for p in kept) / 1e6
    pins = sorted(
        f"{p['metadata']['name']}=={p['metadata']['version'].split('+')[0]}" for p in kept
    )
    header = (
        f"# {len(pins)} packages, {megabytes:.0f} MB to download; "
        f"{CUDA_EXTRA} more where pip offers only the CUDA build of torch.",
        "# Written by `python3 dev.py lock`; do not edit.",
    )
    return "\n".join([*header, *sorted(pins, key=str.lower)]) + "\n"


def download_size(url: str) -> int:
    request = urllib.request.Request(url, method="HEAD")
    with urllib.request.urlopen(request) as answer:
        return int(answer.headers["Content-Length"])


def clean(options: argparse.Namespace, rest: Sequence[str]) -> None:
    names = (".venv", ".pytest_cache", ".ruff_cache", ".hypothesis", "build", "dist")
    folders = [ROOT / name for name in names]
    folders += [path for path in ROOT.rglob("__pycache__") if VENV not in path.parents]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


VERBS = {"demo": demo, "test": test, "setup": prepare, "lock": lock, "clean": clean}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="dev.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in VERBS:
        # The demo has a help of its own.
        verb = verbs.add_parser(name, add_help=name != "demo", allow_abbrev=False)
        verb.add_argument("--skip-system", action="store_true", help="look for no system packages")
    verbs.choices["test"].add_argument("--slow", action="store_true", help="the slow suite")
    return made


def main() -> int:
    options, rest = parser().parse_known_args()
    if rest and options.verb not in ("demo", "test"):
        parser().error(f"{options.verb} takes no {' '.join(rest)}")
    try:
        VERBS[options.verb](options, rest)
    except SetupError as error:
        say(str(error))
        return 2
    except subprocess.CalledProcessError as error:
        return error.returncode if error.returncode > 0 else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
