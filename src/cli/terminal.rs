//! Shows a run: a progress bar on a terminal, plain lines elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{print, show};
use crate::error::{Error, Result};
use crate::train::{News, Observer, Step};

/// How often a run tells of its steps where there is no terminal.
const PLAIN: Duration = Duration::from_secs(30);

/// A flag that the first Ctrl-C sets; the second ends the program.
pub(super) fn stop_on_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping (Ctrl-C again: at once, back to the last save)");
    })
    .map_err(|e| Error::Setting(format!("cannot listen for Ctrl-C: {e}")))?;
    Ok(stop)
}

/// A bar on standard error, where that is a terminal.
pub(super) fn bar(len: usize, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(len as u64).with_prefix(what);
    // A template that is wrong shows in every run.
    if let Ok(style) = ProgressStyle::with_template("{prefix} [{wide_bar}] {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// Prints results to standard output; the bar is on standard error.
pub(super) struct Terminal {
    bar: ProgressBar,
    /// What the bar shows: epochs' steps or an evaluation's users.
    showing: Option<(&'static str, u64)>,
    data: String,
    told: Instant,
    stop: Arc<AtomicBool>,
}

impl Terminal {
    pub(super) fn new() -> Terminal {
        Terminal::stopped_by(Arc::default())
    }

    /// One whose runs stop at their next step once the flag is set.
    pub(super) fn stopped_by(stop: Arc<AtomicBool>) -> Terminal {
        Terminal { bar: bar(0, ""), showing: None, data: String::new(), told: Instant::now(), stop }
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        self.bar.finish_and_clear();
        self.showing = None;
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| print(text));
    }

    /// Shows the bar for something new.
    fn show(&mut self, what: &'static str, number: u64, len: u64, prefix: impl FnOnce() -> String) {
        if self.showing != Some((what, number)) {
            self.showing = Some((what, number));
            self.bar.reset();
            self.bar.set_length(len);
            self.bar.set_prefix(prefix());
            self.bar.set_message("");
        }
    }

    fn step(&mut self, step: &Step) {
        let Step { epoch, batch, batches, losses, examples_per_second, left: [left, in_all] } = step;
        self.show("epoch", *epoch, *batches, || format!("epoch {epoch}"));
        let means = losses.as_ref().map(|losses| show::losses(losses) + ", ").unwrap_or_default();
        let rate = || format!("{means}{examples_per_second:.0} examples/s");
        self.bar.set_position(*batch);
        if self.bar.is_hidden() {
            if self.told.elapsed() >= PLAIN {
                self.told = Instant::now();
                self.line(&format!("epoch {epoch}: {batch} of {batches} steps, {}, {} left", rate(), time(*left)));
            }
        } else {
            self.bar.set_message(format!("{}, {} left, at most {} in all", rate(), time(*left), time(*in_all)));
        }
    }
}

impl Observer for Terminal {
    fn tell(&mut self, news: News<'_>) {
        match news {
            News::Step(step) => self.step(&step),
            News::Evaluating { part, protocol, done, users } => {
                let (part, protocol) = (show::part(part), show::protocol(protocol));
                self.show(protocol, u64::MAX, users as u64, || format!("{part}, {protocol}"));
                self.bar.set_position(done as u64);
            }
            News::Started(start) => {
                self.data.clone_from(&start.data);
                for line in show::start(start) {
                    self.line(&line);
                }
            }
            News::Profiled(profile) => {
                for line in show::profile(profile) {
                    self.line(&line);
                }
            }
            News::Epoch(epoch) => self.line(&show::epoch(epoch)),
            News::Validated { epoch, step, figures } => {
                self.line(&format!("epoch {epoch}, step {step}: {}", show::validation(figures)));
            }
            News::Refitting { steps } => {
                self.line(&format!("refit: training anew on training and validation items, {steps} steps"));
            }
            News::Tested(test) => self.line(&show::test(test, &self.data)),
            News::Recovered(recovery) => self.line(&format!(
                "intentions against planted categories, {} training items of the {}: NMI {:.3}, shuffled {:.3}",
                recovery.tokens, self.data, recovery.nmi, recovery.nmi_shuffled
            )),
        }
    }

    fn stop(&mut self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Seconds as people say them.
fn time(seconds: f64) -> String {
    let s = seconds as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}
