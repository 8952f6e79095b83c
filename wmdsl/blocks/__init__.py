"""In: nothing. Out: real model blocks whose source text the emitter copies in where it is used.
Invariant: each file imports only torch, and names from its siblings; no class has a dead branch.

B batch, T tokens, S source tokens, W width, H heads, G key heads, K head dim, R rows (of codes),
F frames, C channels or features, N samples of a segment.

Parameters per block (w width, a = heads * head_dim, g = kv_heads * head_dim, f ffn, c features):

    Tokens c w + w + count w; Places count w; Symbols v w + count w (v rows)
    Heads w (a + 2 g) + a + 2 g + a w + w, without bias w (a + 2 g) + a w; per head norms 2 k more,
    norms across heads a + g more
    DiTBlock AdaLN + Heads + 2 w f + f + w; ModulatedNorm 2 w w + 2 w; AdaLN of 6: 6 w w + 6 w;
    LowRankAdaLN of rank r: w r + r + 6 r w + 6 w; AdaLNTable 6 w beside one AdaLN for all blocks
    ViTBlock 4 w + Heads + 2 w f + f + w; its final LayerNorm 2 w
    DecoderBlock 2 w + Heads + 3 w f; its final RMSNorm w
    TimeCode 256 w + w + w w + w; Head w out + out
    CrossAttention w a + a + 2 (s g + g) + a w + w + 2 w (s source width); gated w more;
    embedded, s = w and once for each source s w + w + w w + w
    UNetBlock 31 w w + 23 w, DownBlock 9 w w + w more, UpBlock 18 w w + w more; MeanLayer w w + w
    adapt with rank r, per block r times the sides of each matrix of Heads and feed-forward
    Film s 2 w + 2 w; adaLN condition and prefix s w + w
    ConvGrid, per stage kernel^2 in out + out + 2 out; ConvKeypoints more: c points + points,
    9 c 16 + 16 + 32, (2 points + 16 cells) (tokens c) + tokens c, cells of the half-size map
    BytesEncoder 257 w + bytes w + layers (ViTBlock, f = 4 w) + 2 w + w tokens
    Perceptron c h + h + h c + c; FrameMask 9 c 16 + 16 + 9 * 16 + 1
    Align projector mlp s s + s + s c + c, linear s c + c; a frozen or ema teacher: the codec again
"""
