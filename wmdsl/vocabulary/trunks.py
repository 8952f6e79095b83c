"""Trunks: stacks of blocks that carry tokens."""

from wmdsl.vocabulary.rows import Attribute, Kind, table

MOST_LAYERS = 1000

TRANSFORMER = (
    Attribute("layers", "integer", "Blocks in the stack.", required=True, minimum=1,
              maximum=MOST_LAYERS),
    Attribute("width", "integer", "Residual width.", required=True, minimum=1),
    Attribute("heads", "heads", "Heads x head dim, as `6x32`, with `kv 2` for fewer key heads.",
              required=True),
    Attribute("ffn", "integer", "Hidden width of the feed-forward part; 4 x width if absent.",
              minimum=1),
    Attribute("qk_norm", "choice", "RMS norm of queries and keys.", default="none",
              choices=("none", "per_head", "across_heads")),
    Attribute("positions", "choice", "How a token knows its place: a learned table per token "
              "group, rotary by place in the trunk's token order, rotary by (frame, row, column), "
              "rotary with the time of what is no video counted in frames of the video, nothing.",
              default="learned",
              choices=("learned", "rope_1d", "rope_3d", "rope_fractional", "none")),
    Attribute("tokens", "tokens", "Token groups in order, as `words(text), eyes(corner.now)`.",
              required=True),
)  # fmt: skip

COMMON = (
    Attribute("init", "any", "Where the weights start: a hub id, or `resize OTHER_TRUNK`."),
    Attribute("frozen", "flag", "Weights are not trained."),
    Attribute("lora", "integer", "Rank of adapters beside the matrices of attention and "
              "feed-forward: they, learned tokens and heads are trained, the rest is frozen.",
              minimum=1),
    Attribute("parameters", "integer", "Published parameter count where the shape is unknown.",
              minimum=0),
)  # fmt: skip

TRUNKS = table(
    Kind("dit", "Diffusion transformer: layer norm without affine part, modulated by the time of "
         "each token's own stream (adaLN-zero), GELU feed-forward; attention is full.",
         (*TRANSFORMER,
          Attribute("modulation", "choice", "Whose weights turn a time code into the six numbers "
                    "of a block: its own, those of the trunk beside a table in each block, its own "
                    "of low rank.", default="per_block",
                    choices=("per_block", "shared", "low_rank")),
          Attribute("rank", "integer", "Rank of a low-rank modulation.", default="256",
                    minimum=1),
          Attribute("told", "choice", "Whose times a token is told: its own stream's, those of all "
                    "streams in the trunk, none.", default="own", choices=("own", "all", "none"))),
         source="DiT, arXiv 2212.09748"),
    Kind("vit", "Transformer encoder: layer norm, GELU feed-forward; attention is full.",
         TRANSFORMER, source="ViT, arXiv 2010.11929"),
    Kind("decoder", "Language-model decoder: RMS norm, SwiGLU feed-forward; attention is causal "
         "in token order unless an attend says otherwise.",
         TRANSFORMER, level="semantic", source="LLaMA, arXiv 2302.13971"),
    Kind("mlp", "Fully connected layers, each added to the tokens, over the mean of the tokens "
         "that a token sees.",
         (Attribute("layers", "integer", "Layers.", required=True, minimum=1),
          Attribute("width", "integer", "Width.", required=True, minimum=1),
          Attribute("tokens", "tokens", "Token groups in order.", required=True))),
    Kind("unet", "Video U-Net: residual convolutions of frames and over frames, attention among "
         "the cells of a frame and over the frames of a cell, modulated by each group's own time. "
         "Half of the blocks lead down, half up; a tap reads maps enlarged to the tokens' cells.",
         (Attribute("layers", "integer", "Blocks that a tap may name.", required=True, minimum=1),
          Attribute("width", "integer", "Channels of all blocks; heads have 64 of them, or all.",
                    required=True, minimum=1),
          Attribute("levels", "integer", "Resolutions, each half as high and wide as the one "
                    "above.", default="1", minimum=1),
          Attribute("tokens", "tokens", "Token groups in order.", required=True)),
         source="Video Diffusion Models, arXiv 2204.03458"),
)  # fmt: skip
TRUNK_ATTRIBUTES = COMMON
