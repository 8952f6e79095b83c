"""Where the samples of each stage come from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from wmdsl.check.model import Stream
from wmdsl.plan.sources import data_sources, sources_of
from wmdsl.runtime import binding, errors, supply
from wmdsl.runtime.settings import TrainSettings
from wmdsl.runtime.stages import Phase

if TYPE_CHECKING:
    from wmdsl.data.loader import Loader, Source

Statistics = dict[str, dict[str, list[float]]]


class Feed:
    """Loaders by the choice of data sources; `data` are folders by name, "" for one of no name."""

    def __init__(self, module: nn.Module, data: Mapping[str, Path], settings: TrainSettings):
        self.module = module
        self.plan = module.plan
        self.model = module.plan.model
        self.data = dict(data)
        self.settings = settings
        self._loaders: dict[tuple[tuple[str, float], ...], Loader] = {}

    def of(self, phase: Phase) -> Loader:
        """The loader of a phase, at its first sample."""
        shares = self._shares(phase)
        if shares not in self._loaders:
            self._loaders[shares] = self._loader(dict(shares))
        loader = self._loaders[shares]
        seed = self.settings.seed + phase.index
        loader.load_state_dict({"seed": seed, "step": 0, "positions": [0] * len(shares)})
        return loader

    def statistics(self, phases: tuple[Phase, ...]) -> Statistics:
        """Of every stream that has data: as stored with a lone data set, else over all of them."""
        from wmdsl.data.lerobot import DatasetInfo

        if len(self.data) > 1:
            shares = {name: 1.0 for phase in phases for name, _ in self._shares(phase)}
            return self._loader(shares).statistics()
        (root,) = self.data.values()
        stored = DatasetInfo.read(root).stats()
        streams = self.model.streams.values()
        return {stream.name: stored[stream.key] for stream in streams if stream.key in stored}

    def gaps(self, phases: tuple[Phase, ...]) -> list[str]:
        """What the data cannot teach, and lacks as an input, in words.

        Raises RunError for a source that is not given, a loss term that nothing teaches, and
        numbers that no data set has statistics of.
        """
        self._check_layouts()
        columns = {name: self._columns(name) for name in self.data}
        absent = self.unrecorded()
        found = [
            f"no data set records {stream.name}: it is zero in every sample"
            for stream in absent
            if not supply.predicted(self.model, stream)
        ]
        for phase in phases:
            used = {name: columns[name] for name, share in self._shares(phase) if share}
            empty, vain = supply.untaught(self.plan, phase.stage, used)
            if empty:
                raise errors.untaught(phase.stage, empty, used)
            where = f"stage {phase.stage}: " if phase.stage else ""
            found += [f"{where}{term} learns nothing of {part}, which no data set of it records"
                      for term, part in vain]  # fmt: skip
        for stream in absent:
            if hasattr(self.module, f"{stream.name}_mean"):
                raise errors.unscaled(stream.name, stream.key)
        return found

    def unrecorded(self) -> list[Stream]:
        """Streams that no data set holds: zero in every sample."""
        return supply.unrecorded(self.model, {name: self._columns(name) for name in self.data})

    def _check_layouts(self) -> None:
        """Every source that a layout names must be there, unless one folder stands for all."""
        if list(self.data) == [""]:
            return
        for layout in self.model.layouts.values():
            unknown = next((name for name in sources_of(layout) if name not in self.data), None)
            if unknown is not None:
                raise errors.no_source(f"layout {layout.name}", unknown, self.data)

    def _columns(self, name: str) -> Collection[str]:
        from wmdsl.data.lerobot import DatasetInfo

        return DatasetInfo.read(self.data[name]).features

    def _shares(self, phase: Phase) -> tuple[tuple[str, float], ...]:
        """Shares by source; one data set without a name stands for whatever a stage names."""
        if list(self.data) == [""]:
            return (("", 1.0),)
        unknown = next((name for name in phase.data if name not in self.data), None)
        if unknown is not None:
            raise errors.no_source(f"stage {phase.stage}", unknown, self.data)
        return tuple(phase.data.items()) or tuple((name, 1.0) for name in self.data)

    def _loader(self, shares: Mapping[str, float]) -> Loader:
        from wmdsl.data.loader import Loader

        shift = max(binding.augmentations(self.model).values(), default=0)
        sources = [self._source(name, share) for name, share in shares.items()]
        size, seed = self.settings.batch_size, self.settings.seed
        return Loader(sources, size, seed=seed, shift_pixels=shift)

    def _source(self, name: str, share: float) -> Source:
        from wmdsl.data.lerobot import DatasetInfo
        from wmdsl.data.loader import Source

        root = self.data[name]
        rows_hz = Fraction(DatasetInfo.read(root).fps)
        named = data_sources(self.model)
        number = named.index(name) if name in named else -1
        told = number if named and name else None
        return Source(root, binding.windows(self.model, rows_hz), share, told)


def folders(data: str | Path | Mapping[str, str | Path]) -> dict[str, Path]:
    """Folders by the name of their source."""
    if isinstance(data, Mapping):
        return {name: Path(folder) for name, folder in data.items()}
    return {"": Path(data)}
