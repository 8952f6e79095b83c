"""In: a Program. Out: the text of one Python file, imported by `load_source`. Invariant: the same
program gives the same bytes; all that the file uses stands in it or comes from torch and
`wmdsl_kernels`.
"""

from wmdsl.emit.module import emit

__all__ = ["emit"]
