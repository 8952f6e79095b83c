"""The published systems whose runtime is promised, and those of them that are still refused."""

from pathlib import Path

ATLAS = Path(__file__).parents[2] / "examples" / "atlas"
SYSTEMS = (
    "unipi vidar vpp mimic_video uva uwm videovla cosmos_policy dreamzero gigaworld_policy ge_act "
    "motus lingbot_va fast_wam fast_wam_joint fast_wam_idm lda_1b frappe gr1 up_vla worldvla "
    "dreamvla flare vla_jepa wog dial"
).split()

# Codes that `compile` ends with at tiny size; a system that runs must leave this table.
REFUSED: dict[str, set[str]] = {}
RUNNING = [name for name in SYSTEMS if name not in REFUSED]

# Queries whose deleted parts all come after the answer: they read it, or a tap of its generator.
BEHIND = {("unipi", "foresee"), ("vidar", "imagine"), ("vpp", "imagine")}
