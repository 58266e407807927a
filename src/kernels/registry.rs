//! Every kernel there is.

use super::Kernel;

macro_rules! kernels {
    ($($name:ident),* $(,)?) => {
        /// All kernels, by name.
        pub static KERNELS: &[&Kernel] = &[$(&super::$name::KERNEL),*];
    };
}

kernels!(
    adam,
    adam_catch_up,
    adam_rows,
    aggregate,
    aggregate_backward,
    attention,
    attention_backward,
    bias_backward,
    candidate_scores,
    catalogue_rank,
    contrastive,
    contrastive_backward,
    contrastive_loss,
    embed,
    embed_backward,
    gather,
    intention_key_backward,
    intention_weight,
    layer_norm,
    layer_norm_backward,
    linear,
    linear_backward,
    place,
    place_backward,
    position_backward,
    prototype_backward,
    prototype_softmax,
    prototype_softmax_backward,
    select_confident,
    sum_slices,
);

/// The kernel of this name.
pub fn find(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().copied().find(|kernel| kernel.name == name)
}
