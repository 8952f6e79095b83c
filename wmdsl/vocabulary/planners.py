"""Planners: searches that call the model's own queries, or search over symbols."""

from wmdsl.vocabulary.rows import Attribute, Kind, table

SEQUENCES = (
    Attribute("chunks", "integer", "Chunks of actions that a candidate reaches ahead; each is "
              "foreseen from what the one before it led to.", default="1", minimum=1),
    Attribute("low", "real", "Lower bound of every number of an action.", default="-1"),
    Attribute("high", "real", "Upper bound of every number of an action.", default="1"),
    Attribute("hold", "length", "How long a candidate holds an action; one step if absent.",
              minimum=1),
    Attribute("prior", "name", "Query whose actions the search starts from."),
    Attribute("execute", "length", "Steps executed before planning again; a chunk if absent.",
              minimum=1),
)  # fmt: skip
SPREAD = Attribute("spread", "share", "First deviation of the candidates, as a share of half the "
                   "range.", default="0.5")  # fmt: skip

PLANNERS = table(
    Kind("best_of", "Samples whole chains of answers and keeps the one with the best score."),
    Kind("random", "Uniform candidates, the best is kept: the baseline of every search.",
         SEQUENCES),
    Kind("cem", "Cross-entropy method: normal candidates around the best of the round before.",
         (*SEQUENCES, SPREAD,
          Attribute("elites", "integer", "Candidates that make the next round.", default="8",
                    minimum=1)), source="arXiv 1907.03613"),
    Kind("mppi", "Model predictive path integral control: a mean weighted by scores.",
         (*SEQUENCES, SPREAD,
          Attribute("temperature", "real", "Of the weights, in deviations of the scores.",
                    default="0.1", minimum=0.001)), source="arXiv 1509.01149"),
    Kind("gradient", "Gradient ascent of the score through the model.",
         (*SEQUENCES, SPREAD,
          Attribute("rate", "share", "Largest change of a step, as a share of half the range.",
                    default="0.1"))),
    Kind("astar", "A* over ground operators, refined by sampling continuous parameters.",
         source="VisualPredicator, arXiv 2410.23156", runs=False),
    Kind("fast_downward", "The Fast Downward planner over ground operators.", runs=False),
)  # fmt: skip
