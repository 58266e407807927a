//! The kernels: each is one WGSL file in `shaders/` and one Rust twin of the same name here.
//!
//! A module `kernels::NAME` holds the parameters and bindings of `shaders/NAME.wgsl` (written once, with the
//! `kernel!` macro, which also checks nothing is forgotten), and the function `twin`, which says in plain Rust
//! what the shader computes. Twins run when there is no GPU and judge the shaders in the tests.
//!
//! Rules that hold for all of them:
//!
//! * Everything is row-major; `[rows, dim]` means that `dim` varies fastest.
//! * **Outputs are overwritten.** The only exceptions are kernels with a parameter `accumulate`, which add to their
//!   output where it is 1.
//! * **Gradients of parameters are written in slices**: the rows that feed a sum are dealt to `slices` equal runs, run
//!   `s` writes its own copy at `s * stride`, and `adam` adds the copies. So sums have one order, without atomics.
//! * Item rows may be stored in 16 bits, see [`storage`], and activations, see [`activations`]; all arithmetic is in f32.
//! * Dropout is a mask recomputed from a hash of (key, element), see [`dropout`].
//! * Group counts over 65,535 are folded into two dimensions, see [`fold`].

use std::fmt;

pub mod activations;
pub(crate) mod aligned;
mod call;
pub mod dropout;
mod math;
pub(crate) mod parallel;
mod registry;
#[cfg(target_arch = "x86_64")]
mod small_product;
pub mod storage;

pub use call::{
    Access, Activation, Arguments, Binding, BufferId, Call, Element, Entry, Groups, Kernel, Ragged, Region, Run,
    Scalar, SerialGroups, UniformView, Work,
};
pub use math::{Real, square_product};
pub use registry::{KERNELS, find};

/// "No row": what an index binding holds where nothing is meant.
pub const NONE: u32 = u32::MAX;

/// The largest number of dimensions (D) a kernel takes.
pub const MAX_DIM: usize = 256;
/// The largest number of intentions (K) a kernel takes.
pub const MAX_INTENTIONS: usize = 32;
/// The most rows (B * K) the contrastive and selection kernels take.
pub const MAX_PAIRS: usize = 16_384;

/// Most workgroups in one dimension of a dispatch under WebGPU's default limits.
const MAX_GROUPS: u32 = 65_535;

/// A dispatch of `groups` workgroups as (x, y, 1), folded where one dimension cannot hold them. Shaders undo it with
/// `group.x + group.y * groups.x` and leave when the result is past the end.
pub fn fold(groups: u32) -> [u32; 3] {
    let y = groups.div_ceil(MAX_GROUPS).max(1);
    [groups.div_ceil(y), y, 1]
}

/// Iterations that an invocation of an entry point `serial` may make: llvmpipe ends loops after 65,535.
const ITERATIONS: u32 = 60_000;

/// The runs that `rows` rows are dealt to: run `slice` of `slices`.
pub fn slice_rows(rows: usize, slices: usize, slice: usize) -> std::ops::Range<usize> {
    let each = rows.div_ceil(slices);
    (slice * each).min(rows)..((slice + 1) * each).min(rows)
}

/// Declares a kernel: its parameters (a uniform struct, field for field the shader's `Params`), its storage bindings in
/// the shader's order, its [`Work`] (floating-point operations, elements, and how many of these are [`Activation`]s, from the
/// parameters by name and a [`Ragged`]),
/// and the workgroups it is dispatched with, also those of its entry point `serial` where it has one (see
/// [`Kernel::entry`]; `None` where the parameters are not for it), the bindings that `serial` may read as uniforms (see
/// [`UniformView`]), and the calls that one is dealt to so that they fit (see [`Kernel::parts`]; `parts only` where it
/// is never made whole). The module's `twin` is
/// picked up by name.
macro_rules! kernel {
    (
        $(#[$meta:meta])*
        $name:literal
        params { $($(#[$pmeta:meta])* $param:ident: $pty:ident),* $(,)? }
        bindings { $($(#[$bmeta:meta])* $field:ident: $access:ident $ty:ty),* $(,)? }
        work |$s:ident| [$flops:expr, $elements:expr $(, $activations:expr)?]
        groups |$p:ident| $groups:expr
        $(; serial |$q:ident| $serial:expr)?
        $(; uniform $view:ident |$u:ident| $fits:expr)*
        $(; parts $($only:ident)? |$pp:ident, $pb:ident $(, $pr:ident)?| $parts:expr)?
    ) => {
        /// Parameters, mirrored by the shader's `Params`.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct Params { $($(#[$pmeta])* pub $param: $pty),* }

        /// What each storage binding is given.
        #[derive(Clone, Copy)]
        pub struct Bindings { $($(#[$bmeta])* pub $field: $crate::kernels::Region),* }

        $(#[$meta])*
        pub static KERNEL: $crate::kernels::Kernel = $crate::kernels::Kernel {
            name: $name,
            source: include_str!(concat!("../../shaders/", $name, ".wgsl")),
            params: &[$((stringify!($param), <$pty as $crate::kernels::Element>::SCALAR)),*],
            bindings: &[$($crate::kernels::Binding {
                name: stringify!($field),
                access: $crate::kernels::Access::$access,
                scalar: <$ty as $crate::kernels::Element>::SCALAR,
                activation: <$ty as $crate::kernels::Element>::ACTIVATION,
            }),*],
            groups: |bytes| { let $p: Params = bytemuck::pod_read_unaligned(bytes); $groups },
            serial: $crate::kernels::serial_groups!($($q $serial)?),
            uniforms: &[$($crate::kernels::UniformView {
                binding: stringify!($view),
                fits: |bytes| { let $u: Params = bytemuck::pod_read_unaligned(bytes); $fits },
            }),*],
            parts: $crate::kernels::call_parts!([$($field)*] $($pp $pb [$($pr)?] $parts)?),
            only_parts: $crate::kernels::is_only!($($($only)?)?),
            // Every parameter as an f64 of its name.
            #[allow(unused_variables)]
            work: |bytes, $s, activations| {
                let params: Params = bytemuck::pod_read_unaligned(bytes);
                $(let $param = f64::from(params.$param);)*
                let less = 4 - activations.width();
                $crate::kernels::Work {
                    flops: $flops,
                    bytes: 4.0 * ($elements) - less as f64 * (0.0 $(+ $activations)?),
                }
            },
            twin: |arguments| {
                let params: Params = arguments.params();
                twin(&params, $(arguments.$access::<$ty>()),*)
            },
        };

        /// The call of this kernel with `params` on `bindings`.
        pub fn call(params: Params, bindings: Bindings) -> $crate::kernels::Call {
            $crate::kernels::Call::new(&KERNEL, bytemuck::bytes_of(&params), vec![$(bindings.$field),*])
        }
    };
}

/// What `kernel!` makes of its `serial`, if any.
macro_rules! serial_groups {
    () => {
        None
    };
    ($p:ident $groups:expr) => {
        Some(|bytes| {
            let $p: Params = bytemuck::pod_read_unaligned(bytes);
            $groups
        })
    };
}
use serial_groups;

/// Whether `kernel!` has `parts only`.
macro_rules! is_only {
    () => {
        false
    };
    (only) => {
        true
    };
}
use is_only;

/// What `kernel!` makes of its `parts`, if any.
macro_rules! call_parts {
    ([$($field:ident)*]) => {
        None
    };
    ([$($field:ident)*] $p:ident $b:ident [$($r:ident)?] $parts:expr) => {
        Some(|call| {
            let $p: Params = bytemuck::pod_read_unaligned(&call.params);
            let mut regions = call.regions.iter().copied();
            // A call has a region for each binding.
            let $b = Bindings { $($field: regions.next().expect("a region")),* };
            $(let $r = &call.ragged;)?
            $parts
        })
    };
}
use call_parts;

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

pub mod adam;
pub mod adam_catch_up;
pub mod adam_rows;
pub mod aggregate;
pub mod aggregate_backward;
pub mod attention;
pub mod attention_backward;
pub mod bias_backward;
pub mod candidate_scores;
pub mod catalogue_rank;
pub mod contrastive;
pub mod contrastive_backward;
pub mod contrastive_loss;
pub mod embed;
pub mod embed_backward;
pub mod gather;
pub mod intention_key_backward;
pub mod intention_weight;
pub mod layer_norm;
pub mod layer_norm_backward;
pub mod linear;
pub mod linear_backward;
pub mod place;
pub mod place_backward;
pub mod position_backward;
pub mod prototype_backward;
pub mod prototype_softmax;
pub mod prototype_softmax_backward;
pub mod select_confident;
pub mod sum_slices;
