//! `prismrec reproduce`

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::download::with_data;
use super::terminal::{Terminal, stop_on_interrupt};
use super::{MoreData, given_file, print};
use crate::error::{Error, Result};
use crate::experiments::reproduce::{Experiment, Left, Plan, Told, work};
use crate::settings::{Given, Settings};
use crate::train::Dataset;

/// Repeat the paper's Table 2 and figures 4 and 5
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec reproduce table2 --recipe beauty                           variants of the losses, three seeds
  prismrec reproduce all beauty.txt --recipe beauty --refit           everything, with refits
  prismrec reproduce figure5 beauty.txt --lambdas 0,0.5,1 --seeds 1 --epochs 5
  prismrec reproduce table2 --epochs 2                                on generated data: shows what comes out

Writes table2.md, table2.csv, table2-sampled.svg ... into --out, anew after every run; each run lies in a folder of its own
in OUT/runs. What is done is not done again, what was interrupted is gone on with: give the same command. Processes and
machines that share OUT share the runs.")]
pub(super) struct ReproduceArgs {
    /// What to repeat
    what: What,
    /// Settings of datasets/NAME.toml, and its data (see prismrec download) where none are given
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    recipe: Option<String>,
    /// TOML file of settings; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder for runs and reports
    #[arg(long, default_value = "reproduced", value_name = "DIR")]
    out: PathBuf,
    /// How many seeds; the first is --seed
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Shares of noise of figure 4
    #[arg(long, value_delimiter = ',', default_value = "0,0.1,0.2,0.3,0.4,0.5", value_name = "SHARE,SHARE...")]
    noises: Vec<f64>,
    /// Thresholds of figure 5
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1",
        value_name = "LAMBDA,LAMBDA..."
    )]
    lambdas: Vec<f64>,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    more: MoreData,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    Table2,
    Figure4,
    Figure5,
    All,
}

pub(super) fn run(arguments: ReproduceArgs) -> Result<()> {
    let ReproduceArgs { what, recipe, config, out, seeds, noises, lambdas, given, more } = arguments;
    let given = with_data(more.with(given), recipe.as_deref(), None)?;
    let settings = Settings::new(given, given_file(recipe.as_deref(), config.as_deref())?)?;
    let experiments = match what {
        What::Table2 => vec![Experiment::Table2],
        What::Figure4 => vec![Experiment::Figure4],
        What::Figure5 => vec![Experiment::Figure5],
        What::All => vec![Experiment::Table2, Experiment::Figure4, Experiment::Figure5],
    };
    if settings.lambda == 0.0 && !experiments.iter().all(|experiment| *experiment == Experiment::Figure5) {
        return Err(Error::Setting("lambda 0 leaves no difference between variants (0) and (1)".into()));
    }
    if settings.noise > 0.0 && experiments.contains(&Experiment::Figure4) {
        return Err(Error::Setting("figure 4 takes its noise from --noises; leave --noise out".into()));
    }
    // The ratio is to what is trained without noise.
    let noises = ascending("noises", noises.into_iter().chain([0.0]).collect())?;
    let lambdas = ascending("lambdas", lambdas)?;
    let plan = Plan { experiments, settings, seeds, noises, lambdas };
    let data = Dataset::open(&plan.settings)?;
    let stop = stop_on_interrupt()?;
    let mut terminal = Terminal::stopped_by(stop.clone());
    let ended = work(&plan, &out, &data, &mut terminal, &mut |told| match told {
        Told::Begun { number, of, cell, folder } => {
            print(&format!("\nrun {number} of {of}: {}, in {}", cell.name(), folder.display()));
        }
        Told::Reported { files } => {
            let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
            print(&format!("written: {}", names.join(" ")));
        }
    });
    terminal.clear();
    match ended {
        Ok(Left { elsewhere: 0 }) => Ok(()),
        Ok(Left { elsewhere }) => {
            print(&format!("{elsewhere} runs are under way in other processes; the same command then adds them"));
            Ok(())
        }
        Err(Error::Interrupted) if stop.load(Ordering::Relaxed) => {
            print("stopped; the same command goes on");
            Err(Error::Interrupted)
        }
        Err(error) => Err(error),
    }
}

/// Values from 0 to 1, each once.
fn ascending(name: &str, mut values: Vec<f64>) -> Result<Vec<f64>> {
    if let Some(value) = values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        return Err(Error::Setting(format!("{name} {value} is out of range: it takes 0 to 1")));
    }
    values.sort_by(f64::total_cmp);
    values.dedup();
    Ok(values)
}
