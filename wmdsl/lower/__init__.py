"""In: a Plan. Out: a Program, the emitted file as a tree. Invariant: each mechanism has one path.

`setup` writes the modules, `spaces` the loops over blocks, `passes` one forward evaluation,
`objectives` what goes in and what is compared, `loss` and `queries` the methods.
"""

from wmdsl.lower.build import lower

__all__ = ["lower"]
