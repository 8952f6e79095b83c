"""Whether 200 steps teach the published systems: every loss term before and after, at tiny size.

    python benchmarks/atlas_training.py DATA [NAME ...] [--steps N] [--batch N] [--json FILE]

DATA are demonstrations of Meta-World as `wmdsl demos` records them.  A stream that they lack gets
data made of the others: fixed smooth functions of the robot's state or of the frames, so that
there is something to fit.  The steps and rates that stages declare are those of the published
sizes; here all stages are equally long, so that each term has N steps, and have the trainer's rate.
A term is learnt where its mean over fixed batches and fixed noise
falls by more than its standard deviation over those batches.  `--table` prints what a file of
results holds as Markdown; finished systems in FILE are not trained again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

import wmdsl
from wmdsl.check.model import Model, Stream
from wmdsl.data.lerobot import DatasetInfo
from wmdsl.data.loader import Loader, Source
from wmdsl.driver import SpecError
from wmdsl.runtime import binding
from wmdsl.runtime.run import RunDirectory, write_json
from wmdsl.runtime.settings import TrainSettings
from wmdsl.runtime.stages import Phase, weights_by_label
from wmdsl.runtime.train import Trainer
from wmdsl.weights import start

ATLAS = Path(__file__).parents[1] / "examples" / "atlas"
SYSTEMS = (
    "unipi vidar vpp mimic_video uva uwm videovla cosmos_policy dreamzero gigaworld_policy ge_act "
    "motus lingbot_va fast_wam fast_wam_joint fast_wam_idm lda_1b frappe gr1 up_vla worldvla "
    "dreamvla flare vla_jepa wog dial"
).split()
HELD_OUT, SEED = 8, 1000
Batch = dict[str, Tensor]


class MadeLoader:
    """A loader of demonstrations whose batches have the streams that those lack."""

    def __init__(self, module: nn.Module, data: Path, size: int, seed: int) -> None:
        model, info = module.plan.model, DatasetInfo.read(data)
        windows = binding.windows(model, Fraction(info.fps))
        stored = {*info.features, "task"}
        self.made = [stream for stream in model.streams.values() if _lacks(stream, stored)]
        names = {stream.name for stream in self.made}
        kept = tuple(window for window in windows if window.stream not in names)
        self.loader = Loader([Source(data, kept)], size, seed=seed)
        self.model = model

    def next_batch(self, generator: torch.Generator) -> Batch:
        """A batch of the demonstrations with what is made of it."""
        batch = self.loader.next_batch(generator)
        for stream in self.made:
            batch[stream.name] = _made(stream, batch)
        return batch

    def state_dict(self) -> dict[str, object]:
        return self.loader.state_dict()

    def statistics(self) -> Mapping[str, Mapping[str, list[float]]]:
        """Of the stored columns, and of a thousand samples of each made one."""
        found = dict(self.loader.statistics())
        generator = torch.Generator().manual_seed(0)
        batches = [self.next_batch(generator) for _ in range(16)] if self.made else []
        for stream in self.made:
            rows = torch.cat([batch[stream.name] for batch in batches]).flatten(0, 1).double()
            found[stream.name] = _statistics(rows.flatten(1))
        return found


def _lacks(stream: Stream, stored: set[str]) -> bool:
    keys = stream.keys if stream.rate_hz is not None or stream.keys else ()
    return any(key not in stored for key in keys)


def _statistics(rows: Tensor) -> dict[str, list[float]]:
    low, high = rows.quantile(0.01, dim=0), rows.quantile(0.99, dim=0)
    table = {"mean": rows.mean(0), "std": rows.std(0), "min": rows.amin(0), "max": rows.amax(0),
             "q01": low, "q99": high}  # fmt: skip
    return {name: value.tolist() for name, value in table.items()}


def _made(stream: Stream, batch: Batch) -> Tensor:
    """Sines of fixed mixtures of the numbers of the batch; frames are waves of those."""
    numbers = [x.flatten(1).float() for x in batch.values() if x.is_floating_point()]
    source = torch.cat([x[:, :64] for x in numbers], dim=1)
    window = (stream.window,) if stream.rate_hz is not None else ()
    shape = (*window, *stream.sample)
    generator = torch.Generator().manual_seed(sum(stream.name.encode()))
    few = torch.tanh(source @ torch.randn(source.shape[1], 4, generator=generator) / 4)
    wide = torch.randn(4, int(torch.tensor(shape).prod()), generator=generator)
    value = torch.sin(few @ wide).view(len(source), *shape)
    if stream.modality == "token":
        sizes = stream.attributes["sizes"][0]
        return ((value + 1) / 2 * (sizes - 1)).long()
    return (value + 1) / 2 if stream.level in ("pixel", "3d") else value


class MadeFeed:
    """The one loader for every stage."""

    def __init__(self, loader: MadeLoader) -> None:
        self.loader = loader

    def of(self, phase: Phase) -> MadeLoader:
        return self.loader


def measured(module: nn.Module, loader: MadeLoader) -> dict[str, list[float]]:
    """Every data-fitting term on fixed batches with fixed noise."""
    values: dict[str, list[float]] = {}
    pixels = torch.Generator().manual_seed(SEED)
    for index in range(HELD_OUT):
        noise = torch.Generator().manual_seed(SEED + index)
        with torch.no_grad():
            losses = module.loss(loader.next_batch(pixels), generator=noise)
        for name in weights_by_label(module.plan.model, "", losses):
            values.setdefault(name, []).append(float(losses[name]))
    return values


def learnt(before: list[float], after: list[float]) -> bool:
    """Whether a term has fallen by more than its spread over the batches."""
    first, last = torch.tensor(before), torch.tensor(after)
    return bool(first.mean() - last.mean() > max(first.std(), last.std()))


def even_stages(model: Model, steps: int) -> tuple[Model, int]:
    """The model with stages of one length and of the run's rate, and the steps of such a run in
    which each term is trained for `steps`."""
    stages = {
        name: replace(stage, steps=None, rates={}) for name, stage in model.stages.items()
    }
    if not stages:
        return model, steps
    terms = {loss for stage in stages.values() for loss in stage.losses}
    every = sum(not stage.losses for stage in stages.values())
    in_force = [every + sum(term in s.losses for s in stages.values()) for term in terms]
    shares = min(in_force, default=len(stages))
    return replace(model, stages=stages), -(-steps * len(stages) // shares)


def run(name: str, data: Path, settings: TrainSettings) -> dict[str, object]:
    """Train one system; its terms before and after, or the codes that refuse it."""
    torch.manual_seed(settings.seed)
    try:
        module = wmdsl.compile(ATLAS / f"{name}.wm", size="tiny")
    except SpecError as refused:
        codes = {found.code for found in refused.diagnostics if found.severity == "error"}
        return {"refused": sorted(codes)}
    model, steps = even_stages(module.plan.model, settings.steps)
    module.plan, settings = replace(module.plan, model=model), replace(settings, steps=steps)
    start(module, "random")
    loader = MadeLoader(module, data, settings.batch_size, settings.seed)
    fixed = MadeLoader(module, data, settings.batch_size, SEED)
    module.load_statistics(loader.statistics())
    before = measured(module, fixed)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder))
        write_json(directory.training, {})
        Trainer(module, MadeFeed(loader), directory, settings).run_until(settings.steps, False)
    seconds = time.process_time() - began
    fixed = MadeLoader(module, data, settings.batch_size, SEED)
    after = measured(module, fixed)
    terms = {term: {"before": before[term], "after": after[term]} for term in before}
    return {"steps": settings.steps, "seconds": round(seconds, 1), "terms": terms,
            "made": [stream.name for stream in loader.made]}  # fmt: skip


def table(results: Mapping[str, Mapping]) -> Iterator[str]:
    """Rows of Markdown."""
    yield "| system | term | before | after | spread | learnt | made for the test |"
    yield "|---|---|---|---|---|---|---|"
    for name, found in results.items():
        if "refused" in found:
            yield f"| {name} | refused: {', '.join(found['refused'])} | | | | | |"
            continue
        for term, values in found["terms"].items():
            before, after = (torch.tensor(values[when]) for when in ("before", "after"))
            spread = max(before.std(), after.std())
            verdict = "yes" if learnt(values["before"], values["after"]) else "no"
            cells = [f"{float(x):.3g}" for x in (before.mean(), after.mean(), spread)]
            made = ", ".join(found["made"])
            yield f"| {name} | {term} | {' | '.join(cells)} | {verdict} | {made} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*", default=SYSTEMS)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", type=Path, default=Path("atlas_training.json"))
    parser.add_argument("--table", action="store_true", help="print the results of the file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(options.json.read_text()) if options.json.is_file() else {}
    if options.table:
        print("\n".join(table(results)))
        return 0
    settings = TrainSettings(
        steps=options.steps,
        batch_size=options.batch,
        warm_up=20,
        share_every=0,
        checkpoint_every=options.steps,
        precision="fp32",
    )
    for name in options.names:
        if "terms" in results.get(name, {}):
            continue
        results[name] = run(name, options.data, settings)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
        print("\n".join(list(table({name: results[name]}))[2:]), flush=True)
    failed = any(
        not learnt(**values)
        for found in results.values()
        for values in found.get("terms", {}).values()
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
