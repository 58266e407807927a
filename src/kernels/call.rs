//! What a kernel call is made of: regions of buffers, parameters, and how a twin receives them.

use std::borrow::Cow;
use std::sync::Arc;

use bytemuck::Pod;

use super::activations::Activations;

/// A buffer of an engine. Seen from the host, all hold 4-byte elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// `len` elements of a buffer from element `offset` on. Offsets are multiples of [`Region::ALIGNMENT`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Region {
    pub buffer: BufferId,
    pub offset: usize,
    pub len: usize,
}

impl Region {
    /// Elements that a region's offset is a multiple of: WebGPU's 256 bytes for storage bindings.
    pub const ALIGNMENT: usize = 64;

    /// The fewest rows of `width` elements after which another region may begin.
    pub fn aligned_rows(width: u32) -> u32 {
        let mut rows = Self::ALIGNMENT as u32;
        while rows > 1 && (rows / 2 * width).is_multiple_of(Self::ALIGNMENT as u32) {
            rows /= 2;
        }
        rows
    }

    /// What is left of the region behind its first `elements`.
    pub fn after(self, elements: u32) -> Region {
        Region { offset: self.offset + elements as usize, len: self.len - elements as usize, ..self }
    }

    /// The region's first `elements`.
    pub fn first(self, elements: usize) -> Region {
        Region { len: elements, ..self }
    }

    /// Whether two regions share an element.
    pub fn overlaps(&self, other: &Region) -> bool {
        self.buffer == other.buffer && self.offset < other.offset + other.len && other.offset < self.offset + self.len
    }
}

/// Whether a kernel only reads a binding or also writes it. Lower case, as the kernel declarations have them.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    read,
    write,
}

/// The type of a binding's elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scalar {
    F32,
    U32,
}

/// What a binding's elements can be declared as.
pub trait Element {
    /// What twins are given.
    type Host: Pod;
    const SCALAR: Scalar;
    /// See [`Binding::activation`].
    const ACTIVATION: bool = false;
}

impl Element for f32 {
    type Host = f32;
    const SCALAR: Scalar = Scalar::F32;
}

impl Element for u32 {
    type Host = u32;
    const SCALAR: Scalar = Scalar::U32;
}

/// An f32 that a GPU engine may store in 16 bits.
pub enum Activation {}

impl Element for Activation {
    type Host = f32;
    const SCALAR: Scalar = Scalar::F32;
    const ACTIVATION: bool = true;
}

/// One storage binding of a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binding {
    pub name: &'static str,
    pub access: Access,
    pub scalar: Scalar,
    /// Whether its elements may be stored in 16 bits, all of a call's or none: see [`super::activations`].
    pub activation: bool,
}

/// The least that a call has to do.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Work {
    /// Floating-point operations; a division, root, exponential or logarithm is one.
    pub flops: f64,
    /// Bytes of everything that is read or written, once.
    pub bytes: f64,
}

/// The sequences of a batch, which the parameters of kernels over sequences do not tell.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ragged {
    /// First token of each sequence, and the number of tokens; empty where a call has none.
    pub offsets: Arc<[u32]>,
    pub tokens: f64,
    /// Pairs of a token and one that is not after it in its sequence.
    pub pairs: f64,
}

impl Ragged {
    /// Of sequences that begin at these tokens; the last one is the number of tokens.
    pub fn new(offsets: &[u32]) -> Self {
        let pairs = |ends: &[u32]| {
            let tokens = f64::from(ends[1] - ends[0]);
            tokens * (tokens + 1.0) / 2.0
        };
        Ragged {
            offsets: offsets.into(),
            tokens: offsets.last().copied().unwrap_or(0).into(),
            pairs: offsets.windows(2).map(pairs).sum(),
        }
    }
}

/// Workgroups of a dispatch in each dimension.
pub type Groups = [u32; 3];

/// Workgroups of the entry point `serial` for parameters (as bytes); `None` where they are not for it.
pub type SerialGroups = fn(&[u8]) -> Option<Groups>;

/// What [`Kernel::entry`] chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The entry point's name.
    pub point: &'static str,
    /// Workgroups to dispatch.
    pub groups: Groups,
    /// Which of the kernel's [`UniformView`]s are read: a bit for each, the first is 1.
    pub from_uniform: u32,
    /// Whether item rows lie in 16 bits: the parameter `packed`, which is a constant of the shader too.
    pub packed: bool,
    /// How activations lie in memory.
    pub activations: Activations,
}

/// A read binding, X, whose first [`UniformView::BYTES`] `serial` has a second time, as a uniform binding after all others,
/// `X_uniform: array<vec4<f32>, 4096>`. Where the constant `X_from_uniform` is true, `serial` reads it there: drivers that
/// compute on the CPU load an element of a storage buffer lane by lane with every check, one of a uniform at an eighth of
/// that, at any address.
#[derive(Clone, Copy)]
pub struct UniformView {
    /// Name of the binding.
    pub binding: &'static str,
    /// Whether all that is read of it fits, for these parameters (as bytes).
    pub fits: fn(&[u8]) -> bool,
}

impl UniformView {
    /// WebGPU's default limit of a uniform binding.
    pub const BYTES: u64 = 65_536;

    /// Whether so many elements fit.
    pub fn holds(elements: u32) -> bool {
        4 * u64::from(elements) <= Self::BYTES
    }

    /// Deals rows to runs of which tensors of the `viewed` widths fit, each, and after which other regions of these, and of
    /// tensors of the `other` widths, may begin. Where what they add up is kept in slices, each run has one of its own, as
    /// long as there are enough.
    pub fn runs(rows: u32, viewed: &[u32], other: &[u32], slices: u32) -> impl Iterator<Item = Run> + use<> {
        let aligned = viewed.iter().chain(other).map(|&width| Region::aligned_rows(width)).max().unwrap_or(1);
        let widest = viewed.iter().copied().max().unwrap_or(1);
        let most = Self::BYTES as u32 / 4 / widest / aligned * aligned;
        let each = rows.div_ceil(slices).next_multiple_of(aligned).min(most).max(aligned);
        let count = rows.div_ceil(each).max(1);
        (0..count).map(move |i| Run {
            first: i * each,
            rows: each.min(rows - i * each),
            slice: i % slices,
            slices: if i + 1 == count { slices.saturating_sub(i).max(1) } else { 1 },
            accumulate: i >= slices,
        })
    }
}

/// Rows that a call is made for of all that one is dealt to; see [`UniformView::runs`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// The first row.
    pub first: u32,
    /// How many there are.
    pub rows: u32,
    /// The first slice that their sums are for.
    pub slice: u32,
    /// How many slices they are for: the last run has those that would be left without any.
    pub slices: u32,
    /// Whether a run before had the slice already.
    pub accumulate: bool,
}

/// A kernel: the shader, what it is bound to, and its twin. Binding 0 of group 0 is the uniform `params`, binding
/// `i + 1` is `bindings[i]`; the entry point is `main`.
pub struct Kernel {
    /// File name in `shaders/` without its ending; label of the pipeline, of passes, of profiles.
    pub name: &'static str,
    /// WGSL.
    pub source: &'static str,
    /// Name and type of every parameter, in order; 4 bytes each.
    pub params: &'static [(&'static str, Scalar)],
    pub bindings: &'static [Binding],
    /// Workgroups to dispatch for these parameters (as bytes).
    pub groups: fn(&[u8]) -> Groups,
    /// The entry point `serial`, where the shader has one: see [`Kernel::entry`].
    pub serial: Option<SerialGroups>,
    /// What `serial` may read as uniforms.
    pub uniforms: &'static [UniformView],
    /// The calls that are to be made instead of one, one after the other, where `serial` is taken: parts that fit into the
    /// uniform views. They compute the same.
    pub parts: Option<fn(&Call) -> Vec<Call>>,
    /// Whether `serial` is for parts alone, so that a call is never made whole.
    pub only_parts: bool,
    /// The least to do for these parameters (as bytes) and sequences, where activations are stored so.
    pub work: fn(&[u8], &Ragged, Activations) -> Work,
    /// Computes the same on the CPU.
    pub twin: fn(&mut Arguments<'_>),
}

impl Kernel {
    /// The entry point to dispatch for these parameters (as bytes), and its workgroups.
    ///
    /// `main` shares work in group memory, as GPUs like it. Some kernels have a second one, `serial`, for adapters that
    /// compute on the CPU: there, group memory is no faster than any other, a barrier costs more than the work it
    /// divides, and an invocation is best left alone with its registers. `serial` may be for some parameters only, such
    /// as widths that are whole vectors.
    pub fn entry(&self, params: &[u8], serial: bool, activations: Activations) -> Entry {
        let packed = self.has_packed().is_some_and(|i| params[4 * i..4 * i + 4] != [0; 4]);
        match self.serial.filter(|_| serial).and_then(|groups| groups(params)) {
            Some(groups) => {
                let fits = |view: &UniformView| u32::from((view.fits)(params) && self.is_f32(view, activations));
                let from_uniform = (0..).zip(self.uniforms).map(|(bit, view)| fits(view) << bit).sum();
                Entry { point: "serial", groups, from_uniform, packed, activations }
            }
            None => Entry { point: "main", groups: (self.groups)(params), from_uniform: 0, packed, activations },
        }
    }

    /// Whether what a view is of is f32, as uniforms have it.
    fn is_f32(&self, view: &UniformView, activations: Activations) -> bool {
        activations == Activations::F32 || !self.bindings.iter().any(|b| b.name == view.binding && b.activation)
    }

    /// Which parameter is `packed`, if the kernel has that.
    pub fn has_packed(&self) -> Option<usize> {
        self.params.iter().position(|(name, _)| *name == "packed")
    }
}

/// One kernel call: an element of the straight list that a training step is.
#[derive(Clone, Debug)]
pub struct Call {
    pub kernel: &'static Kernel,
    /// The parameters' bytes, 4 each.
    pub params: Vec<u8>,
    pub regions: Vec<Region>,
    /// For [`Call::work`] alone; zeros where nobody asks.
    pub ragged: Ragged,
}

impl Call {
    /// # Panics
    /// Where a written region shares elements with another region of the call, or an offset is not aligned: no engine
    /// could run that, and no data can lead to it, so it is an error of the program.
    pub fn new(kernel: &'static Kernel, params: &[u8], regions: Vec<Region>) -> Self {
        for (i, (binding, region)) in kernel.bindings.iter().zip(&regions).enumerate() {
            assert!(
                region.offset.is_multiple_of(Region::ALIGNMENT),
                "{}.{}: offset {} is not a multiple of {}",
                kernel.name,
                binding.name,
                region.offset,
                Region::ALIGNMENT
            );
            if binding.access == Access::write {
                for (j, other) in regions.iter().enumerate() {
                    assert!(
                        i == j || !region.overlaps(other),
                        "{}: {} is written and shares elements with {}",
                        kernel.name,
                        binding.name,
                        kernel.bindings[j].name
                    );
                }
            }
        }
        Call { kernel, params: params.to_vec(), regions, ragged: Ragged::default() }
    }

    /// What an engine dispatches for this call, where it takes entry points `serial` or not, and makes calls whole where it
    /// can or not; see [`Kernel::parts`]. Where activations are f16, no uniform view is of them, and calls stay whole.
    pub fn parts(&self, serial: bool, whole: bool, activations: Activations) -> Cow<'_, [Call]> {
        let taken = serial && activations == Activations::F32 && (self.kernel.only_parts || !whole);
        let taken = taken && self.kernel.serial.is_some_and(|groups| groups(&self.params).is_some());
        match self.kernel.parts.filter(|_| taken) {
            Some(parts) => parts(self).into(),
            None => std::slice::from_ref(self).into(),
        }
    }

    /// The least to do where activations are stored so, for profiles.
    pub fn work(&self, activations: Activations) -> Work {
        (self.kernel.work)(&self.params, &self.ragged, activations)
    }
}

/// A twin's view of its call: parameters, then the bindings one after the other.
pub struct Arguments<'a> {
    params: &'a [u8],
    /// Start, length in elements, and whether it may be written.
    slots: Vec<(*mut u32, usize, Access)>,
    next: usize,
}

impl<'a> Arguments<'a> {
    /// # Safety
    /// `slots[i]` points to that many initialised elements, valid for `'a`; those with `Access::write` overlap no other
    /// slot, and nothing else reads or writes them during `'a`.
    pub unsafe fn new(params: &'a [u8], slots: Vec<(*mut u32, usize, Access)>) -> Self {
        Arguments { params, slots, next: 0 }
    }

    /// The parameters as the kernel's struct.
    pub fn params<P: Pod>(&self) -> P {
        bytemuck::pod_read_unaligned(self.params)
    }

    /// The next binding, to be read.
    pub fn read<T: Element>(&mut self) -> &'a [T::Host] {
        let (start, len, _) = self.slots[self.next];
        self.next += 1;
        // SAFETY: `new`'s contract gives validity and that nobody writes these elements; f32 and u32 have one layout.
        unsafe { std::slice::from_raw_parts(start.cast::<T::Host>(), len) }
    }

    /// The next binding, to be written.
    pub fn write<T: Element>(&mut self) -> &'a mut [T::Host] {
        let (start, len, access) = self.slots[self.next];
        assert_eq!(access, Access::write, "a binding is declared read and taken to be written");
        self.next += 1;
        // SAFETY: as in `read`; the slot overlaps no other, and `next` moves on, so that it is handed out once.
        unsafe { std::slice::from_raw_parts_mut(start.cast::<T::Host>(), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_every_row_once_and_begin_where_regions_may() {
        for rows in [0, 1, 15, 64, 257, 2100, 12_800] {
            for widths in [[1, 3], [4, 64], [20, 36], [64, 192], [256, 768]] {
                for slices in [1, 3, 8] {
                    let aligned = [widths[0], widths[1], 2].into_iter().map(Region::aligned_rows).max().unwrap();
                    let mut next = 0;
                    let mut written = vec![0; slices as usize];
                    for run in UniformView::runs(rows, &widths, &[2], slices) {
                        assert_eq!(run.first, next);
                        for width in [widths[0], widths[1], 2] {
                            assert!((run.first * width).is_multiple_of(Region::ALIGNMENT as u32));
                            assert!(UniformView::holds(run.rows * width) || run.rows <= aligned);
                        }
                        for slice in run.slice..run.slice + run.slices {
                            assert_eq!(run.accumulate, written[slice as usize] > 0);
                            written[slice as usize] += 1;
                        }
                        next += run.rows;
                    }
                    assert_eq!(next, rows);
                    assert!(written.iter().all(|&times| times > 0), "a slice is left as it was");
                }
            }
        }
    }
}
