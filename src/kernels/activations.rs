//! How activations lie in memory: what the forward pass writes and both passes read, as f32 or in half the memory, as f16.
//!
//! All arithmetic and all sums are in f32: shaders widen what they load (`f32(x)`, `vec4<f32>(x)`, nothing for f32) and
//! narrow what they store (`stored`, `stored4`). Their text is for f32; [`source`] makes the one for f16 of it, by three of
//! its lines. Parameters, gradients, moments, statistics and losses stay f32, which has the range for them: numbers of f16
//! are from 6e-8 (6e-5 at full precision, on some adapters the least) to 65,504, with 11 bits. Activations are sums, outputs
//! of layer norms and shares of those, around 1. One that is larger than f16 has is stored as not a number, so that it cannot
//! pass for another: whatever is computed from it is none either, and the loss tells.
//!
//! The host sees f32 either way.

use std::borrow::Cow;

use half::f16;
use half::slice::HalfFloatSliceExt;

/// How activations are stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Activations {
    /// As they are computed.
    #[default]
    F32,
    /// In half the memory, rounded; on GPUs whose shaders have 16-bit floats.
    F16,
}

/// The largest number that is stored in 16 bits.
pub const LARGEST: f32 = 65_504.0;

/// Lines of shaders, and what they are where activations are f16.
const LINES: [(&str, &str); 3] = [
    ("alias activation = f32;", "alias activation = f16;"),
    (
        "fn stored(x: f32) -> activation { return x; }",
        "fn stored(x: f32) -> activation { \
         return f16(bitcast<f32>(bitcast<u32>(x) | select(0u, 0x7fc00000u, abs(x) > 65504.0))); }",
    ),
    (
        "fn stored4(x: vec4<f32>) -> vec4<activation> { return x; }",
        "fn stored4(x: vec4<f32>) -> vec4<activation> { return vec4<f16>(bitcast<vec4<f32>>(\
         bitcast<vec4<u32>>(x) | select(vec4(0u), vec4(0x7fc00000u), abs(x) > vec4(65504.0)))); }",
    ),
];

/// A shader's text for activations that are stored so: its own where it has none. Lines keep their numbers.
pub fn source(text: &'static str, activations: Activations) -> Cow<'static, str> {
    if activations == Activations::F32 || !text.contains(LINES[0].0) {
        return text.into();
    }
    let replaced = |text: String, (of_f32, of_f16): (&str, &str)| text.replace(of_f32, of_f16);
    LINES.into_iter().fold(format!("enable f16; {text}"), replaced).into()
}

impl Activations {
    /// Bytes of an element.
    pub fn width(self) -> usize {
        match self {
            Activations::F32 => 4,
            Activations::F16 => 2,
        }
    }

    /// Elements (bits of f32) as they lie in memory.
    pub fn pack(self, elements: &[u32]) -> Cow<'_, [u8]> {
        match self {
            Activations::F32 => bytemuck::cast_slice(elements).into(),
            Activations::F16 => {
                let mut halves = vec![f16::ZERO; elements.len()];
                halves.convert_from_f32_slice(bytemuck::cast_slice(elements));
                halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>().into()
            }
        }
    }

    /// Elements (bits of f32) of what lies in memory.
    pub fn unpack(self, bytes: &[u8]) -> Vec<u32> {
        match self {
            Activations::F32 => bytemuck::pod_collect_to_vec(bytes),
            Activations::F16 => {
                let halves = bytes.as_chunks::<2>().0.iter().map(|&bytes| f16::from_le_bytes(bytes));
                halves.map(|half| half.to_f32().to_bits()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_nearest_and_come_back() {
        let numbers = [1.0f32, -0.0, 1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 65_504.0, 1e6, 1e-9, f32::NAN];
        let want = [1.0f32, -0.0, 1.0, 1.0 + 4.0 / 2048.0, 65_504.0, f32::INFINITY, 0.0];
        let bits = numbers.map(f32::to_bits);
        let packed = Activations::F16.pack(&bits);
        assert_eq!(packed.len(), 2 * numbers.len());
        let unpacked = Activations::F16.unpack(&packed);
        assert_eq!(unpacked[..7], want.map(f32::to_bits));
        assert!(f32::from_bits(unpacked[7]).is_nan());
        assert_eq!(Activations::F32.unpack(&Activations::F32.pack(&bits)), bits);
    }
}
