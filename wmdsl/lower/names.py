"""Names of the target: identifiers that are deterministic, legal and distinct."""

from __future__ import annotations

import keyword

from wmdsl.check.model import Model, Segment

# Public names of torch.nn.Module and of the emitted class itself; a test compares with torch.
RESERVED = frozenset(
    """
    T_destination add_module after_step answers apply bfloat16 buffers call_super_init children
    compile cpu cuda double dump_patches eval extra_repr float forward get_buffer get_extra_state
    get_parameter get_submodule half ipu load_state_dict load_statistics loss modules mtia
    named_buffers named_children named_modules named_parameters parameters plan query
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule share_memory source spec state_dict to to_empty train trained training type xpu
    zero_grad
    """.split()
)
# Functions that emitted methods call; a test compares with the blocks and the kernels.
FUNCTIONS = frozenset(
    """
    abreast adams_bashforth adapt ancestral angles_1d angles_3d ascending ascending_levels
    attached attention bell beside_nothing best_of beta by_frame cells chosen chosen_mean cosine
    cosine_over_features cosine_over_tokens cross_entropy denoised descending descending_levels
    direction divergence dpm_solver drawn dropped each_view edm_weight elite_search embodiments
    ends_from_eps ends_from_v ends_from_x0 exact_trace fixed flat folded follow framewise
    from_bins from_frame from_sources full_groups gated gated_residual gradient_ascent guided
    infonce interpolated l1 l2 laplace_log_density leads lengthened levels levels_on line
    log_probability log_ratio logit_normal loglogistic lognormal marked mix modulated modulated_norm
    moments nearness noised normal normal_log_density normal_spans normal_twice numbers_present
    on_cosine over_maps over_numbers paced patchify path_integral random_shooting random_signs
    repeated rescaled resize resized revealed roll rotated rotated_heads samples scaled
    schedule_of several shared_out shifted sinusoids smooth_l1 sometimes source_factors
    starts subset subset_bound to_bins to_frame to_maps to_tokens told_level twice unet_blocks
    uniform unit_cells unmarked unpatchify valid_mean validity vcreg velocity_of
    views_as_channels views_as_tokens whole whole_groups whole_number without_padding
    """.split()
)
LOCALS = frozenset(
    """
    self batch generator steps stage now then pairs path level like size clean torch nn functional
    math depth dict enumerate len next range str super tuple zip half trace probes
    """.split()
) | FUNCTIONS


class Names:
    """Gives each key one name; a wanted name that is taken gets its form, then underscores."""

    def __init__(self, taken: frozenset[str]):
        self._taken = set(taken)
        self._given: dict[object, str] = {}

    def of(self, key: object, wanted: str, form: str = "") -> str:
        """The name of `key`, the same at every call."""
        if key not in self._given:
            name = wanted
            if form and not self._is_free(name):
                name = f"{wanted}_{form}"
            while not self._is_free(name):
                name += "_"
            self._taken.add(name)
            self._given[key] = name
        return self._given[key]

    def _is_free(self, name: str) -> bool:
        return name not in self._taken and not keyword.iskeyword(name)


def segment_name(model: Model, segment: Segment) -> str:
    """`corner_future`; `action` where the stream has one segment only; `corner_future_0_3`."""
    stream = model.streams[segment.stream]
    whole, _, part = segment.name.partition("[")
    names = [segment.stream] if len(stream.segments) == 1 else [segment.stream, whole]
    return "_".join([*names, *part.rstrip("]").split("..")] if part else names)


def class_name(model_name: str) -> str:
    """`single_backbone` -> `SingleBackbone`."""
    return "".join(part[:1].upper() + part[1:] for part in model_name.split("_"))


def constant_name(*parts: str) -> str:
    return "_".join(part.upper() for part in parts)
