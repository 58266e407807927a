//! Profiles of training steps: a trace file, and a table of what each kernel takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{Ceilings, Span};
use crate::error::{Error, Result};
use crate::kernels::Work;
use crate::model::Model;
use crate::run::write_whole;

/// Steps before the measured ones: pipelines are made and caches filled. A run that has no more measures them.
const WARM_UP: u64 = 10;
/// Steps that are measured.
const MEASURED: u64 = 50;

/// Measures some steps of a run.
#[derive(Debug)]
pub struct Profiler {
    path: PathBuf,
    steps: u64,
    /// What was measured before all was warm.
    early: Vec<Span>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The trace's file.
    pub path: PathBuf,
    /// Measured steps; where there is none, there is no trace either.
    pub steps: u64,
    /// Whether there were steps before the measured ones, so that pipelines were made and caches filled.
    pub warm: bool,
    pub ceilings: Ceilings,
    /// The kernels, the longest first.
    pub kernels: Vec<KernelTime>,
}

/// All calls of one kernel.
#[derive(Clone, Debug)]
pub struct KernelTime {
    pub kernel: &'static str,
    pub calls: u64,
    pub time: Duration,
    pub work: Work,
    /// The least seconds that the calls take under the ceilings.
    pub least: f64,
}

impl Profiler {
    /// A profiler that writes its trace to this file.
    ///
    /// # Errors
    /// Where no file can be written there, so that this is known before anything is measured.
    pub fn new(path: PathBuf) -> Result<Profiler> {
        if path.is_dir() {
            let source = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(Error::File { action: "write", path, source });
        }
        // Files are written beside their place first.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        tempfile::tempfile_in(folder).map_err(Error::file("write", &path))?;
        Ok(Profiler { path, steps: 0, early: Vec::new() })
    }

    /// To be called after each step; the profile once it is there.
    ///
    /// # Errors
    /// Where the device fails or the file cannot be written.
    pub fn stepped(&mut self, model: &mut Model) -> Result<Option<Profile>> {
        self.steps += 1;
        // The first step makes pipelines. Those after it are measured too, in case no more follow.
        if self.steps == 1 || self.steps == WARM_UP {
            self.early = model.profile(true)?;
        }
        if self.steps == WARM_UP + MEASURED { self.finish(model).map(Some) } else { Ok(None) }
    }

    /// The profile of the steps so far.
    ///
    /// # Errors
    /// As [`stepped`](Profiler::stepped).
    pub fn finish(&mut self, model: &mut Model) -> Result<Profile> {
        let warm = self.steps > WARM_UP;
        let steps = self.steps.saturating_sub(if warm { WARM_UP } else { 1 });
        let spans = model.profile(false)?;
        let spans = if self.steps == WARM_UP { std::mem::take(&mut self.early) } else { spans };
        let path = self.path.clone();
        if steps == 0 {
            return Ok(Profile {
                path,
                steps,
                warm,
                ceilings: Ceilings { flops: 0.0, bytes: 0.0 },
                kernels: Vec::new(),
            });
        }
        let ceilings = model.ceilings()?;
        write_trace(&path, &spans)?;
        Ok(Profile { path, steps, warm, ceilings, kernels: sum(&spans, &ceilings) })
    }
}

fn sum(spans: &[Span], ceilings: &Ceilings) -> Vec<KernelTime> {
    let mut kernels = BTreeMap::new();
    for Span { kernel, time, work, .. } in spans {
        let none = KernelTime { kernel, calls: 0, time: Duration::ZERO, work: Work::default(), least: 0.0 };
        let sum = kernels.entry(*kernel).or_insert(none);
        sum.calls += 1;
        sum.time += *time;
        sum.work.flops += work.flops;
        sum.work.bytes += work.bytes;
        sum.least += ceilings.least(*work);
    }
    let mut kernels: Vec<_> = kernels.into_values().collect();
    kernels.sort_by_key(|kernel| std::cmp::Reverse(kernel.time));
    kernels
}

/// Chrome's trace event format (JSON), which Perfetto opens too: a row per kernel.
fn write_trace(path: &Path, spans: &[Span]) -> Result<()> {
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for span in spans {
        let next = rows.len();
        rows.entry(span.kernel).or_insert(next);
    }
    let names = rows.iter().map(
        |(kernel, row)| json!({ "name": "thread_name", "ph": "M", "pid": 0, "tid": row, "args": { "name": kernel } }),
    );
    let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
    let calls = spans.iter().map(|span| {
        json!({
            "name": span.kernel, "ph": "X", "pid": 0, "tid": rows[span.kernel],
            "ts": micros(span.start), "dur": micros(span.time),
            "args": { "list": &*span.list, "flops": span.work.flops, "bytes": span.work.bytes },
        })
    });
    let events: Vec<Value> = names.chain(calls).collect();
    write_whole(path, json!({ "traceEvents": events, "displayTimeUnit": "ns" }).to_string().as_bytes())
}
