//! A case: a kernel, its parameters, what its bindings hold, and how far what it writes may be from what the twin writes.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use prismrec::kernels::activations::Activations;
use prismrec::kernels::storage::ItemStorage;
use prismrec::kernels::{Access, Kernel, Ragged, Region, Scalar};

use crate::common::Random;
use crate::machines::{CPU, GPUS, Job, Machine};

/// What outputs, and all that surrounds them, hold before a run: a NaN that f16 has too.
const POISON: u32 = 0x7fc5_a000;
/// What surrounds inputs: a NaN too, and an index that is out of bounds, but one that shows where it is passed on. As
/// drivers leave writes that are out of bounds, indices are sometimes surrounded by zeros instead.
const OTHER_POISON: u32 = 0x7fd2_2000;
/// Elements before and after a binding's region that nothing may touch: as many bytes as regions are aligned to, of 16 bits.
const GUARD: usize = 2 * Region::ALIGNMENT;

/// |got - want| <= absolute + relative * |want|
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub absolute: f32,
    pub relative: f32,
}

/// For what is stored as f16, whatever it is off by before: a driver may round to either neighbour, which are 2^-10 of the
/// number apart, and may have no numbers below the least that f16 has in full, 2^-14.
fn in_f16(tolerance: Tolerance) -> Tolerance {
    let Tolerance { absolute, relative } = tolerance;
    Tolerance { absolute: absolute * (1.0 + 1.0 / 1024.0) + 1.0 / 16_384.0, relative: relative + 1.0 / 1024.0 }
}

/// For results that involve no rounding, or the same one.
pub const EXACT: Tolerance = Tolerance { absolute: 0.0, relative: 0.0 };

/// For a handful of operations on numbers near 1: a few units in the last place (6e-8), and GPUs' division, square root
/// and exponential are off by up to three of them more.
pub const FEW: Tolerance = Tolerance { absolute: 1e-6, relative: 2e-6 };

/// For sums of `n` products of numbers up to 1, in any order: each of the additions is off by up to half a unit (6e-8) of
/// a partial sum, which is about a third of the root of its length, but three times that where it wanders: of a thousand
/// products one after the other, 4e-5 is seen once in a million sums.
pub fn sum_of(n: usize) -> Tolerance {
    let n = n as f32;
    Tolerance { absolute: 1e-6 + 1e-7 * n.sqrt() * n.sqrt().max(10.0), relative: 4e-6 }
}

/// What a kernel writes.
pub struct Output {
    axes: Vec<(&'static str, usize)>,
    tolerance: Tolerance,
    /// Instead, where activations are f16; what is stored so may be off by that, too.
    of_f16: Option<Tolerance>,
    /// Elements with a tolerance of their own.
    special: Option<(Range<usize>, Tolerance)>,
    before: Option<Vec<u32>>,
    /// How its words hold numbers, where they are item rows.
    stored: Option<ItemStorage>,
    len: usize,
    /// All that may and must be written.
    ranges: Vec<Range<usize>>,
    /// Whether the ranges are slices of which only the sum is compared.
    together: bool,
}

impl Output {
    /// All elements of these axes, the last of which varies fastest.
    pub fn new(axes: &[(&'static str, usize)], tolerance: Tolerance) -> Self {
        let len = axes.iter().map(|(_, n)| n).product();
        let ranges = std::iter::once(0..len).collect();
        Output {
            axes: axes.to_vec(),
            tolerance,
            of_f16: None,
            special: None,
            before: None,
            stored: None,
            len,
            ranges,
            together: false,
        }
    }

    /// The slices of a gradient, `stride` apart.
    pub fn slices(axes: &[(&'static str, usize)], slices: usize, stride: usize, tolerance: Tolerance) -> Self {
        let size = Output::new(axes, tolerance).len;
        let ranges: Vec<_> = (0..slices).map(|slice| slice * stride..slice * stride + size).collect();
        let len = ranges.last().unwrap().end;
        Output { len, ranges, ..Output::new(&[("slice", slices), ("element", stride)], tolerance) }
    }

    /// Which rows a slice sums is the engine's choice: the sum of all slices is what is compared.
    pub fn together(mut self) -> Self {
        self.together = true;
        self
    }

    /// What is compared: where that is a sum of slices, the first slice holds it and the others zeros.
    fn compared(&self, content: &[u32]) -> Vec<u32> {
        let mut content = content.to_vec();
        if !self.together {
            return content;
        }
        let (first, others) = self.ranges.split_first().unwrap();
        for element in first.clone() {
            let places = || others.iter().map(|other| GUARD + other.start + element - first.start);
            if content[GUARD + element] == POISON || places().any(|place| content[place] == POISON) {
                continue;
            }
            let value = |place: usize| f64::from(f32::from_bits(content[place]));
            let sum = value(GUARD + element) + places().map(value).sum::<f64>();
            content[GUARD + element] = (sum as f32).to_bits();
            places().for_each(|place| content[place] = 0);
        }
        content
    }

    /// How far it may be off where activations are f16, if that is not as far as ever.
    pub fn of_f16(mut self, tolerance: Tolerance) -> Self {
        self.of_f16 = Some(tolerance);
        self
    }

    /// It is written on top of these numbers.
    pub fn onto(mut self, before: Vec<f64>) -> Self {
        self.before = Some(bits(&before));
        self
    }

    /// It is written on top of these whole numbers.
    pub fn onto_whole(mut self, before: Vec<u32>) -> Self {
        self.before = Some(before);
        self
    }

    /// It is item rows that are written on top of these.
    pub fn onto_rows(self, storage: ItemStorage, before: &[f64], dim: usize) -> Self {
        let mut output = self.onto_whole(stored(storage, before, dim));
        output.stored = Some(storage);
        output
    }

    /// These rows (of `width` elements) have a tolerance of their own.
    pub fn but_rows(mut self, rows: Range<usize>, width: usize, tolerance: Tolerance) -> Self {
        self.special = Some((rows.start * width..rows.end * width, tolerance));
        self
    }

    /// Only these rows (of `width` elements) are written.
    pub fn rows(mut self, rows: impl IntoIterator<Item = usize>, width: usize) -> Self {
        self.ranges = rows.into_iter().map(|row| row * width..(row + 1) * width).collect();
        self
    }
}

/// See the module.
pub struct Case {
    kernel: &'static Kernel,
    params: Vec<u8>,
    what: String,
    /// Content of each binding.
    contents: Vec<Vec<u32>>,
    /// Of each binding; `None` where it is only read.
    outputs: Vec<Option<Output>>,
    /// Where tokens of each sequence begin, to tell where an element is.
    offsets: Vec<u32>,
}

fn bits(values: &[f64]) -> Vec<u32> {
    values.iter().map(|&value| (value as f32).to_bits()).collect()
}

/// Item rows of these numbers.
fn stored(storage: ItemStorage, values: &[f64], dim: usize) -> Vec<u32> {
    storage.pack(&values.iter().map(|&value| value as f32).collect::<Vec<_>>(), dim)
}

impl Case {
    pub fn new(kernel: &'static Kernel, params: impl Pod + Debug) -> Self {
        let what = format!("{params:?}");
        let params = bytemuck::bytes_of(&params).to_vec();
        Case { kernel, params, what, contents: Vec::new(), outputs: Vec::new(), offsets: Vec::new() }
    }

    fn push(mut self, access: Access, scalar: Option<Scalar>, content: Vec<u32>, output: Option<Output>) -> Self {
        let binding = self.kernel.bindings[self.contents.len()];
        assert_eq!(binding.access, access, "{}.{}", self.kernel.name, binding.name);
        assert!(scalar.is_none_or(|scalar| scalar == binding.scalar), "{}.{}", self.kernel.name, binding.name);
        self.contents.push(content);
        self.outputs.push(output);
        self
    }

    /// The next binding is read and holds these numbers.
    pub fn reals(self, values: &[f64]) -> Self {
        self.push(Access::read, Some(Scalar::F32), bits(values), None)
    }

    /// The next binding is read and holds these whole numbers.
    pub fn whole(self, values: &[u32]) -> Self {
        self.push(Access::read, Some(Scalar::U32), values.to_vec(), None)
    }

    /// The next binding is read and holds item rows.
    pub fn item_rows(self, storage: ItemStorage, values: &[f64], dim: usize) -> Self {
        self.whole(&stored(storage, values, dim))
    }

    /// The next binding is read and holds these offsets of sequences.
    pub fn offsets(mut self, offsets: &[u32]) -> Self {
        self.offsets = offsets.to_vec();
        self.whole(offsets)
    }

    /// The next binding is written.
    pub fn writes(self, output: Output) -> Self {
        let content = output.before.clone().unwrap_or_else(|| vec![POISON; output.len]);
        assert_eq!(content.len(), output.len);
        self.push(Access::write, None, content, Some(output))
    }

    /// Runs on all engines and compares, then on those that can with activations in 16 bits.
    ///
    /// # Panics
    /// Where a shader or a twin does not do as it is to do.
    pub fn check(mut self, random: &mut Random) {
        assert_eq!(self.contents.len(), self.kernel.bindings.len());
        self.check_stored(Activations::F32, random);
        if !self.kernel.bindings.iter().any(|binding| binding.activation) {
            return;
        }
        // The twin is given what f16 makes of its inputs.
        let stored = Activations::F16;
        for (content, binding) in self.contents.iter_mut().zip(self.kernel.bindings) {
            if binding.activation {
                *content = stored.unpack(&stored.pack(content));
            }
        }
        for (output, binding) in self.outputs.iter_mut().zip(self.kernel.bindings) {
            let Some(output) = output else { continue };
            output.tolerance = output.of_f16.unwrap_or(output.tolerance);
            if binding.activation {
                output.tolerance = in_f16(output.tolerance);
                output.special = output.special.take().map(|(range, tolerance)| (range, in_f16(tolerance)));
            }
        }
        self.what = format!("{}, activations in 16 bits", self.what);
        self.check_stored(stored, random);
    }

    fn check_stored(&self, activations: Activations, random: &mut Random) {
        // A region may be as long as a full batch needs and hold a smaller one.
        let slack = random.one_of(&[0, 1, 67]);
        let mut buffers = Vec::new();
        let mut regions = Vec::new();
        let around_indices = random.one_of(&[0, OTHER_POISON]);
        for ((content, output), binding) in self.contents.iter().zip(&self.outputs).zip(self.kernel.bindings) {
            let len = content.len() + slack;
            let surroundings = match (output, binding.scalar) {
                (Some(_), _) => POISON,
                (None, Scalar::F32) => OTHER_POISON,
                (None, Scalar::U32) => around_indices,
            };
            let mut buffer = vec![surroundings; 2 * GUARD + len];
            buffer[GUARD..GUARD + content.len()].copy_from_slice(content);
            buffers.push(buffer);
            regions.push((GUARD, len));
        }
        let job = Arc::new(Job {
            kernel: self.kernel,
            params: self.params.clone(),
            buffers,
            regions,
            sequences: Ragged::new(&self.offsets),
            activations,
        });
        let twin = CPU.begin(&job);
        let able = |machine: &&Machine| activations == Activations::F32 || machine.has_f16;
        let shaders: Vec<_> = GPUS.iter().filter(able).map(|machine| (machine, machine.begin(&job))).collect();
        let want = twin().unwrap_or_else(|e| panic!("{} {}: {e}", self.kernel.name, self.what));
        self.compare(&CPU, &job, &want, &want);
        for (machine, shader) in shaders {
            let got = shader().unwrap_or_else(|e| panic!("{} on {}: {e}", self.kernel.name, machine.name));
            self.compare(machine, &job, &got, &want);
        }
    }

    fn compare(&self, machine: &Machine, job: &Job, got: &[Vec<u32>], want: &[Vec<u32>]) {
        for (i, output) in self.outputs.iter().enumerate() {
            let binding = self.kernel.bindings[i];
            let show = |bits: u32| match (bits, binding.scalar) {
                (POISON | OTHER_POISON, _) => "poison".to_owned(),
                (bits, Scalar::F32) => format!("{:e}", f32::from_bits(bits)),
                (bits, Scalar::U32) => bits.to_string(),
            };
            let mut failures = Vec::new();
            let mut failed = 0;
            let mut rounded_otherwise = 0;
            let storage = output.as_ref().and_then(|output| output.stored);
            let mut written = vec![false; got[i].len()];
            for range in output.iter().flat_map(|output| &output.ranges) {
                written[GUARD + range.start..GUARD + range.end].fill(true);
            }
            let tolerance = output.as_ref().map_or(EXACT, |output| output.tolerance);
            let special = output.as_ref().and_then(|output| output.special.clone());
            let tolerance_at = |at: usize| match &special {
                Some((range, special)) if at >= GUARD && range.contains(&(at - GUARD)) => *special,
                _ => tolerance,
            };
            let compared =
                |content: &[u32]| output.as_ref().map_or(content.to_vec(), |output| output.compared(content));
            for (at, (got, want)) in compared(&got[i]).into_iter().zip(compared(&want[i])).enumerate() {
                let before = job.buffers[i][at];
                let right = match written[at] {
                    false => got == before,
                    true if storage == Some(ItemStorage::Bf16) => {
                        rounded_otherwise += usize::from(got != want);
                        [0, 16].into_iter().all(|half| (got << half).abs_diff(want << half) >> 16 <= 1)
                    }
                    true if storage.is_some() => agree(Scalar::F32, got, want, tolerance_at(at)),
                    true => got != POISON && agree(binding.scalar, got, want, tolerance_at(at)),
                };
                if !right {
                    failed += 1;
                    if failures.len() < 10 {
                        let expected = if written[at] { show(want) } else { format!("{} untouched", show(before)) };
                        failures.push(format!("{}: {}, expected {expected}", self.place(output, at), show(got)));
                    }
                }
            }
            // Where sums part by a few units of f32, one in thousands of numbers is rounded the other way.
            let most = if tolerance.relative == 0.0 { 0 } else { 3 + written.len() / 200 };
            assert!(
                rounded_otherwise <= most,
                "{}.{} by {}: {rounded_otherwise} of {} words are rounded otherwise, {}",
                self.kernel.name,
                binding.name,
                machine.name,
                written.len(),
                self.what
            );
            assert!(
                failed == 0,
                "{}.{} by {}: {failed} of {} elements are wrong ({tolerance:?}), {}\n{}",
                self.kernel.name,
                binding.name,
                machine.name,
                self.contents[i].len(),
                self.what,
                failures.join("\n")
            );
        }
    }

    /// Where element `at` of a binding's buffer is, in words.
    fn place(&self, output: &Option<Output>, at: usize) -> String {
        let Some(output) = output else { return format!("element {at} of an input and its surroundings") };
        if at < GUARD || at >= GUARD + output.len {
            return format!("element {} of the surroundings", at as isize - GUARD as isize);
        }
        let mut rest = at - GUARD;
        let mut places = Vec::new();
        for (axis, n) in output.axes.iter().rev() {
            let index = rest % n;
            rest /= n;
            if *axis == "token" && !self.offsets.is_empty() {
                let sequence = self.offsets.partition_point(|&offset| offset as usize <= index) - 1;
                places.push(format!("token {}", index - self.offsets[sequence] as usize));
                places.push(format!("sequence {sequence}"));
            } else {
                places.push(format!("{axis} {index}"));
            }
        }
        places.reverse();
        format!("({})", places.join(", "))
    }
}

fn agree(scalar: Scalar, got: u32, want: u32, tolerance: Tolerance) -> bool {
    if scalar == Scalar::U32 || got == want {
        return got == want;
    }
    let (got, want) = (f32::from_bits(got), f32::from_bits(want));
    if want.is_nan() {
        return got.is_nan();
    }
    let difference = (got - want).abs();
    // As it stands, a difference that is not a number is too large.
    difference <= tolerance.absolute + tolerance.relative * want.abs()
}
