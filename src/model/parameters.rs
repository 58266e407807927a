//! The parameters: names, shapes, initial values, and where each lies in the engine's buffers.
//!
//! The item table has buffers of its own. All other parameters share one buffer, so that one kernel call updates them;
//! those that one kernel reads together (weight and bias, or query, key and value) lie together as a [`Group`].

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Shape, Tensor, Tensors};
use crate::kernels::Region;

/// The item table's name.
pub const ITEM_TABLE: &str = "item_embedding.weight";

/// A run of the shared buffer that kernels bind as one.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub offset: usize,
    pub len: usize,
}

/// The groups of an encoder block.
#[derive(Clone, Copy, Debug)]
pub struct BlockGroups {
    pub attention_norm: Group,
    /// query, key and value weights, then their biases
    pub qkv: Group,
    pub feed_forward_norm: Group,
    pub inner: Group,
    pub outer: Group,
}

/// Where every parameter but the item table lies.
#[derive(Clone, Debug)]
pub struct Layout {
    pub position_table: Group,
    pub blocks: Vec<BlockGroups>,
    pub encoder_norm: Group,
    pub token_norm: Group,
    pub prototype_norm: Group,
    pub key_norm: Group,
    pub query_norm: Group,
    pub output_norm: Group,
    pub prototypes: Group,
    pub intention_positions: Group,
    pub key: Group,
    pub query_bias: Group,
    pub input_bias: Group,
    pub label_bias: Group,
    /// Name, shape and offset of each tensor.
    tensors: Vec<(String, Vec<usize>, usize)>,
    /// Elements of the shared buffer, a multiple of [`Region::ALIGNMENT`].
    pub len: usize,
}

impl Layout {
    pub fn new(shape: Shape) -> Self {
        let Shape { dim, intentions, length, blocks, .. } = shape;
        let mut builder = Builder::default();
        let norm = |b: &mut Builder, name: &str| {
            b.group(&[(format!("{name}.weight"), vec![dim]), (format!("{name}.bias"), vec![dim])])
        };
        let linear = |b: &mut Builder, name: &str| {
            b.group(&[(format!("{name}.weight"), vec![dim, dim]), (format!("{name}.bias"), vec![dim])])
        };
        let b = &mut builder;
        let position_table = b.group(&[("position_embedding.weight".into(), vec![length, dim])]);
        let blocks = (0..blocks)
            .map(|n| {
                let at = format!("blocks.{n}");
                let attention_norm = norm(b, &format!("{at}.attention_norm"));
                let parts = ["query", "key", "value"];
                let weights = parts.map(|part| (format!("{at}.attention.{part}.weight"), vec![dim, dim]));
                let biases = parts.map(|part| (format!("{at}.attention.{part}.bias"), vec![dim]));
                BlockGroups {
                    attention_norm,
                    qkv: b.group(&[weights, biases].concat()),
                    feed_forward_norm: norm(b, &format!("{at}.feed_forward_norm")),
                    inner: linear(b, &format!("{at}.feed_forward.inner")),
                    outer: linear(b, &format!("{at}.feed_forward.outer")),
                }
            })
            .collect();
        let single = |b: &mut Builder, name: &str, shape: &[usize]| b.group(&[(name.to_owned(), shape.to_vec())]);
        Layout {
            position_table,
            blocks,
            encoder_norm: norm(b, "encoder_norm"),
            token_norm: norm(b, "intention.token_norm"),
            prototype_norm: norm(b, "intention.prototype_norm"),
            key_norm: norm(b, "intention.key_norm"),
            query_norm: norm(b, "intention.query_norm"),
            output_norm: norm(b, "intention.output_norm"),
            prototypes: single(b, "intention.prototypes", &[intentions, dim]),
            intention_positions: single(b, "intention.position_embedding", &[length, dim]),
            key: linear(b, "intention.key"),
            query_bias: single(b, "intention.query_bias", &[dim]),
            input_bias: single(b, "intention.input_bias", &[intentions, dim]),
            label_bias: single(b, "intention.label_bias", &[intentions, dim]),
            len: builder.at,
            tensors: builder.tensors,
        }
    }

    /// Cuts the shared buffer's elements into tensors.
    pub fn split(&self, elements: &[f32]) -> Tensors {
        self.tensors
            .iter()
            .map(|(name, shape, offset)| {
                let data = elements[*offset..][..shape.iter().product()].to_vec();
                (name.clone(), Tensor { shape: shape.clone(), data })
            })
            .collect()
    }

    /// The shared buffer's elements from tensors of the right names and shapes.
    pub fn join(&self, tensors: &Tensors) -> Vec<f32> {
        let mut elements = vec![0.0; self.len];
        for (name, shape, offset) in &self.tensors {
            elements[*offset..][..shape.iter().product()].copy_from_slice(&tensors[name].data);
        }
        elements
    }
}

#[derive(Default)]
struct Builder {
    tensors: Vec<(String, Vec<usize>, usize)>,
    at: usize,
}

impl Builder {
    fn group(&mut self, tensors: &[(String, Vec<usize>)]) -> Group {
        let offset = self.at;
        for (name, shape) in tensors {
            self.tensors.push((name.clone(), shape.clone(), self.at));
            self.at += shape.iter().product::<usize>();
        }
        let len = self.at - offset;
        self.at = self.at.next_multiple_of(Region::ALIGNMENT);
        Group { offset, len }
    }
}

/// Names and shapes of all parameters, the item table first.
pub fn parameter_shapes(shape: Shape) -> Vec<(String, Vec<usize>)> {
    let table = (ITEM_TABLE.to_owned(), vec![shape.items, shape.dim]);
    let others = Layout::new(shape).tensors.into_iter().map(|(name, shape, _)| (name, shape));
    std::iter::once(table).chain(others).collect()
}

/// Initial parameters: Glorot uniform for matrices and tables, zeros for biases, ones for layer norms' weights,
/// N(0, 1/sqrt(D)) for both betas. With `item_deviation` the item table is drawn from N(0, item_deviation) instead.
/// Every tensor has a random stream of its own.
pub fn initial_parameters(shape: Shape, item_deviation: Option<f64>, seed: u64) -> Tensors {
    parameter_shapes(shape)
        .into_iter()
        .enumerate()
        .map(|(stream, (name, shape_of))| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            // Streams of the data's sampling begin at 0.
            rng.set_stream((1 << 32) + stream as u64);
            let len = shape_of.iter().product();
            let beta = name.ends_with("input_bias") || name.ends_with("label_bias");
            let data = if name.ends_with("norm.weight") {
                vec![1.0; len]
            } else if beta {
                normal(&mut rng, len, 1.0 / (shape.dim as f64).sqrt())
            } else if shape_of.len() == 2 {
                match item_deviation {
                    Some(deviation) if name == ITEM_TABLE => normal(&mut rng, len, deviation),
                    _ => {
                        let limit = (6.0 / (shape_of[0] + shape_of[1]) as f64).sqrt();
                        (0..len).map(|_| ((2.0 * rng.random::<f64>() - 1.0) * limit) as f32).collect()
                    }
                }
            } else {
                vec![0.0; len]
            };
            (name, Tensor { shape: shape_of, data })
        })
        .collect()
}

/// `len` draws from N(0, deviation), by Box and Muller.
fn normal(rng: &mut ChaCha8Rng, len: usize, deviation: f64) -> Vec<f32> {
    (0..len)
        .map(|_| {
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            let angle = std::f64::consts::TAU * rng.random::<f64>();
            (radius * angle.cos() * deviation) as f32
        })
        .collect()
}
