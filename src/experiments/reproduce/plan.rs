//! Which runs an experiment takes.

use crate::model::Variant;
use crate::settings::Settings;

/// A table or figure of the paper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Experiment {
    /// Variants of the losses.
    Table2,
    /// Noise in the training items.
    Figure4,
    /// The threshold lambda.
    Figure5,
}

/// What a run differs in from the others.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cell {
    pub variant: Variant,
    /// Of the full variant.
    pub lambda: f64,
    pub noise: f64,
    pub seed: u64,
}

/// All that is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub experiments: Vec<Experiment>,
    /// Of every run, but for what its cell says.
    pub settings: Settings,
    /// The first of them is the settings' own.
    pub seeds: u64,
    /// Shares of noise of figure 4, ascending, with 0.
    pub noises: Vec<f64>,
    /// Thresholds of figure 5, ascending.
    pub lambdas: Vec<f64>,
}

impl Cell {
    /// The cell; lambda 0 is the variant without the seq2seq loss, to the bit.
    pub fn new(variant: Variant, lambda: f64, noise: f64, seed: u64) -> Cell {
        match variant {
            Variant::Full if lambda > 0.0 => Cell { variant, lambda, noise, seed },
            Variant::Full => Cell { variant: Variant::SequenceToItem, lambda: 0.0, noise, seed },
            _ => Cell { variant, lambda: 0.0, noise, seed },
        }
    }

    /// The name of its run's folder.
    pub fn name(&self) -> String {
        let Cell { lambda, noise, seed, .. } = self;
        let variant = self.variant_name();
        let lambda = if self.variant == Variant::Full { format!("-lambda{lambda}") } else { String::new() };
        format!("{variant}{lambda}-noise{noise}-seed{seed}")
    }

    /// The variant as the setting has it.
    pub fn variant_name(&self) -> &'static str {
        match self.variant {
            Variant::Full => "full",
            Variant::SequenceToItem => "s2i",
            Variant::AllFuture => "all-future",
            Variant::NextThree => "next3",
        }
    }

    pub fn settings(&self, base: &Settings) -> Settings {
        let Cell { variant, lambda, noise, seed } = *self;
        let lambda = if variant == Variant::Full { lambda } else { base.lambda };
        Settings { variant, lambda, noise, seed, ..base.clone() }
    }
}

impl Plan {
    /// The seeds of the runs.
    pub fn seeds(&self) -> std::ops::Range<u64> {
        self.settings.seed..self.settings.seed + self.seeds
    }

    /// All runs, each once, seed by seed: what comes first says something of everything.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        for seed in self.seeds() {
            for experiment in &self.experiments {
                for cell in self.cells_of(*experiment, seed) {
                    if !cells.contains(&cell) {
                        cells.push(cell);
                    }
                }
            }
        }
        cells
    }

    /// The runs of an experiment with one seed.
    pub fn cells_of(&self, experiment: Experiment, seed: u64) -> Vec<Cell> {
        let Settings { lambda, noise, .. } = self.settings;
        match experiment {
            Experiment::Table2 => [Variant::Full, Variant::SequenceToItem, Variant::AllFuture, Variant::NextThree]
                .map(|variant| Cell::new(variant, lambda, noise, seed))
                .to_vec(),
            Experiment::Figure4 => self
                .noises
                .iter()
                .flat_map(|&noise| {
                    [Variant::Full, Variant::SequenceToItem].map(|variant| Cell::new(variant, lambda, noise, seed))
                })
                .collect(),
            Experiment::Figure5 => {
                self.lambdas.iter().map(|&lambda| Cell::new(Variant::Full, lambda, noise, seed)).collect()
            }
        }
    }
}
