//! The engine's buffers that a model uses, by name.

use std::collections::BTreeMap;

use super::parameters::{Group, Layout};
use super::{Hyper, Shape};
use crate::engine::Engine;
use crate::error::Result;
use crate::kernels::Region;
use crate::kernels::adam_catch_up::COLUMNS;
use crate::kernels::select_confident::SLOT;
use crate::kernels::storage::ItemStorage;

/// Copies of the shared parameters' gradient that are summed by Adam: the work that a sum over tokens is dealt to.
pub const SLICES: usize = 8;
/// Steps whose losses the ring holds; it is read by halves.
pub const RING: usize = 64;
/// Steps with a learning rate of their own in Adam's table; by then the bias corrections are 1.
pub const RATES: usize = 1 << 15;

/// What an encoder block keeps for its backward pass.
#[derive(Clone, Copy)]
pub struct BlockBuffers {
    /// norm of the block's input, and what it was made with
    pub normed: Region,
    pub stats: Region,
    pub qkv: Region,
    pub mixed: Region,
    pub log_sum: Region,
    /// after the attention's residual
    pub middle: Region,
    pub middle_normed: Region,
    pub middle_stats: Region,
    pub hidden: Region,
    /// after the feed-forward's residual
    pub out: Region,
}

/// A part of the item table and of Adam's state of it, as large as a binding may be: the table may be larger.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// The first item.
    pub first: u32,
    pub items: u32,
    pub table: Region,
    pub first_moment: Region,
    pub second_moment: Region,
    /// the step that each row is up to date with
    pub updated: Region,
    /// what is added to an item's score
    pub bias: Region,
}

/// A run of the item rows in use that lies in one chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkRows {
    pub chunk: usize,
    /// The first of the rows in use, and how many.
    pub first: u32,
    pub rows: u32,
}

/// What makes a buffer: `activations` may be stored in 16 bits (see `kernels::activations`).
macro_rules! how {
    () => {
        allocate
    };
    (activations) => {
        allocate_activations
    };
}

macro_rules! buffers {
    ($($(#[$meta:meta])* $(@$how:ident)? $name:ident: $len:expr),* $(,)?) => {
        /// Every buffer as a region of its whole. Lengths are for the largest batch.
        pub struct Buffers {
            $($(#[$meta])* pub $name: Region,)*
            /// Parts of `compared`.
            pub target: Region,
            pub phi: Region,
            /// Of `working`, the rows of the item table.
            pub working_table: Region,
            /// The item table, in order.
            pub chunks: Vec<Chunk>,
            pub blocks: Vec<BlockBuffers>,
            names: BTreeMap<String, Region>,
        }

        impl Buffers {
            pub fn new(engine: &mut dyn Engine, shape: Shape, hyper: &Hyper, layout: &Layout) -> Result<Self> {
                let capacity = &Capacity::new(shape, hyper);
                let mut names = BTreeMap::new();
                let mut make = |allocate: Allocate, name: &str, len: usize| -> Result<Region> {
                    let region = allocate(engine, name, len)?;
                    names.insert(name.to_owned(), region);
                    Ok(region)
                };
                let sizes = Sizes::new(shape, layout, capacity);
                $(let $name = make(how!($($how)?), stringify!($name), $len(&sizes))?;)*
                let blocks = (0..shape.blocks).map(|n| {
                    let mut make = |how, name: &str, len: usize| make(how, &format!("blocks.{n}.{name}"), len);
                    let Sizes { tokens, dim, .. } = sizes;
                    Ok(BlockBuffers {
                        normed: make(allocate_activations, "normed", tokens * dim)?,
                        stats: make(allocate, "stats", tokens * 2)?,
                        qkv: make(allocate_activations, "qkv", tokens * 3 * dim)?,
                        mixed: make(allocate_activations, "mixed", tokens * dim)?,
                        log_sum: make(allocate, "log_sum", tokens)?,
                        middle: make(allocate_activations, "middle", tokens * dim)?,
                        middle_normed: make(allocate_activations, "middle_normed", tokens * dim)?,
                        middle_stats: make(allocate, "middle_stats", tokens * 2)?,
                        hidden: make(allocate_activations, "hidden", tokens * dim)?,
                        out: make(allocate_activations, "out", tokens * dim)?,
                    })
                }).collect::<Result<_>>()?;
                let compared = names["compared"];
                let target = compared.first(sizes.candidates * sizes.dim);
                let phi = Region {
                    offset: sizes.first_query() * sizes.dim,
                    len: sizes.sequences * sizes.intentions * sizes.dim,
                    ..compared
                };
                let working_table = names["working"].first(sizes.plane());
                let chunks = chunks(engine, shape, hyper.item_storage)?;
                names.extend([("target", target), ("phi", phi)].map(|(name, region)| (name.to_owned(), region)));
                Ok(Buffers { $($name,)* target, phi, working_table, chunks, blocks, names })
            }
        }
    };
}

/// The most of everything that a batch may have.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    pub tokens: usize,
    pub sequences: usize,
    pub examples: usize,
    pub candidates: usize,
    /// Scores of a call at evaluation.
    pub scores: usize,
}

impl Capacity {
    pub fn new(shape: Shape, hyper: &Hyper) -> Self {
        let sequences = if hyper.with_labels() { 2 * hyper.batch } else { hyper.batch };
        Capacity {
            tokens: sequences * shape.length,
            sequences,
            examples: hyper.batch,
            candidates: hyper.batch * hyper.variant.targets(shape.length),
            scores: (sequences * 128).max(1 << 14),
        }
    }
}

struct Sizes {
    items: usize,
    dim: usize,
    intentions: usize,
    length: usize,
    shared: usize,
    tokens: usize,
    sequences: usize,
    examples: usize,
    candidates: usize,
    scores: usize,
}

impl Sizes {
    fn new(shape: Shape, layout: &Layout, capacity: &Capacity) -> Self {
        let Shape { items, dim, intentions, length, .. } = shape;
        let Capacity { tokens, sequences, examples, candidates, scores } = *capacity;
        let shared = layout.len;
        Sizes { items, dim, intentions, length, shared, tokens, sequences, examples, candidates, scores }
    }

    /// Rows of the item table that can be in use at a time: all that a batch can have, and enough of them that a pass over
    /// the whole table has few turns.
    fn rows(&self) -> usize {
        (self.tokens + self.candidates).max(1 << 14).next_multiple_of(Region::ALIGNMENT).min(self.items)
    }

    /// Elements from one part of `working` to the next.
    fn plane(&self) -> usize {
        (self.rows() * self.dim).next_multiple_of(Region::ALIGNMENT)
    }

    /// Row of `compared` where phi begins.
    fn first_query(&self) -> usize {
        first_query(self.candidates)
    }
}

buffers! {
    // Parameters and Adam's state.
    /// the item rows in use and both their moments
    working: |s: &Sizes| 3 * s.plane(),
    item_gradient: |s: &Sizes| s.rows() * s.dim,
    shared: |s: &Sizes| s.shared,
    shared_first_moment: |s: &Sizes| s.shared,
    shared_second_moment: |s: &Sizes| s.shared,
    shared_gradient: |s: &Sizes| SLICES * s.shared,
    rates: |_: &Sizes| RATES * COLUMNS,
    // The batch.
    /// which of the rows in use each token is
    token_rows: |s: &Sizes| s.tokens,
    positions: |s: &Sizes| s.tokens,
    owners: |s: &Sizes| s.tokens,
    offsets: |s: &Sizes| s.sequences + 1,
    /// which of the rows in use each target is
    target_rows: |s: &Sizes| s.candidates,
    target_offsets: |s: &Sizes| s.examples + 1,
    /// items of the rows in use, ascending
    rows: |s: &Sizes| s.rows(),
    row_starts: |s: &Sizes| s.rows() + 1,
    row_sources: |s: &Sizes| s.tokens + s.candidates,
    position_starts: |s: &Sizes| s.length + 1,
    position_sources: |s: &Sizes| s.tokens,
    // Activations: those of tokens may be stored in 16 bits, what is far less, or of all kinds, is not.
    @activations embedded: |s: &Sizes| s.tokens * s.dim,
    @activations z: |s: &Sizes| s.tokens * s.dim,
    encoder_stats: |s: &Sizes| s.tokens * 2,
    @activations token: |s: &Sizes| s.tokens * s.dim,
    token_stats: |s: &Sizes| s.tokens * 2,
    prototype: |s: &Sizes| s.intentions * s.dim,
    prototype_stats: |s: &Sizes| s.intentions * 2,
    cluster: |s: &Sizes| s.tokens * s.intentions,
    @activations placed: |s: &Sizes| s.tokens * s.dim,
    query_input: |s: &Sizes| s.sequences * s.dim,
    @activations key_normed: |s: &Sizes| s.tokens * s.dim,
    key_stats: |s: &Sizes| s.tokens * 2,
    query: |s: &Sizes| s.sequences * s.dim,
    query_stats: |s: &Sizes| s.sequences * 2,
    @activations key: |s: &Sizes| s.tokens * s.dim,
    weight: |s: &Sizes| s.tokens,
    total: |s: &Sizes| s.sequences * s.intentions * s.dim,
    /// the targets' item rows, then (from `first_query` on) phi: what the losses compare
    compared: |s: &Sizes| (s.first_query() + s.sequences * s.intentions) * s.dim,
    phi_stats: |s: &Sizes| s.sequences * s.intentions * 2,
    // Losses.
    /// of the scores with targets, then of those with labels
    normaliser: |s: &Sizes| 2 * s.examples * s.intentions * 2,
    shift: |s: &Sizes| 2 * s.examples * s.intentions * 2,
    /// of targets, then of labels
    positive: |s: &Sizes| s.candidates + s.examples * s.intentions,
    /// how many rows eq. 4 keeps, then all rows, those first
    order: |s: &Sizes| 1 + s.examples * s.intentions,
    item_loss: |s: &Sizes| s.examples,
    pair_loss: |s: &Sizes| s.examples * s.intentions,
    tau: |_: &Sizes| 1,
    sums: |_: &Sizes| RING * SLOT,
    // Gradients of activations.
    dtarget: |s: &Sizes| s.candidates * s.dim,
    dphi: |s: &Sizes| s.sequences * s.intentions * s.dim,
    dtotal: |s: &Sizes| s.sequences * s.intentions * s.dim,
    dz: |s: &Sizes| s.tokens * s.dim,
    dcluster: |s: &Sizes| s.tokens * s.intentions,
    dlogit: |s: &Sizes| s.tokens * s.intentions,
    dscore: |s: &Sizes| s.tokens,
    dprototype: |s: &Sizes| s.intentions * s.dim,
    dquery: |s: &Sizes| s.sequences * s.dim,
    dquery_input: |s: &Sizes| s.sequences * s.dim,
    /// of the residual stream
    dstream: |s: &Sizes| s.tokens * s.dim,
    /// two places for gradients that the next call uses up
    da: |s: &Sizes| s.tokens * s.dim,
    db: |s: &Sizes| s.tokens * s.dim,
    dqkv: |s: &Sizes| s.tokens * 3 * s.dim,
    // Evaluation.
    candidate_items: |s: &Sizes| s.scores,
    candidate_score: |s: &Sizes| s.scores,
    candidate_intention: |s: &Sizes| s.scores,
    truth: |s: &Sizes| s.sequences,
    truth_score: |s: &Sizes| s.sequences,
    truth_intention: |s: &Sizes| s.sequences,
    known_offsets: |s: &Sizes| s.sequences + 1,
    rank: |s: &Sizes| s.sequences,
}

impl Buffers {
    /// Elements from one part of `working` to the next.
    pub fn plane(&self) -> usize {
        self.working_table.len
    }

    /// How these items (ascending) lie in the chunks.
    pub fn chunk_rows(&self, items: &[u32]) -> Vec<ChunkRows> {
        let mut first = 0;
        let runs = self.chunks.iter().enumerate().map(|(chunk, Chunk { first: base, items: len, .. })| {
            let end = items.partition_point(|item| *item < base + len);
            let run = ChunkRows { chunk, first: first as u32, rows: (end - first) as u32 };
            first = end;
            run
        });
        runs.filter(|run| run.rows > 0).collect()
    }

    /// The buffer of this name, whole.
    pub fn named(&self, name: &str) -> Option<Region> {
        self.names.get(name).copied()
    }

    /// A group of the shared parameters.
    pub fn parameters(&self, group: Group) -> Region {
        Region { offset: group.offset, len: group.len, ..self.shared }
    }

    /// All slices of a group's gradient: `SLICES` copies, `stride` apart.
    pub fn gradient(&self, group: Group, stride: usize) -> Region {
        Region { offset: group.offset, len: (SLICES - 1) * stride + group.len, ..self.shared_gradient }
    }
}

/// Row of `compared` where phi begins, behind the most targets of a batch: a region may begin there, whatever D is.
pub fn first_query(candidates: usize) -> usize {
    candidates.next_multiple_of(Region::ALIGNMENT)
}

/// The item table in as few chunks as the engine's buffers allow, of equal length but for the last.
fn chunks(engine: &mut dyn Engine, shape: Shape, storage: ItemStorage) -> Result<Vec<Chunk>> {
    let (items, words) = (shape.items, storage.words(shape.dim));
    let most = (engine.longest_buffer() / Region::ALIGNMENT * Region::ALIGNMENT / words).max(1);
    let each = items.div_ceil(items.div_ceil(most));
    (0..items)
        .step_by(each)
        .enumerate()
        .map(|(n, first)| {
            let rows = each.min(items - first);
            let mut make = |name: &str, len: usize| allocate(engine, &format!("items.{n}.{name}"), len);
            Ok(Chunk {
                first: first as u32,
                items: rows as u32,
                table: make("table", rows * words)?,
                first_moment: make("first_moment", rows * words)?,
                second_moment: make("second_moment", rows * words)?,
                updated: make("updated", rows)?,
                bias: make("bias", rows)?,
            })
        })
        .collect()
}

type Allocate = fn(&mut dyn Engine, &str, usize) -> Result<Region>;

/// A new buffer of at least `len` elements, whole.
pub fn allocate(engine: &mut dyn Engine, name: &str, len: usize) -> Result<Region> {
    let len = aligned(len);
    Ok(Region { buffer: engine.allocate(name, len)?, offset: 0, len })
}

/// As [`allocate`], of activations.
fn allocate_activations(engine: &mut dyn Engine, name: &str, len: usize) -> Result<Region> {
    let len = aligned(len);
    Ok(Region { buffer: engine.allocate_activations(name, len)?, offset: 0, len })
}

fn aligned(len: usize) -> usize {
    len.max(1).next_multiple_of(Region::ALIGNMENT)
}
