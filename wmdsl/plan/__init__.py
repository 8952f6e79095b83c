"""In: a checked Model. Out: its Plan. Invariant: everything is derived, nothing is weighed or run.

`judge` stops where all mistakes are known, before costs and masks.

Spaces and masks (`masks`), information flow (`reach`), the passes of training and of each query
(`answers`), parameters and work (`parameters`, `work`), the paradigm row (`paradigm`); printed by
`as_json`, `as_text` and `draw`.
"""

from wmdsl.plan.build import build_plan, judge

__all__ = ["build_plan", "judge"]
