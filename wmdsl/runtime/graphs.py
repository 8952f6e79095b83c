"""A query as CUDA graphs: all kernels of a chunk in one launch.

A query of a small model names a GPU hundreds of kernels, and most of its time is Python's.  A graph
records them once, with the addresses that they read and write, and is launched as a whole.  So
batches are copied to where the recorded one lay, weights are read where they lie, and noise comes
from a generator that the graph knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wmdsl.runtime import errors
from wmdsl.runtime.device import device_of

Ask = Callable[[Mapping[str, Tensor], Generator], dict[str, Tensor]]
Run = Callable[[], dict[str, Tensor]]  # an answer to what lies in the buffers
Record = Callable[[Run, Generator], Run]
DEPENDS_ON_NUMBERS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def asker(module: nn.Module, query: str, graph: bool) -> Ask:
    """What answers a query, `ask(batch, generator)`: the module, or CUDA graphs of it."""
    return captured(module, query) if graph else partial(module.query, query)


def captured(module: nn.Module, query: str) -> Replayed:
    """A query of a module on a GPU, to be asked as CUDA graphs: `captured(...)(batch, generator)`.

    Raises RunError for a module elsewhere; at the first call for a query that needs the host.
    """
    device = device_of(module)
    if device.type != "cuda":
        raise errors.not_captured(
            query, f"CUDA graphs run on a GPU, and the model is on the {device.type}",
            "move it there (--device cuda), or ask without a graph",
        )  # fmt: skip
    return Replayed(module, query, cuda_graph)


@dataclass(frozen=True, slots=True)
class _Recording:
    """Where a batch is to lie, and what then answers it."""

    inputs: dict[str, Tensor]
    replay: Run


class Replayed:
    """Answers a query from recordings, one for each set of shapes and dtypes in a batch.

    The answers, and what is drawn from the generator, are those of `module.query`.  A weight that
    changes in place is read anew; where one is replaced or moved, all recordings are made again.
    Under autocast there are recordings of their own.
    Not for several threads at once.
    """

    def __init__(self, module: nn.Module, query: str, record: Record):
        self.module, self.query, self.record = module, query, record
        self.noise = Generator(device_of(module))
        self.recordings: dict[tuple, _Recording] = {}
        self.places = Places(module)

    @torch.inference_mode(False)
    @torch.no_grad()
    def __call__(
        self, batch: Mapping[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """The answer; without a generator, noise comes from the device's own."""
        if not self.places.stand():
            self.recordings.clear()
            self.places = Places(self.module)
        narrowed = autocast_on(self.noise.device)
        key = (narrowed, *sorted((name, x.shape, str(x.dtype)) for name, x in batch.items()))
        if key not in self.recordings:
            self.recordings[key] = self._recorded(batch)
        recording = self.recordings[key]
        for name, buffer in recording.inputs.items():
            buffer.copy_(batch[name])
        source = generator or own_generator(self.noise.device)
        self.noise.set_state(source.get_state())
        answer = {name: values.clone() for name, values in recording.replay().items()}
        source.set_state(self.noise.get_state())
        return answer

    def _recorded(self, batch: Mapping[str, Tensor]) -> _Recording:
        device = self.noise.device
        inputs = {
            name: x.to(device, copy=True, memory_format=torch.contiguous_format)
            for name, x in batch.items()
        }
        enabled, dtype = autocast_on(device)
        # Without its cache autocast casts the weights in the graph, from where they lie.
        uncached = torch.autocast(device.type, dtype, enabled=enabled, cache_enabled=False)
        try:
            with uncached:
                run = self.record(
                    lambda: self.module.query(self.query, inputs, self.noise), self.noise
                )
        except HostNeeded as found:
            place = ", ".join(["", *getattr(found, "__notes__", [])])
            raise errors.not_captured(
                self.query, f"a CUDA graph cannot hold {found}, which needs the host{place}",
                "ask without a graph",
            ) from None  # fmt: skip
        return _Recording(inputs, run)


def cuda_graph(run: Run, noise: Generator) -> Run:
    """A graph of what `run` does on the GPU of `noise`, from which it draws.

    Raises HostNeeded where that is not all of it.
    """
    with torch.cuda.device(noise.device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()  # makes what is made once: kernels, and tables on the GPU
            with DeviceOnly():
                run()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(noise)
        # Other threads go on: a session may infer in one of its own.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            answer = run()

    def replay() -> dict[str, Tensor]:
        graph.replay()
        return answer

    return replay


class HostNeeded(RuntimeError):
    """An operation that a CUDA graph cannot hold."""


class DeviceOnly(TorchDispatchMode):
    """Raises HostNeeded at an operation on the CPU, or to and from it, and at one for which the
    host has to wait: its answer, or the shape of that, depends on numbers."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple = (), keywords: Any = None
    ) -> Any:
        keywords = keywords or {}
        if waits(operation, arguments):
            raise HostNeeded(operation)
        answer = operation(*arguments, **keywords)
        tensors = [x for x in tree_leaves((arguments, keywords, answer)) if isinstance(x, Tensor)]
        if any(x.device.type == "cpu" for x in tensors):
            raise HostNeeded(operation)
        return answer


def waits(operation: torch._ops.OpOverload, arguments: tuple) -> bool:
    """Whether the host needs numbers in order to go on."""
    if operation is torch.ops.aten.index.Tensor:
        return any(index is not None and index.dtype == torch.bool for index in arguments[1])
    return not DEPENDS_ON_NUMBERS.isdisjoint(operation.tags)


class Places:
    """What a recording takes for granted: the parts of a module, and where its weights lie."""

    def __init__(self, module: nn.Module):
        owners = list(module.modules())
        self.modes = [(owner, owner.training) for owner in owners]
        self.parts = [
            (owner._modules, name, part)
            for owner in owners for name, part in owner._modules.items()
        ]  # fmt: skip
        self.weights = [
            (table, name, weight.data_ptr())
            for owner in owners for table in (owner._parameters, owner._buffers)
            for name, weight in table.items() if weight is not None
        ]  # fmt: skip

    def stand(self) -> bool:
        """Whether all is where it was; dozens of microseconds, where a walk over the module takes
        a millisecond."""
        return (
            all(owner.training == training for owner, training in self.modes)
            and all(table.get(name) is part for table, name, part in self.parts)
            and all(lies_at(table.get(name), place) for table, name, place in self.weights)
        )


def autocast_on(device: torch.device) -> tuple[bool, torch.dtype]:
    """Whether autocast is on for a device, and the dtype that it casts to."""
    return torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)


def lies_at(weight: Tensor | None, place: int) -> bool:
    """Whether a weight is still there, and where it was."""
    return weight is not None and weight.data_ptr() == place


def own_generator(device: torch.device) -> Generator:
    """The one that torch draws from where none is given."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index]
    return torch.default_generator
