"""In: a folder of specs. Out: one table over all of them as data, text or a page with pictures.

Invariant: every spec of the folder has a row; what others say of a system comes from the tables
beside this folder, and all else from its plan.
"""

from wmdsl.report.atlas.collect import Entry, collect
from wmdsl.report.atlas.facts import Facts
from wmdsl.report.atlas.page import to_html
from wmdsl.report.atlas.rows import table_of
from wmdsl.report.atlas.text import to_text

__all__ = ["Entry", "Facts", "collect", "table_of", "to_html", "to_text"]
