"""The C++ kernels, built on first use with the machine's own compiler and cached.

The sources need no torch headers, so a build takes seconds. The cache key covers the sources, the
flags, the compiler, torch's version and the processor; `WMDSL_KERNELS_CACHE` moves the cache.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

from wmdsl_kernels.tracing import constant_result

PACKAGE = Path(__file__).parent
VECTORS = PACKAGE / "attention" / "cpu_source"
"""The vector headers, which the sources of all packages share."""
FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fopenmp",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
)
TIMEOUT_SECONDS = 300
_log = logging.getLogger("wmdsl_kernels")


class BuildError(RuntimeError):
    """The C++ kernels could not be built on this machine; the text says why."""


@constant_result
def missing(package: str = "attention") -> str | None:
    """Why a package has no C++ kernels on this machine; None where it has. Logged once."""
    return _missing(package)


@cache
def _missing(package: str) -> str | None:
    try:
        library(package)
    except BuildError as error:
        _log.warning("no C++ kernels, torch does their work: %s", error)
        return str(error)
    return None


@cache
def library(package: str = "attention") -> ctypes.CDLL:
    """The loaded kernels of a package, `<package>/cpu_source/<package>.cpp`.

    Built if the cache does not hold them; BuildError where that fails.
    """
    compiler = _compiler()
    source = PACKAGE / package / "cpu_source" / f"{package}.cpp"
    target = _cache_folder() / f"{package}_{_key(compiler, source)}.so"
    if not target.exists():
        _build(compiler, source, target)
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise BuildError(f"cannot load {target.name}: {error}") from error


def compiler_missing() -> str | None:
    """Why nothing can be built here, without trying to build; None where it can."""
    try:
        _compiler()
    except BuildError as error:
        return str(error)
    return None


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        path = shutil.which(name) if name else None
        if path is not None:
            return path
    raise BuildError("there is no C++ compiler (c++, g++, clang++ or $CXX)")


def _build(compiler: str, source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        # Renamed into place, so that a process that builds at the same time never sees half a file.
        built = Path(folder) / target.name
        command = [compiler, *FLAGS, f"-I{VECTORS}", str(source), "-o", str(built)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"{compiler} did not run: {error}") from error
        if done.returncode:
            raise BuildError(f"{compiler} failed: {done.stderr.strip()[-500:]}")
        built.replace(target)


def _cache_folder() -> Path:
    named = os.environ.get("WMDSL_KERNELS_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "wmdsl_kernels"


def _key(compiler: str, source: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted({*VECTORS.iterdir(), *source.parent.iterdir()}):
        digest.update(path.read_bytes())
    for fact in (*FLAGS, compiler, version("torch"), _processor()):
        digest.update(fact.encode() + b"\0")
    return digest.hexdigest()[:16]


def _processor() -> str:
    """What `-march=native` depends on: the architecture and the processor's feature flags."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return f"{platform.machine()} {platform.processor()}"
    lines = information.read_text().splitlines()
    facts = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return " ".join([platform.machine(), *facts[:2]])
