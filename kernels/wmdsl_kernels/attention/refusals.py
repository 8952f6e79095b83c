"""What each back end cannot take, from the facts of a call alone: no torch, no machine.

A rule returns the reason, or None where the back end honours the call. Whether the machine has what
a back end needs (a compiler, a package) is asked of the back end itself when it is to run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from wmdsl_kernels import choice
from wmdsl_kernels.attention.request import ITEM_BYTES, Request

Rule = Callable[[Request], str | None]

LARGEST_TRITON_HEAD_DIM = 256
SMALLEST_FLEX_HEAD_DIM = 16
XFORMERS_ALIGNMENT_BYTES = 16
OLDEST_CAPABILITY, NEWEST_CUTLASS = 80, 90


def sdpa(request: Request) -> str | None:
    """torch's own attention, where the mask has vanished."""
    if request.shared_range is None:
        return "the schedule is not one dense rectangle"
    if request.wants_lse:
        return "scaled_dot_product_attention does not return the LSE"
    return None


def cpu(request: Request) -> str | None:
    """The C++ kernels."""
    return (
        _elsewhere(request, "cpu")
        or _unlike(request, "float32", "float16", "bfloat16")
        or _strided(request)
    )


def triton(request: Request) -> str | None:
    """The Triton kernels."""
    return (
        _elsewhere(request, "cuda")
        or _unlike(request, "float32", "float16", "bfloat16")
        or _wide(request)
        or _strided(request)
        or _too_old(request)
    )


def rectangles(request: Request) -> str | None:
    """torch's CPU flash attention, rectangle by rectangle."""
    return (
        _elsewhere(request, "cpu")
        or _unlike(request, "float64", "float32", "float16", "bfloat16")
        or _strided(request)
        or ("its LSE has no gradient" if request.wants_lse and request.needs_gradient else None)
    )


def flex(request: Request) -> str | None:
    """torch's FlexAttention under a BlockMask."""
    if request.device == "cpu":
        return "has no gradient on a CPU, and is slower there than a dense mask"
    return (
        _elsewhere(request, "cuda")
        or _unlike(request, "float32", "float16", "bfloat16")
        or _narrow(request)
        or _traced(request)
    )


def xformers(request: Request) -> str | None:
    """xformers' CUTLASS attention under an additive bias."""
    elsewhere = _elsewhere(request, "cuda")
    if elsewhere is not None:
        return elsewhere
    if request.wants_lse:
        return "memory_efficient_attention does not return the LSE"
    if request.has_empty_rows:
        return "a query that sees no key would get NaN"
    if request.capability is not None and request.capability > NEWEST_CUTLASS:
        return "its CUTLASS kernels end at compute capability 9.0"
    return (
        _unlike(request, "float32", "float16", "bfloat16")
        or _unaligned(request)
        or _strided(request)
        or _traced(request)
    )


RULES: dict[str, Rule] = {
    "sdpa": sdpa,
    "cpu": cpu,
    "triton": triton,
    "rectangles": rectangles,
    "flex": flex,
    "xformers": xformers,
}
"""In the usual order of preference; `naive` takes everything and runs only when named."""


MANY_QUERIES, MANY_ROWS, MOST_KEYS = 64, 1024, 1024
"""On a CPU a dense rectangle of so many queries, or as many as keys, so many query rows over batch
and heads, and no more keys than these goes to the C++ kernels: there they beat torch's attention
(`bench/RESULTS.md`). Fewer queries do not pay for packing the keys; a traced module stays free of
our operators where torch has its own.
"""


def preferred(request: Request) -> list[str]:
    """All back ends, the best one first."""
    dense = request.shared_range == (0, request.key_length)
    rows = request.batch * request.query_length * request.query_heads
    if (
        dense
        and request.device == "cpu"
        and not request.traced
        and request.query_length >= min(request.key_length, MANY_QUERIES)
        and rows >= MANY_ROWS
        and request.key_length <= MOST_KEYS
    ):
        return ["cpu", *(name for name in RULES if name != "cpu")]
    return list(RULES)


def turning_batch(request: Request) -> int | None:
    """The batch from which on another back end is preferred than in the request; None: never."""
    batch = -(-MANY_ROWS // (request.query_length * request.query_heads))
    if batch <= request.batch or preferred(replace(request, batch=batch)) == preferred(request):
        return None
    return batch


def refusals(missing: Callable[[str], str | None]) -> dict[str, Rule]:
    """The rules, each followed by what the machine lacks for its back end.

    `missing(name)` says it, None where nothing.
    """

    def whole(name: str, rule: Rule) -> Rule:
        return lambda request: rule(request) or missing(name)

    return {name: whole(name, rule) for name, rule in RULES.items()}


def verdicts(request: Request, missing: Callable[[str], str | None]) -> list[tuple[str, bool, str]]:
    """(back end, whether it accepts, why not) in the order of preference; `missing` as above."""
    rules = refusals(missing)
    return choice.verdicts({name: rules[name] for name in preferred(request)}, request)


def _elsewhere(request: Request, device: str) -> str | None:
    return None if request.device == device else f"runs on {device}, not on {request.device}"


def _unlike(request: Request, *dtypes: str) -> str | None:
    return None if request.dtype in dtypes else f"no {request.dtype}; it has {', '.join(dtypes)}"


def _wide(request: Request) -> str | None:
    if request.head_dim <= LARGEST_TRITON_HEAD_DIM:
        return None
    return f"head dim {request.head_dim} is above {LARGEST_TRITON_HEAD_DIM}"


def _narrow(request: Request) -> str | None:
    if request.head_dim >= SMALLEST_FLEX_HEAD_DIM:
        return None
    return f"head dim {request.head_dim} is below {SMALLEST_FLEX_HEAD_DIM}"


def _strided(request: Request) -> str | None:
    if request.unit_stride:
        return None
    return "the head dim of query, key or value is not contiguous"


def _too_old(request: Request) -> str | None:
    if request.capability is None or request.capability >= OLDEST_CAPABILITY:
        return None
    return "the GPU's compute capability is below 8.0"


def _unaligned(request: Request) -> str | None:
    row = request.head_dim * ITEM_BYTES[request.dtype]
    if row % XFORMERS_ALIGNMENT_BYTES == 0:
        return None
    return f"a head of {row} bytes is no multiple of {XFORMERS_ALIGNMENT_BYTES}"


def _traced(request: Request) -> str | None:
    return "does not run inside a traced module" if request.traced else None
