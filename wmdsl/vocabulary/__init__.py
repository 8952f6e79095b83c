"""In: nothing. Out: the typed tables of every word of the language. Invariant: no logic."""

from wmdsl.vocabulary.codecs import CODECS
from wmdsl.vocabulary.couplings import CONDITIONS, DISTANCES, GUARDS, TEACHERS
from wmdsl.vocabulary.forms import FORMS
from wmdsl.vocabulary.objectives import LAWS, OBJECTIVES, SAMPLERS
from wmdsl.vocabulary.planners import PLANNERS
from wmdsl.vocabulary.rows import Attribute, Form, Kind
from wmdsl.vocabulary.streams import LEVELS, MODALITIES
from wmdsl.vocabulary.trunks import TRUNKS

__all__ = [
    "Attribute", "CODECS", "CONDITIONS", "DISTANCES", "FORMS", "Form", "GUARDS", "Kind", "LAWS",
    "LEVELS", "MODALITIES", "OBJECTIVES", "PLANNERS", "SAMPLERS", "TEACHERS", "TRUNKS",
]  # fmt: skip
