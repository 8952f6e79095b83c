"""What the operations ask of tensors: one kind for all, dtypes under autocast, layouts, tracing."""

from __future__ import annotations

import torch

from wmdsl_kernels import errors

AUTOCAST_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def check_kind(name: str, tensor: torch.Tensor, first: torch.Tensor) -> None:
    """ArgumentError unless the tensor has the device of the first one, and its floating dtype."""
    if tensor.device != first.device:
        raise errors.wrong_device(name, tensor.device, first.device)
    if tensor.dtype != first.dtype or not tensor.is_floating_point():
        raise errors.wrong_dtype(name, tensor.dtype, "one floating dtype for all")


def check_slots(slots: torch.Tensor, pool: torch.Tensor) -> None:
    """ArgumentError where a slot lies beyond the pool [P, ...]. Waits for the device."""
    largest = int(slots.max()) if slots.numel() else -1
    if largest >= pool.shape[0]:
        raise errors.slot_beyond_pool(largest, pool.shape[0])


def autocast(*tensors: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    """The tensors in autocast's dtype where it is on, as for torch's products; float64 stays."""
    first = next((tensor for tensor in tensors if tensor is not None), None)
    if first is None or not _autocasts(first):
        return tensors
    dtype = torch.get_autocast_dtype(first.device.type)
    return tuple(
        tensor.to(dtype) if tensor is not None and tensor.dtype in AUTOCAST_DTYPES else tensor
        for tensor in tensors
    )


def common_dtype(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Under autocast, where layers disagree about the dtype, all in the widest; else unchanged."""
    if not _autocasts(tensors[0]):
        return tensors
    wide = tensors[0].dtype
    for tensor in tensors[1:]:
        wide = torch.promote_types(wide, tensor.dtype)
    return tuple(t.to(wide) if t.dtype in AUTOCAST_DTYPES else t for t in tensors)


def _autocasts(tensor: torch.Tensor) -> bool:
    device = tensor.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def packed_like(tensor: torch.Tensor) -> torch.Tensor:
    """An uninitialised contiguous tensor of the same shape, dtype and device."""
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def unit_strided(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, copied if its last dimension is not contiguous."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def outer_strides(*tensors: torch.Tensor) -> list[int]:
    """The strides of all dimensions but the last, tensor after tensor."""
    return [stride for tensor in tensors for stride in tensor.stride()[:-1]]


def is_traced(tensor: torch.Tensor) -> bool:
    """Whether torch.compile, torch.export or a fake tensor mode is looking on."""
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    return torch.compiler.is_compiling() or not plain


def capability(device: torch.device) -> int:
    """The compute capability of a GPU as one number, 90 for Hopper."""
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def processors(device: torch.device) -> int:
    """The streaming multiprocessors of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count
