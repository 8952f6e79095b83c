"""Compile Triton kernels for a GPU that is not there, and read what the compiler made of them.

Works with the plain wheel: it ships ptxas, cuobjdump and nvdisasm.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
SHARED_MEMORY_BYTES = {80: 163 * 1024, 90: 227 * 1024}
DIVISIBLE_BY_16 = [["tt.divisibility", 16]]


@dataclass(frozen=True)
class Report:
    """What one compiled kernel takes: registers, spilled loads, shared bytes, tensor-core ops."""

    registers: int
    spills: int
    shared_bytes: int
    warpgroup_products: int
    warp_products: int


def compiled(
    kernel: triton.runtime.JITFunction,
    signature: Mapping[str, object],
    constants: Mapping[str, object],
    capability: int,
    warps: int,
    stages: int,
) -> Report:
    """Compile `kernel` for a compute capability.

    `signature` types the arguments ("*bf16", "i32", "tensordesc<...>", or a tuple of these),
    `constants` gives the compile-time ones. Pointers and strides count as multiples of 16, as in a
    real launch.
    """
    names = kernel.arg_names
    types = {name: "constexpr" if name in constants else signature[name] for name in names}
    aligned = {
        place: DIVISIBLE_BY_16
        for index, name in enumerate(names)
        if name != "length"
        for place in _aligned((index,), types[name])
    }
    source = ASTSource(
        fn=kernel,
        signature=types,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs=aligned,
    )
    options = {"num_warps": warps, "num_stages": stages}
    result = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return _report(result.asm["cubin"], result.metadata.shared)


def _aligned(place: tuple[int, ...], kind: object) -> Iterator[tuple[int, ...]]:
    """The places of pointers and int32 numbers in an argument of this type."""
    if isinstance(kind, tuple):
        for index, part in enumerate(kind):
            yield from _aligned((*place, index), part)
    elif kind == "i32" or kind.startswith("*"):
        yield place


def _report(cubin: bytes, shared_bytes: int) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage = _output(TOOLS / "cuobjdump", "-res-usage", path)
        assembly = _output(TOOLS / "nvdisasm", "-c", path)
    return Report(
        registers=int(re.search(r"REG:(\d+)", usage)[1]),
        spills=len(re.findall(r"\b(?:LDL|STL)\b", assembly)),
        shared_bytes=shared_bytes,
        warpgroup_products=len(re.findall(r"\bHGMMA\b", assembly)),
        warp_products=len(re.findall(r"\bHMMA\b", assembly)),
    )


def _output(tool: Path, *arguments: object) -> str:
    command = [str(tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
