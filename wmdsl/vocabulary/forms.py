"""The declaration forms: one owner for every fact of a spec."""

from wmdsl.vocabulary.codecs import CODECS
from wmdsl.vocabulary.couplings import CONDITIONS, DISTANCES
from wmdsl.vocabulary.objectives import OBJECTIVES
from wmdsl.vocabulary.planners import PLANNERS
from wmdsl.vocabulary.rows import Attribute, Form
from wmdsl.vocabulary.streams import LEVELS, MODALITIES
from wmdsl.vocabulary.trunks import TRUNK_ATTRIBUTES, TRUNKS

MOST_SAMPLES = 100_000

_SEGMENTS = (
    Attribute("past", "length", "Samples before now that are known.", minimum=0,
              maximum=MOST_SAMPLES),
    Attribute("now", "length", "Samples up to and including now.", minimum=0,
              maximum=MOST_SAMPLES),
    Attribute("future", "length", "Samples after now (actions: from now on).", minimum=0,
              maximum=MOST_SAMPLES),
)  # fmt: skip

STREAM = Form("stream", "What is seen, done or said: one modality, one rate, named segments.",
    "stream corner: video[3, 64, 64] at 20 Hz { now 1 frame; future 4 frames }",
    (*_SEGMENTS,
     Attribute("key", "texts", "Column of the data set, or one for each view; the own name of the "
               "stream, or of each view, if absent."),
     Attribute("normalise", "choice", "How numbers are scaled by the data set's statistics.",
               choices=("zscore", "minmax", "quantile", "none", "unit")),
     Attribute("every", "length", "Distance between two samples, where it is not 1 / rate.",
               minimum=0),
     Attribute("offset", "length", "First sample of the future segment after now."),
     Attribute("clock", "choice", "What its samples are apart in: time, or shares of the rest of "
               "the task.", choices=("time", "progress"), runs=False),
     Attribute("resample", "choice", "What stands between two samples of a slower stream.",
               choices=("hold", "linear", "nearest"), runs=False),
     Attribute("level", "choice", "Level where the modality does not tell.", choices=LEVELS),
     Attribute("parts", "parts", "Named parts of a vector with units."),
     Attribute("relative", "choice", "Frame of reference of an action.", default="none",
               choices=("none", "absolute", "delta"), runs=True),
     Attribute("views", "views", "Cameras in this stream; on a canvas with their sizes, `head "
               "256x320, left 128x160, right 128x160`, or side by side in equal columns."),
     Attribute("arrange", "choice", "How views stand together: as one picture, one after the "
               "other, or each through the codec on its own with its tokens or features beside "
               "the others'.", choices=("canvas", "time", "tokens", "channels")),
     Attribute("augment", "integer", "Largest random shift of training "
               "frames in pixels; the largest of all cameras holds for each of them.",
               default="0", minimum=0),
     Attribute("valid", "choice", "`mask`: numbers of a sample may be padding, which reads as 0 "
               "and has no error.", choices=("mask", "none")),
     Attribute("dropout", "share", "Share of the training samples that do not see it: zeros stand "
               "for it, and a query may be guided away from that."),
     Attribute("embodiments", "names", "Embodiments, each with projections of its own into and "
               "out of this stream; a batch names them by number under `embodiment`, the first "
               "where it does not.")),
    MODALITIES)  # fmt: skip

CODEC = Form("codec", "How a segment becomes tokens; one set of weights under one name.",
    "codec eyes: conv { channels 32, 64, 128 }",
    (Attribute("frozen", "flag", "Weights are not trained."),
     Attribute("scope", "choice", "How far in time one token's features look.", default="frame",
               choices=("frame", "prefix", "clip")),
     Attribute("level", "choice", "Level put out, where the kind does not tell.", choices=LEVELS)),
    CODECS)  # fmt: skip

TRUNK = Form("trunk", "A stack of blocks; streams in one trunk share its weights.",
    "trunk policy: dit { layers 4; width 192; heads 6x32; tokens eyes(corner.now), action }",
    TRUNK_ATTRIBUTES, TRUNKS)  # fmt: skip

JOIN = Form("join", "Trunks with own weights attend as one sequence (mixture of transformers).",
    "join experts: seer, doer")  # fmt: skip

CROSS = Form("cross", "One-way cross-attention with its own keys and values.",
    "cross read: words(instruction) -> seer, doer { layers even }",
    (Attribute("layers", "layers", "Blocks of the target that read.", default="all"),
     Attribute("paired", "flag", "Block i reads what block i of the source trunk puts out."),
     Attribute("per_frame", "flag", "The target's tokens, shared out evenly over the frames of the "
               "source, read that frame alone."),
     Attribute("embed", "flag", "Each source is embedded at the target's width first, by two "
               "layers."),
     Attribute("frozen", "flag", "Weights are not trained."),
     Attribute("gate", "choice", "Gate of the result; `zero` starts closed.", default="none",
               choices=("none", "zero"))))  # fmt: skip

CONDITION = Form("condition", "A source sets numbers of the target, not tokens beside it.",
    "condition body: proprio -> doer by adaln", (), CONDITIONS)  # fmt: skip

ALIGN = Form("align", "A loss between predicted and target features; never a data path.",
    "align foresight: dream to eyes(corner.future) by cosine { teacher ema(0.99); weight 0.5 }",
    (Attribute("layer", "integer", "Block whose output is aligned; the last if absent.",
               minimum=0),
     Attribute("projector", "choice", "Map from source to target features.", default="mlp",
               choices=("none", "linear", "mlp")),
     Attribute("teacher", "teacher", "Whose weights make the target.", default="same"),
     Attribute("gradient", "flag", "Let the gradient into the target; demands a guard."),
     Attribute("hide", "share", "Share of the target's cells, in blocks through all frames, that "
               "no codec may see in training; they alone are compared.", runs=False),
     Attribute("guard", "guard", "Named guard against collapse."),
     Attribute("weight", "weights", "Weight of the loss.", default="1")),
    DISTANCES)  # fmt: skip

HAND = Form("hand", "Hand a finished prediction to another trunk; no gradient crosses.",
    "hand dream: corner.future -> inverse",
    (Attribute("training", "choice", "What the receiver reads in training.", default="truth",
               choices=("truth", "prediction")),
     Attribute("mask", "choice", "A learned spatial mask on the handed frames.", default="none",
               choices=("none", "soft", "hard")),
     Attribute("sparsity", "real", "Weight of the mask's area in the loss.", default="0.001",
               minimum=0),
     Attribute("noise", "share", "Re-noising of the truth in training, largest level.",
               default="0", runs=False),
     Attribute("payload", "choice", "What is handed over.", default="frames",
               choices=("frames", "latents", "tracks", "masks"))))  # fmt: skip

ATTEND = Form("attend", "Who sees whom: one row per token group; the only way to say a mask.",
    "attend { action sees corner.now, action }")  # fmt: skip

GENERATE = Form("generate", "What is predicted, by which objective, at which weight.",
    "generate act: action by flow { time beta(1.5, 1.0) }",
    (Attribute("weight", "weights", "Weight of the loss term.", default="1"),
     Attribute("critic", "real", "Weight of the adversarial term of a critic, which is trained "
               "beside the model and then left out.", minimum=0, runs=False),
     Attribute("stage", "names", "Stages in which the term is trained; all if absent.")),
    OBJECTIVES)  # fmt: skip

QUERY = Form("query", "A question to the density: what is sought given what.",
    "query policy: action | corner.now, instruction { steps 5; execute 8 steps }",
    (Attribute("steps", "per_stream", "Sampling steps.  Of streams that are denoised together, one "
               "with fewer moves ahead of the others and waits for them.", default="10"),
     Attribute("sampler", "choice", "Sampler; the objective's own if absent.",
               choices=("euler", "heun", "ddim", "ancestral", "multistep")),
     Attribute("execute", "length", "Steps of a chunk that are executed before asking again.",
               minimum=1),
     Attribute("pinned", "segments", "Segments held at pure noise."),
     Attribute("terminal", "per_stream", "Noise level at which sampling stops, 0 if absent; the "
               "answer is then data and noise mixed.", minimum=0),
     Attribute("cfg", "per_stream", "Classifier-free guidance: how far what is sought "
               "moves away from the answer without the given streams that have a dropout, or else "
               "the given texts.", minimum=0),
     Attribute("cache", "choice", "What a session holds between two calls: what was observed "
               "(`committed`), or `predicted` frames too, where and until nothing was observed.  "
               "Keys and values are computed again, with the same answer.", default="none",
               choices=("none", "scratch", "predicted", "committed")),
     Attribute("refresh", "length", "How often slow parts are computed again.", runs=False),
     Attribute("ensemble", "real", "Temporal ensembling: the action of a step is the mean of all "
               "chunks that speak of it; the oldest weighs 1, each later one exp(-ensemble) times "
               "the one before it.", minimum=0)))  # fmt: skip

LAYOUT = Form("layout", "A named arrangement of the same weights in which streams change roles.",
    "layout world { tokens image.now, action; predict image.future }",
    (Attribute("trunk", "name", "The trunk that is laid out; the one trunk if absent."),
     Attribute("tokens", "segments", "Token groups of the trunk that stand in it, in order."),
     Attribute("predict", "segments", "What is predicted in this layout."),
     Attribute("copies", "names", "Copies of every stream in one pass, as `clean, noisy`; an "
               "attend of this layout speaks of them."),
     Attribute("draw", "any", "Numbers drawn anew at every training step, with the value at "
               "inference: `chunk 2 within 1..4`."),
     Attribute("renoise", "any", "Copies noised again, with the share of samples and the range of "
               "times before the shift: `clean 0.5 within 0..0.5`."),
     Attribute("share", "share", "Share of the training samples.", default="1"),
     Attribute("data", "names",
               "Data sources whose samples train it; all if absent.")))  # fmt: skip

STAGE = Form("stage", "A phase of training with its own data, losses and trainable parts.",
    "stage warm_up { train seer; steps 2000 }",
    (Attribute("train", "names", "Parts that are trained; all if absent."),
     Attribute("freeze", "names", "Parts that are not trained."),
     Attribute("losses", "names", "Loss terms in force; all if absent."),
     Attribute("steps", "integer", "Optimizer steps.", minimum=1),
     Attribute("data", "per_stream",
               "Data sources, with shares where they are not even: `robot 0.7, video 0.3`."),
     Attribute("rate", "per_stream",
               "Learning rate, or one for each part: `vlm 1e-5, rest 3e-5`.")))  # fmt: skip

PLANNER = Form("planner", "A search over candidate futures with the model's own queries.",
    "planner imagine: cem { query controllable; samples 64 }",
    (Attribute("query", "names", "Queries it calls, in order."),
     Attribute("samples", "integer", "Candidates per round.", default="64", minimum=1),
     Attribute("rounds", "integer", "Rounds.", default="4", minimum=1),
     Attribute("score", "segments", "The stream that ranks the candidates, highest first."),
     Attribute("over", "names", "Operators it searches over; all if absent."),
     Attribute("goal", "tokens", "What the end of every chunk is compared with: `corner.future`, "
               "`eyes(corner.future)`; or the atoms that must hold in the end."),
     Attribute("timeout", "duration", "Longest search."),
     Attribute("replan", "choice", "When it plans again.", default="never",
               choices=("never", "failure", "step"))),
    PLANNERS)  # fmt: skip

EXTERN = Form("extern", "A foreign function with a checked signature.",
    'extern ask: "package:function" { takes scene; gives 1x512 }',
    (Attribute("takes", "segments", "What it reads."),
     Attribute("gives", "any", "What it puts out: sizes, or a stream.", required=True),
     Attribute("cached", "flag", "Answers are kept."),
     Attribute("fails", "choice", "What a failed call means.", default="error",
               choices=("error", "unknown"))),
    runs=False)  # fmt: skip

OBJECTS = Form("objects", "Types of objects that predicates speak of.", "objects block, jug",
    runs=False)  # fmt: skip

PREDICATE = Form("predicate", "A relation over typed objects, computed by an extern or classifier.",
    "predicate On(block, block) from ask(scene.now)",
    (Attribute("cached", "flag", "Truth values are kept per state and objects."),
     Attribute("derived", "any", "Atoms of other predicates whose conjunction defines it.")),
    runs=False)  # fmt: skip

OPERATOR = Form("operator", "A symbolic action: preconditions, effects and the skill behind it.",
    "operator Pick(b: block) { needs HandEmpty, Clear(b); adds Holding(b); skill pick }",
    (Attribute("needs", "any", "Preconditions."), Attribute("adds", "any", "Atoms made true."),
     Attribute("drops", "any", "Atoms made false."),
     Attribute("skill", "name", "The extern that executes it."),
     Attribute("samples", "integer", "Continuous parameters of the skill that are sampled.",
               default="0", minimum=0)), runs=False)  # fmt: skip

FORMS = {form.name: form for form in (
    STREAM, CODEC, TRUNK, JOIN, CROSS, CONDITION, ALIGN, HAND, ATTEND, GENERATE, QUERY, LAYOUT,
    STAGE, PLANNER, EXTERN, OBJECTS, PREDICATE, OPERATOR)}  # fmt: skip
