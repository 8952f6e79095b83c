"""Modalities and levels of streams."""

from wmdsl.vocabulary.rows import Kind, table

LEVELS = ("pixel", "latent", "3d", "semantic", "symbolic", "control")

MODALITIES = table(
    Kind("video", "Frames over time, `video[channels, height, width]`.", level="pixel"),
    Kind("image", "One still frame, `image[channels, height, width]`.", level="pixel"),
    Kind("action", "What is done, per control step, `action[size]`; its future starts now.",
         level="control"),
    Kind("proprio", "The robot's own state per step, `proprio[size]`.", level="control"),
    Kind("vector", "Other numbers per step, `vector[size]`.", level="control"),
    Kind("value", "A scalar return or reward per step, `value`.", level="control"),
    Kind("language", "Text: an instruction, a prompt; `language[bytes]` bounds its length.",
         level="semantic"),
    Kind("learned", "Learned tokens without data, `learned[count]`: registers, queries, prompts.",
         level="latent"),
    Kind("latent", "Features stored in the data set, `latent[size]` or `latent[c, h, w]`.",
         level="latent"),
    Kind("token", "Integers per step, `token[vocabulary]` or `token[vocabulary, count]`.",
         level="latent"),
    Kind("depth", "Depth frames in metres, `depth[height, width]`.", level="3d", runs=False),
    Kind("flow", "Optical or scene flow, `flow[channels, height, width]`.", level="3d", runs=False),
    Kind("track", "Point tracks, `track[points, dimensions]`.", level="3d", runs=False),
    Kind("tactile", "Tactile arrays, `tactile[channels, height, width]`.", level="pixel",
         runs=False),
    Kind("predicates", "A set of ground atoms over declared predicates.", level="symbolic",
         runs=False),
)  # fmt: skip
