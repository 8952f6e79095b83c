"""In: a module and a source of checkpoints. Out: the module with pretrained weights, and a report.
Invariant: nothing is loaded, and nothing left out, without a line that says so.

`start` is for commands, `load_pretrained` for programs.  Checkpoints are safetensors in the layout
of transformers or diffusers; no code of a checkpoint runs.  Trunks keep their own blocks and take
weights by a map (`trunks`); codecs are replaced by the library's own class behind the same methods
(`frames`, `features`, `words`).
"""

from wmdsl.weights.load import chosen_weights, load_pretrained, start, start_from
from wmdsl.weights.named import named_weights
from wmdsl.weights.report import PartReport, Report

__all__ = [
    "PartReport",
    "Report",
    "chosen_weights",
    "load_pretrained",
    "named_weights",
    "start",
    "start_from",
]
