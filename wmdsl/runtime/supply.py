"""Whether the data sets of a run can teach the loss terms of its spec."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from wmdsl.check.model import Model, Stream
from wmdsl.data.keys import TASK
from wmdsl.plan.nodes import Plan, Training
from wmdsl.runtime.stages import weights_of

Columns = Mapping[str, Collection[str]]  # keys of each data source by its name, "" for one of none


def untaught(plan: Plan, stage: str, columns: Columns) -> tuple[list[str], list[tuple[str, str]]]:
    """Terms in force of a stage that no sample of these sources teaches; and (term, reference) of
    what other terms predict in vain."""
    found: dict[tuple[str, str], bool] = {}
    for training in plan.trainings:
        usable = _usable(training, columns)
        for term, reference in _wanted(plan.model, stage, training):
            stream = plan.model.streams[reference.partition(".")[0]]
            taught = any(recorded(stream, keys) for keys in usable)
            found[term, reference] = found.get((term, reference), False) or taught
    terms = dict.fromkeys(term for term, _ in found)
    empty = [term for term in terms if not any(ok for key, ok in found.items() if key[0] == term)]
    vain = [key for key, taught in found.items() if not taught and key[0] not in empty]
    return empty, vain


def unrecorded(model: Model, columns: Columns) -> list[Stream]:
    """Streams that no source holds."""
    return [
        stream
        for stream in model.streams.values()
        if not any(recorded(stream, keys) for keys in columns.values())
    ]


def predicted(model: Model, stream: Stream) -> bool:
    """Whether a loss term compares any of a stream with the data."""
    targets = [part for generate in model.generates.values() for part in generate.segments]
    targets += [align.target for align in model.aligns.values()]
    return any(target.stream == stream.name for target in targets)


def recorded(stream: Stream, keys: Collection[str]) -> bool:
    """Whether a data set of these columns holds a stream; every one has texts."""
    return all(key == TASK or key in keys for key in stream.keys)


def _usable(training: Training, columns: Columns) -> list[Collection[str]]:
    """Columns of the sources whose samples train a layout."""
    return [
        keys
        for name, keys in columns.items()
        if not name or not training.data or name in training.data
    ]


def _wanted(model: Model, stage: str, training: Training) -> Iterator[tuple[str, str]]:
    """(term, segment) of what a pass compares with the data."""
    force = weights_of(model, stage)
    for generate in model.generates.values():
        for segment in generate.segments:
            if generate.name in force and segment.reference in training.predicted:
                yield generate.name, segment.reference
    for align in model.aligns.values():
        if align.name in force:
            yield align.name, align.target.reference
