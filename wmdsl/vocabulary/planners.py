"""Planners: searches that call the model's own queries, or search over symbols."""

from wmdsl.vocabulary.rows import Kind, table

PLANNERS = table(
    Kind("best_of", "Samples whole candidates and keeps the one with the best score."),
    Kind("cem", "Cross-entropy method over action sequences.", source="arXiv 1907.03613"),
    Kind("mppi", "Model predictive path integral control.", source="arXiv 1509.01149"),
    Kind("gradient", "Gradient descent on actions through the model."),
    Kind("astar", "A* over ground operators, refined by sampling continuous parameters.",
         source="VisualPredicator, arXiv 2410.23156"),
    Kind("fast_downward", "The Fast Downward planner over ground operators."),
)  # fmt: skip
