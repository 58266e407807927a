//! A training batch, packed on the host: everything that the step's kernels index with.

/// Where the position rows of a sequence are counted from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PositionFrom {
    /// The last item has row L-1, the one before it L-2 (SASRec's left padding).
    #[default]
    End,
    /// The first kept item has row 0.
    Start,
}

/// Sequences lying one after the other, nothing padded. A sequence longer than L keeps its last L items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packed {
    /// Item of every token, `[tokens]`.
    pub items: Vec<u32>,
    /// Position row of every token, `[tokens]`.
    pub positions: Vec<u32>,
    /// Sequence of every token, `[tokens]`.
    pub owners: Vec<u32>,
    /// First token of every sequence, and the number of tokens: `[sequences + 1]`.
    pub offsets: Vec<u32>,
}

/// A segmented index: the entries of row `r` are `sources[starts[r] .. starts[r + 1]]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segments {
    /// `[rows + 1]`
    pub starts: Vec<u32>,
    pub sources: Vec<u32>,
}

/// One training batch: B inputs, then (where the variant needs them) B labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// B, the number of examples; fewer than the setting in an epoch's last batch.
    pub examples: usize,
    /// The inputs, then the labels.
    pub sequences: Packed,
    /// Candidate items: the targets of all examples, `[candidates]`; example `b` owns
    /// `target_offsets[b] .. target_offsets[b + 1]` (exactly one, except for variants with several future items).
    pub targets: Vec<u32>,
    /// `[examples + 1]`
    pub target_offsets: Vec<u32>,
    /// The distinct items among tokens and targets, ascending.
    pub rows: Vec<u32>,
    /// For each of `rows`, where it occurs: token `t` as `t`, candidate `n` as `tokens + n`, ascending.
    pub row_sources: Segments,
    /// For each position row (L of them), the tokens there, ascending.
    pub position_sources: Segments,
}

impl Packed {
    /// Number of tokens T.
    pub fn tokens(&self) -> usize {
        self.items.len()
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.offsets.len() - 1
    }
}
