"""`wmdsl train`: from a spec and demonstrations to a run directory."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from wmdsl.tools.common import device_argument, parameters_argument, weights_argument

EXAMPLE = "wmdsl train examples/paradigms/mot.wm --data data/arm -o runs/mot --steps 3000"
OPTIONS = {
    "batch_size": (int, "samples per step"),
    "learning_rate": (float, "highest rate; it warms up, stays, then falls to zero"),
    "weight_decay": (float, "of matrices"),
    "warm_up": (int, "steps of rising rate"),
    "decay": (float, "share of the steps, at the end, of falling rate"),
    "clip": (float, "largest norm of the gradient"),
    "ema": (float, "share of the averaged weights kept at each step"),
    "precision": (str, "auto, fp32 or bf16"),
    "log_every": (int, "steps between lines of metrics.jsonl"),
    "share_every": (int, "steps between measurements of each loss term's share of the gradient"),
    "checkpoint_every": (int, "steps between checkpoints"),
    "threads": (int, "threads of torch; 0 leaves its choice"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    from wmdsl.runtime.settings import TrainSettings

    default = TrainSettings()
    parser.add_argument("file", metavar="FILE", help="the spec")
    parser.add_argument("--data", required=True, action="append", type=folder, help="a LeRobot v3 "
                        "data set; NAME=FOLDER for each source that the stages name")  # fmt: skip
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--steps", type=int, help="optimizer steps; if absent, those that the "
                        f"stages declare, or {default.steps}")  # fmt: skip
    parser.add_argument("--seed", type=int, help=f"of weights, data and noise, {default.seed}")
    parser.add_argument("--blind", action="store_true", help="zero all images: the blind control")
    parser.add_argument("--shuffle-actions", action="store_true",
                        help="train on other samples' actions: a baseline")  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="continue at the last checkpoint")
    device_argument(parser)
    for name, (kind, text) in OPTIONS.items():
        shown = f"{text} ({getattr(default, name)})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=shown)
    weights_argument(parser)
    parameters_argument(parser)


def folder(text: str) -> tuple[str, Path]:
    """`robot=data/robot` or `data/robot`: the name of a source, "" for none, and its folder."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals and "/" not in name else ("", Path(text))


def run(options: argparse.Namespace) -> int:
    import torch

    import wmdsl
    from wmdsl.runtime.device import named
    from wmdsl.runtime.run import RunDirectory
    from wmdsl.runtime.settings import TrainSettings
    from wmdsl.runtime.stages import declared_steps
    from wmdsl.runtime.train import resumed_settings, train
    from wmdsl.weights import start

    run_directory = RunDirectory(options.out)
    resuming = options.resume and run_directory.training.exists()
    settings = resumed_settings(run_directory) if resuming else TrainSettings(
        blind=options.blind, shuffle_actions=options.shuffle_actions
    )
    if options.resume and not resuming:
        print(f"there is no run in {options.out} yet: it begins", file=sys.stderr)
    asked = {name: getattr(options, name) for name in (*OPTIONS, "steps", "seed")}
    # Without the flag a resumed run stays as blind, or as shuffled, as it was begun.
    asked |= {name: getattr(options, name) or None for name in ("blind", "shuffle_actions")}
    settings = replace(settings, **{k: v for k, v in asked.items() if v is not None})
    torch.manual_seed(settings.seed)
    recorded = run_directory.read_json(run_directory.training) if resuming else {}
    module = wmdsl.compile(options.file, **options.parameters)
    report = start(module, options.weights or recorded.get("weights"))
    for line in report.lines() if report else ():
        print(line)
    module = module.to(named(options.device))
    if options.steps is None and not resuming:
        steps = declared_steps(module.plan.model) or settings.steps
        settings = replace(settings, steps=steps)
    path = train(module, dict(options.data), options.out, settings, resume=options.resume)
    print(path)
    return 0
