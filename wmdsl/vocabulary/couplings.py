"""Words of the couplings: conditioning mechanisms, distances, teachers, collapse guards."""

from wmdsl.vocabulary.rows import Attribute, Kind, table

CONDITIONS = table(
    Kind("adaln", "Pooled source, added to the time code of every token (per sample).",
         source="DiT, arXiv 2212.09748"),
    Kind("adaln_per_token", "Source aligned token by token with the target's tokens.",
         source="DreamZero, arXiv 2602.15922"),
    Kind("film", "Scale and shift of the target's input channels.",
         source="FiLM, arXiv 1709.07871"),
    Kind("prefix", "Pooled source as one more token in front of the target's tokens."),
    Kind("prefix_tokens", "Every token of the source stands, unpooled, in front of the target's "
         "tokens.", source="Video Prediction Policy, arXiv 2412.14803"),
    Kind("prefix_per_frame", "Source tokens, shared out evenly, stand in front of the tokens of "
         "each frame and are seen with them.", source="V-JEPA 2-AC, arXiv 2506.09985"),
    Kind("inject", "What block i of the source puts out is added, token by token and behind a gate "
         "that starts at zero, to what enters block i of the target.",
         source="VidMan, arXiv 2411.09153", runs=False),
    Kind("channel", "Source concatenated to the target's input channels: token by token, one frame "
         "for all frames, or one token for each frame."),
)  # fmt: skip

DISTANCES = table(
    Kind("cosine", "1 - cosine over the named axis, mean over the rest.",
         (Attribute("over", "choice", "Axis that is reduced.", default="feature",
                    choices=("feature", "token")),), source="FLARE, arXiv 2505.15659"),
    Kind("l1", "Mean absolute difference."),
    Kind("l2", "Mean squared difference."),
    Kind("smooth_l1", "Huber distance with threshold 1."),
    Kind("infonce", "Contrast against the other samples of the batch.",
         (Attribute("temperature", "real", "Softmax temperature.", default="0.1", minimum=0),)),
)  # fmt: skip

TEACHERS = table(
    Kind("frozen", "A copy of the target's codec at its first weights, never trained."),
    Kind("ema", "An exponential moving average of the target's codec.",
         arguments=(Attribute("rate", "share", "Share kept at each step.", default="0.99"),),
         source="BYOL, arXiv 2006.07733"),
    Kind("same", "The same weights; no gradient passes unless `gradient` is written."),
)  # fmt: skip

GUARDS = table(
    Kind("vcreg", "Variance and covariance terms on the predicted features.",
         arguments=(Attribute("weight", "real", "Weight of the guard.", default="1"),),
         source="VICReg, arXiv 2105.04906"),
    Kind("sigreg", "Gaussianity of random projections.",
         arguments=(Attribute("weight", "real", "Weight of the guard.", default="1"),),
         source="LeJEPA, arXiv 2511.08544", runs=False),
    Kind("simnorm", "Features are softmax-normalised in groups.",
         arguments=(Attribute("groups", "integer", "Group size.", default="8"),),
         source="TD-MPC2, arXiv 2310.16828", runs=False),
)  # fmt: skip
