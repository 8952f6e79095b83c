"""Objectives, noise laws and samplers.  Time runs from 0 (clean data) to 1 (pure noise)."""

from wmdsl.vocabulary.rows import Attribute, Kind, table

LAWS = table(
    Kind("uniform", "Uniform from low to high.",
         arguments=(Attribute("low", "real", "Lower end.", default="0", minimum=0),
                    Attribute("high", "real", "Upper end; beyond 1 for sigmas of EDM only.",
                              default="1", minimum=0))),
    Kind("logit_normal", "Logistic of a normal variable.",
         arguments=(Attribute("mean", "real", "Mean.", default="0"),
                    Attribute("deviation", "real", "Standard deviation.", default="1")),
         source="SD3, arXiv 2403.03206"),
    Kind("beta", "0.001 + 0.999 Beta(a, b), more weight near pure noise for a > b.",
         arguments=(Attribute("a", "real", "First shape.", default="1.5"),
                    Attribute("b", "real", "Second shape.", default="1.0")),
         source="pi0, arXiv 2410.24164"),
    Kind("cosine", "Cosine ratio of masked or noised parts.", source="MaskGIT, arXiv 2202.04200"),
    Kind("fixed", "Always the same time.",
         arguments=(Attribute("time", "share", "The time.", required=True),)),
    Kind("lognormal", "EDM noise level, log-normal.",
         arguments=(Attribute("mean", "real", "Mean of the log.", default="-1.2"),
                    Attribute("deviation", "real", "Deviation of the log.", default="1.2")),
         source="EDM, arXiv 2206.00364"),
    Kind("loglogistic", "EDM noise level, logistic in its log.",
         arguments=(Attribute("mean", "real", "Mean of the log.", default="-0.69"),
                    Attribute("scale", "real", "Scale of the log.", default="0.5")),
         source="BESO, arXiv 2304.02532"),
    Kind("mix", "A mixture of laws with weights, `mix(uniform(0, 1) 0.3, beta(1.5, 1) 0.7)`.",
         arguments=(Attribute("parts", "any", "Laws with weights.", required=True),)),
)  # fmt: skip

TIME = (
    Attribute("time", "law", "Law of the training time of each sample.", default="uniform"),
    Attribute("shift", "real", "Shift of the schedule towards noise; 1 leaves it.", default="1",
              minimum=0),
    Attribute("times", "choice", "One time for all streams named here, one for each, or one for "
              "each frame.", default="independent", choices=("independent", "shared", "per_frame")),
    Attribute("weighting", "choice", "Weight of the loss over time: even, a bell around the "
              "middle, EDM's.", default="even", choices=("even", "bell", "edm")),
    Attribute("draws", "integer", "Noise draws of each sample in one step.", default="1",
              minimum=1),
)  # fmt: skip

OBJECTIVES = table(
    Kind("flow", "Flow matching: velocity = noise - data on the straight path.",
         (*TIME, Attribute("predict", "choice", "What the head puts out: the velocity; the data at "
                           "its end, which is easier where a token has more numbers than the trunk "
                           "is wide; or how the data differ from the last sample before them, so "
                           "that an untrained model says that nothing changes.",
                           default="velocity", choices=("velocity", "data", "change"))),
         source="arXiv 2210.02747; data: arXiv 2511.13720"),
    Kind("diffusion", "Denoising diffusion on the variance-preserving cosine path.",
         (*TIME, Attribute("predict", "choice", "What the head puts out.", default="eps",
                           choices=("eps", "x0", "v"))), source="DDPM, arXiv 2006.11239"),
    Kind("regression", "Learned queries are turned into the data in one pass.",
         (Attribute("distance", "choice", "Loss.", default="l1",
                    choices=("l1", "l2", "smooth_l1")),
          Attribute("scale", "real", "What the error stands for in a log-density: the deviation of "
                    "a normal law (l2) or the width of a Laplace law (l1) of normalised numbers.",
                    minimum=0.000001),
          Attribute("predict", "choice", "What the head puts out: the data, or how they differ "
                    "from the last sample before them; the data if absent.",
                    choices=("data", "change"))),
         source="ACT, arXiv 2304.13705"),
    Kind("autoregressive", "Next-token prediction over a discrete codec.",
         (Attribute("z_loss", "real", "Weight of the squared log-partition.", default="0"),)),
    Kind("masked", "Masked tokens of a discrete codec are predicted in parallel rounds.",
         (Attribute("time", "law", "Law of the masked ratio.", default="cosine"),),
         source="MaskGIT, arXiv 2202.04200"),
    Kind("edm", "EDM preconditioned denoising; its times are noise levels from 0, without an upper "
         "bound, and a trunk is told level / (1 + level).",
         (*TIME, Attribute("deviation", "real", "Standard deviation of the data.", default="0.5",
                           minimum=0.001),
          Attribute("low", "real", "Lowest noise level of sampling.", default="0.002",
                    minimum=0.000001),
          Attribute("high", "real", "Highest noise level of sampling.", default="80", minimum=0)),
         source="arXiv 2206.00364"),
    Kind("contrastive", "Contrastive scores of candidates.", runs=False),
)  # fmt: skip

SAMPLERS = table(
    Kind("euler", "Euler steps along the flow."),
    Kind("heun", "Heun's second-order steps: two passes each, but the last one."),
    Kind("ddim", "Deterministic diffusion steps.", source="arXiv 2010.02502"),
    Kind("ancestral", "Stochastic diffusion steps.", source="DDPM, arXiv 2006.11239"),
    Kind("multistep", "Second-order steps from the last two predictions: Adams-Bashforth along a "
         "flow, DPM-Solver++ (2M) along noise levels.",
         source="arXiv 2211.01095"),
)  # fmt: skip
