"""What a batch holds. B batch, N samples of the window."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def samples(
    batch: Mapping[str, Tensor], name: str, first: int, window: int, shape: tuple[int, ...], at: str
) -> Tensor:
    """The first samples [B, first, *shape] of a stream; the batch holds them or all its window."""
    if name not in batch:
        raise ValueError(f"the batch has no {name!r}, which {at} declares")
    x = batch[name]
    if x.ndim != 2 + len(shape) or x.shape[2:] != shape or not first <= x.shape[1] <= window:
        counts = f"{window}" if first == window else f"{first}..{window}"
        wanted = ", ".join(("B", counts, *map(str, shape)))
        raise ValueError(f"batch[{name!r}] is {list(x.shape)}, but {at} declares [{wanted}]")
    return x[:, :first]


def whole(batch: Mapping[str, Tensor], name: str, shape: tuple[int, ...], at: str) -> Tensor:
    """A stream without a time axis [B, *shape]."""
    if name not in batch:
        raise ValueError(f"the batch has no {name!r}, which {at} declares")
    x = batch[name]
    if x.shape[1:] != shape:
        wanted = ", ".join(("B", *map(str, shape)))
        raise ValueError(f"batch[{name!r}] is {list(x.shape)}, but {at} declares [{wanted}]")
    return x


def validity(batch: Mapping[str, Tensor], name: str, size: int, window: int) -> Tensor:
    """Which samples [B, window] count in a loss: `NAME.valid`, all where it is absent."""
    valid = batch.get(f"{name}.valid")
    if valid is None:
        return torch.ones(size, window, dtype=torch.bool, device=batch[name].device)
    if valid.shape != (size, window):
        found = list(valid.shape)
        raise ValueError(f"batch['{name}.valid'] is {found}, but is to be [{size}, {window}]")
    return valid


def numbers_present(
    batch: Mapping[str, Tensor], name: str, size: int, window: int, shape: tuple[int, ...]
) -> Tensor:
    """Which numbers [B, window, *shape] are no padding: `NAME.numbers`, all where it is absent."""
    found = batch.get(f"{name}.numbers")
    if found is None:
        return torch.ones(size, window, *shape, dtype=torch.bool, device=batch[name].device)
    return found


def without_padding(batch: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """The first samples of a stream with 0 in place of padding."""
    found = batch.get(f"{name}.numbers")
    if found is None:
        return x
    kept = found[:, : x.shape[1]]
    if kept.shape != x.shape:
        shapes = list(found.shape), list(batch[name].shape)
        raise ValueError(f"batch['{name}.numbers'] is {shapes[0]}, but is to be {shapes[1]}")
    return x * kept


def whole_groups(valid_BN: Tensor, groups: int) -> Tensor:
    """Which groups of samples are valid throughout [B, groups]; the first may lack samples."""
    each = -(-valid_BN.shape[1] // groups)
    missing = valid_BN[:, :1].expand(-1, groups * each - valid_BN.shape[1])
    return torch.cat([missing, valid_BN], dim=1).unflatten(1, (groups, each)).all(dim=2)


def embodiments(batch: Mapping[str, Tensor], size: int, count: int, like: Tensor) -> Tensor:
    """The number of each sample's embodiment [B]; 0 where the batch names none."""
    number = batch.get("embodiment")
    if number is None:
        return torch.zeros(size, dtype=torch.int64, device=like.device)
    wanted = f"batch['embodiment'] is to be [{size}] numbers from 0 to {count - 1}"
    if number.shape != (size,):
        raise ValueError(wanted)
    known = ((number >= 0) & (number < count)).all()
    if number.is_cuda:
        torch._assert_async(known, wanted)  # the host does not wait for a GPU's answer
    elif not known:
        raise ValueError(wanted)
    return number


def source_factors(
    batch: Mapping[str, Tensor], size: int, factors: tuple[float, ...], like: Tensor
) -> Tensor:
    """What each sample counts [B, 1] by the number of its data source; 1 for any other."""
    number = batch.get("source")
    if number is None:
        return like.new_ones(size, 1)
    return like.new_tensor((*factors, 1.0))[number][:, None]


def from_sources(
    batch: Mapping[str, Tensor], numbers: tuple[int, ...], size: int, like: Tensor
) -> Tensor:
    """Which samples [B, 1] come from data sources of these numbers; all where none is named."""
    number = batch.get("source")
    if number is None:
        return torch.ones(size, 1, dtype=torch.bool, device=like.device)
    return torch.isin(number, number.new_tensor(numbers))[:, None]


def several(batch: dict[str, Tensor], draws: int) -> dict[str, Tensor]:
    """Every sample so many times in a row."""
    if draws == 1:
        return batch
    return {name: x.repeat_interleave(draws, dim=0) for name, x in batch.items()}


def chosen(name: str, queries: Mapping[str, Callable]) -> Callable:
    """The query of that name; ValueError where there is none."""
    if name not in queries:
        raise ValueError(f"there is no query {name!r}; there are {', '.join(queries) or 'none'}")
    return queries[name]
