"""The published systems whose runtime is promised."""

from pathlib import Path

ATLAS = Path(__file__).parents[2] / "examples" / "atlas"
SYSTEMS = (
    "unipi vidar vpp mimic_video uva uwm videovla cosmos_policy dreamzero gigaworld_policy ge_act "
    "motus lingbot_va fast_wam fast_wam_joint fast_wam_idm lda_1b frappe gr1 up_vla worldvla "
    "dreamvla flare vla_jepa wog dial"
).split()

# Queries whose deleted parts all come after the answer: they read it, or a tap of its generator.
BEHIND = {("unipi", "foresee"), ("vidar", "imagine"), ("vpp", "imagine")}
