//! Training: the loop over epochs, validation, early stopping, and the checkpoints to go on from.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

mod dataset;
mod news;
mod progress;

pub use dataset::{Dataset, Loaded, load};
pub use news::{Epoch, Figures, News, Observer, Start, Step, Test};
pub use progress::{Best, Losses, Phase, Progress, Sums};

use crate::checkpoint::{Checkpoint, DataRecord, Resume};
use crate::data::pack::Packer;
use crate::data::prefetch::Prefetch;
use crate::data::sample::Sampler;
use crate::data::split::{Part, Training};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::{Evaluator, Protocol};
use crate::intentions::recovery;
use crate::kernels::activations::Activations;
use crate::model::{AdamState, Model, Tensors, initial_parameters, parameter_shapes};
use crate::profile::Profiler;
use crate::run::Run;
use crate::settings::{Every, Settings};
use crate::tensorboard::EventFile;

/// Batches that are packed ahead of the step.
const AHEAD: usize = 4;

/// A run that has all it needs but a folder: settings and data fit each other, and the engine holds the model.
pub struct Ready<'a> {
    settings: &'a Settings,
    data: &'a Dataset,
    model: Model,
    validation: [Evaluator; 2],
    profiler: Option<Profiler>,
    events: Option<EventFile>,
    tested: bool,
}

impl<'a> Ready<'a> {
    /// # Errors
    /// Where settings and data do not fit each other, or the engine does not hold the model.
    pub fn new(settings: &'a Settings, data: &'a Dataset, engine: Box<dyn Engine>) -> Result<Self> {
        sampler(settings, data, &Progress::default())?;
        let validation = evaluators(settings, data, Part::Validation)?;
        let model = Model::new(engine, settings.shape(data.split.counts().items), settings.hyper())?;
        Ok(Ready { settings, data, model, validation, profiler: None, events: None, tested: true })
    }

    /// Profiles some of the run's steps and tells of it ([`News::Profiled`]).
    pub fn profile(self, profiler: Profiler) -> Self {
        Ready { profiler: Some(profiler), ..self }
    }

    /// Writes what is recorded, and losses between, to this file too.
    pub fn events(self, events: EventFile) -> Self {
        Ready { events: Some(events), ..self }
    }

    /// Ends the run once its epoch is chosen: nothing is tested, nothing refitted.
    pub fn without_test(self) -> Self {
        Ready { tested: false, ..self }
    }

    /// Trains, validates, tests; from the beginning, or from where a checkpoint was saved. Going on ends with the bits
    /// that not stopping would have.
    ///
    /// # Errors
    /// Where the checkpoint is of other data, a file cannot be written, or the device fails: then what was trained since
    /// the last save is saved first, if the device still gives it.
    pub fn train(self, run: &Run, resume: Option<(Checkpoint, Resume)>, observer: &mut dyn Observer) -> Result<Ended> {
        let mut trainer = Trainer::new(self, run, resume, observer)?;
        trainer.run().or_else(|error| match error {
            Error::Device(reason) => Err(Error::Device(trainer.rescue(&reason))),
            // An evaluation was stopped; what it is of was saved before, and going on begins with it.
            Error::Interrupted => Ok(Ended::Stopped { step: trainer.progress.step }),
            error => Err(error),
        })
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// With these tests: that of the chosen epoch (but where a refit was gone on with), that of the refit.
    Finished { tests: Vec<Test>, best: Best },
    /// As the observer wanted, after this step; `last.safetensors` is there to go on from.
    Stopped { step: u64 },
}

struct Trainer<'a> {
    settings: &'a Settings,
    data: &'a Dataset,
    run: &'a Run,
    observer: &'a mut dyn Observer,
    model: Model,
    record: DataRecord,
    validation: [Evaluator; 2],
    progress: Progress,
    /// Batches of an epoch in this phase, and the thread that packs them.
    batches: u64,
    prefetch: Prefetch,
    profiler: Option<Profiler>,
    events: Option<EventFile>,
    /// The last step whose losses have been read.
    losses_read: u64,
    /// Whether the chosen epoch is tested.
    tested: bool,
    /// When training time last began to run.
    clock: Option<Instant>,
    /// Whether the model is what `progress` says: not while other parameters are tested.
    current: bool,
}

impl<'a> Trainer<'a> {
    fn new(
        ready: Ready<'a>,
        run: &'a Run,
        resume: Option<(Checkpoint, Resume)>,
        observer: &'a mut dyn Observer,
    ) -> Result<Self> {
        let Ready { settings, data, mut model, validation, profiler, events, tested } = ready;
        let (record, shape) = (data.record(), model.shape());
        let fresh = resume.is_none();
        let progress = match resume {
            None => {
                model.set_parameters(&initial_parameters(shape, settings.item_deviation.normal(), settings.seed))?;
                Progress::default()
            }
            Some((checkpoint, Resume { adam, progress })) => {
                data.check(&checkpoint.data)?;
                model.set_state(&checkpoint.parameters, &adam)?;
                run.keep_lines(progress.lines)?;
                progress
            }
        };
        let sampler = sampler(settings, data, &progress)?;
        model.set_occurrences(sampler.split().occurrences())?;
        let start = Start {
            data: data.name.clone(),
            counts: record.counts,
            source: data.source.clone(),
            dropped: data.dropped,
            by_time: data.split.is_by_time(),
            kept_out: data.split.users_kept_out(),
            validation_users: validation[0].users(),
            examples: sampler.examples(),
            parameters: parameter_shapes(shape).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum(),
            bytes: model.allocated_bytes(),
            engine: model.describe(),
            step: progress.step,
        };
        observer.tell(News::Started(&start));
        let batches = sampler.batches();
        let prefetch = prefetch(settings, sampler)?;
        let mut trainer = Trainer {
            settings,
            data,
            run,
            observer,
            model,
            record,
            validation,
            losses_read: progress.step,
            progress,
            batches,
            prefetch,
            profiler,
            events,
            tested,
            clock: None,
            current: true,
        };
        if fresh {
            trainer.write(start.line(settings))?;
            trainer.save_last()?;
        }
        Ok(trainer)
    }

    fn run(&mut self) -> Result<Ended> {
        let mut tests = Vec::new();
        if self.progress.phase == Phase::Choose {
            if !self.learn()? {
                return Ok(Ended::Stopped { step: self.progress.step });
            }
            if !self.tested {
                return Ok(Ended::Finished { tests, best: self.best()? });
            }
            tests.push(self.test_best()?);
            if self.settings.refit {
                self.begin_refit()?;
            }
        }
        if self.progress.phase != Phase::Choose {
            if !self.learn()? {
                return Ok(Ended::Stopped { step: self.progress.step });
            }
            let parameters = self.model.parameters()?;
            self.checkpoint(true, parameters, None).save(&self.run.refit())?;
            tests.push(self.test(true, self.progress.epoch())?);
        }
        Ok(Ended::Finished { tests, best: self.best()? })
    }

    /// Steps until the phase is done (true) or the observer stops it (false, with everything saved).
    fn learn(&mut self) -> Result<bool> {
        loop {
            let Progress { step, recorded, recorded_step, sampler, .. } = self.progress;
            let done = self.done();
            if u64::from(sampler.epoch) > recorded || done && step > recorded_step {
                self.close_epoch()?;
            } else if self.validation_due() {
                self.pause()?;
                self.save_last()?;
                let (figures, epoch) = (self.validate()?, self.progress.epoch());
                self.write(news::validation_line(epoch, step, &figures))?;
                self.observer.tell(News::Validated { epoch, step, figures: &figures });
                self.save_last()?;
            } else if done {
                self.profile(true)?;
                return Ok(true);
            } else if self.observer.stop() {
                self.profile(true)?;
                self.save_last()?;
                return Ok(false);
            } else {
                self.step()?;
            }
        }
    }

    fn step(&mut self) -> Result<()> {
        let prepared = self.prefetch.next_batch()?;
        self.clock.get_or_insert_with(Instant::now);
        self.model.step(&prepared.batch)?;
        self.progress.step += 1;
        self.progress.sampler = prepared.after;
        self.profile(false)?;
        self.take_losses(false)?;
        self.tell_step();
        Ok(())
    }

    /// Hands the profiler this step, or the end of all steps.
    fn profile(&mut self, end: bool) -> Result<()> {
        let Some(profiler) = &mut self.profiler else { return Ok(()) };
        let profile = if end { Some(profiler.finish(&mut self.model)?) } else { profiler.stepped(&mut self.model)? };
        if let Some(profile) = profile {
            self.profiler = None;
            self.observer.tell(News::Profiled(&profile));
        }
        Ok(())
    }

    fn tell_step(&mut self) {
        let Progress { step, sampler, sums, seconds, recorded, .. } = &self.progress;
        // Steps may be finished later than they are told of.
        let seconds = seconds + self.clock.map_or(0.0, |began| began.elapsed().as_secs_f64());
        let batch = if u64::from(sampler.epoch) > *recorded { self.batches } else { sampler.batch };
        let each = seconds / batch.max(1) as f64;
        let left = [self.batches - batch, self.limit().saturating_sub(*step)].map(|steps| steps as f64 * each);
        self.observer.tell(News::Step(Step {
            epoch: recorded + 1,
            batch,
            batches: self.batches,
            losses: (sums.examples > 0).then(|| sums.means()),
            examples_per_second: batch as f64 * self.settings.batch as f64 / seconds,
            left,
        }));
    }

    /// The most steps of this phase.
    fn limit(&self) -> u64 {
        match self.progress.phase {
            Phase::Refit { steps } => steps,
            Phase::Choose => {
                let epochs = self.settings.epochs.saturating_mul(self.batches);
                if self.settings.steps == 0 { epochs } else { epochs.min(self.settings.steps) }
            }
        }
    }

    fn done(&self) -> bool {
        let Progress { phase, step, stale, .. } = self.progress;
        let patience = self.settings.patience;
        step >= self.limit() || phase == Phase::Choose && patience > 0 && stale >= patience
    }

    fn validation_due(&self) -> bool {
        let Progress { phase, step, sampler, validated, .. } = self.progress;
        let reached = match self.settings.eval_every {
            Every::Epochs(n) => sampler.batch == 0 && u64::from(sampler.epoch).is_multiple_of(n),
            Every::Steps(n) => step.is_multiple_of(n),
        };
        phase == Phase::Choose && step > validated && (reached || step >= self.limit())
    }

    /// Validates where it is due, and records the epoch; or what there is of it where the steps have come to an end.
    fn close_epoch(&mut self) -> Result<()> {
        self.pause()?;
        if self.done() {
            self.profile(true)?;
        }
        let valid = if self.validation_due() {
            // An evaluation takes long: whoever stops it, or ends the program meanwhile, loses nothing.
            self.save_last()?;
            Some(self.validate()?)
        } else {
            None
        };
        let Progress { phase, step, sums, seconds, stale, .. } = self.progress;
        let epoch = Epoch {
            phase,
            epoch: self.progress.epoch(),
            step,
            seconds,
            examples_per_second: if seconds > 0.0 { sums.examples as f64 / seconds } else { 0.0 },
            losses: sums.means(),
            valid,
            stale,
        };
        self.progress.sums = Sums::default();
        self.progress.seconds = 0.0;
        self.progress.recorded = u64::from(self.progress.sampler.epoch);
        self.progress.recorded_step = step;
        self.write(epoch.line())?;
        self.observer.tell(News::Epoch(&epoch));
        self.save_last()
    }

    /// Of the step whose losses were read last.
    fn diverged(&self) -> Error {
        let more = match self.settings.activations {
            Activations::F32 => "",
            Activations::F16 => ", or --activations f32: f16 has no numbers beyond 65,504",
        };
        let step = self.losses_read;
        Error::Setting(format!("the loss of step {step} is not a number: training diverged; take a smaller --lr{more}"))
    }

    /// Adds up the losses of steps that are done; of all steps where it is to wait.
    fn take_losses(&mut self, wait: bool) -> Result<()> {
        let mut recent = Sums::default();
        for losses in self.model.take_losses(wait)? {
            self.progress.sums.add(&losses);
            recent.add(&losses);
            self.losses_read += 1;
            if !(losses.seq2item + losses.seq2seq).is_finite() {
                return Err(self.diverged());
            }
        }
        if let Some(events) = &mut self.events {
            let Losses { seq2item, seq2seq, .. } = recent.means();
            let group = if self.progress.phase == Phase::Choose { "step" } else { "refit_step" };
            let parts = [("s2i", seq2item, recent.examples), ("s2s", seq2seq, recent.selected)];
            let parts = parts.iter().filter(|(_, _, n)| *n > 0);
            let scalars = parts.map(|(part, mean, _)| (format!("{group}/loss_{part}"), *mean)).collect();
            events.scalars(scalars, self.losses_read)?;
        }
        Ok(())
    }

    /// Waits for all steps and stops the clock.
    fn pause(&mut self) -> Result<()> {
        self.take_losses(true)?;
        if let Some(began) = self.clock.take() {
            self.progress.seconds += began.elapsed().as_secs_f64();
        }
        Ok(())
    }

    fn validate(&mut self) -> Result<Figures> {
        self.pause()?;
        let figures = figures(&self.validation, Part::Validation, &mut self.model, self.observer)?;
        let score = figures.score(self.settings.choose_by);
        if self.progress.judge(score) {
            let parameters = self.model.parameters()?;
            self.checkpoint(false, parameters, None).save(&self.run.best())?;
        }
        Ok(figures)
    }

    fn best(&self) -> Result<Best> {
        self.progress.best.ok_or_else(|| Error::Data("the run ended before its first validation".into()))
    }

    /// Tests the best epoch's parameters.
    fn test_best(&mut self) -> Result<Test> {
        let best = self.best()?;
        self.current = false;
        self.model.set_parameters(&Checkpoint::load(&self.run.best())?.parameters)?;
        let test = self.test(false, best.epoch)?;
        if let Some(categories) = &self.data.categories {
            let Settings { position_from, data_seed, .. } = *self.settings;
            let recovery = recovery(&mut self.model, &self.data.split, categories, position_from, data_seed)?;
            self.write(news::recovery_line(&recovery))?;
            self.observer.tell(News::Recovered(recovery));
        }
        Ok(test)
    }

    fn test(&mut self, refit: bool, epoch: u64) -> Result<Test> {
        let evaluators = evaluators(self.settings, self.data, Part::Test)?;
        let figures = figures(&evaluators, Part::Test, &mut self.model, self.observer)?;
        let test = Test { refit, epoch, figures };
        self.write(test.line())?;
        self.observer.tell(News::Tested(&test));
        Ok(test)
    }

    /// Begins anew, on training and validation items, for as many epochs as the best had.
    fn begin_refit(&mut self) -> Result<()> {
        let best = self.best()?;
        let mut progress = Progress { best: Some(best), lines: self.progress.lines, ..Progress::default() };
        progress.phase = Phase::Refit { steps: 0 };
        let sampler = sampler(self.settings, self.data, &progress)?;
        // To the nearest step, where the best was not at an epoch's end.
        let steps = (best.step * sampler.batches() + self.batches / 2) / self.batches;
        progress.phase = Phase::Refit { steps };
        self.batches = sampler.batches();
        self.model.set_occurrences(sampler.split().occurrences())?;
        self.prefetch = prefetch(self.settings, sampler)?;
        self.progress = progress;
        self.losses_read = 0;
        let parameters =
            initial_parameters(self.model.shape(), self.settings.item_deviation.normal(), self.settings.seed);
        let mut zeros: Tensors = parameters.clone();
        zeros.values_mut().for_each(|tensor| tensor.data.fill(0.0));
        let updated = vec![0; self.model.shape().items];
        let adam = AdamState { step: 0, updated, first_moment: zeros.clone(), second_moment: zeros };
        self.model.set_state(&parameters, &adam)?;
        self.current = true;
        self.observer.tell(News::Refitting { steps });
        self.save_last()
    }

    fn checkpoint(&self, refit: bool, parameters: Tensors, resume: Option<Resume>) -> Checkpoint {
        Checkpoint {
            settings: self.settings.clone(),
            data: self.record.clone(),
            items: self.data.split.interactions().items.clone(),
            occurrences: Some(self.model.occurrences().to_vec()),
            epoch: self.progress.epoch(),
            step: self.progress.step,
            refit,
            parameters,
            resume,
        }
    }

    fn save_last(&mut self) -> Result<()> {
        self.pause()?;
        let (parameters, adam) = self.model.state()?;
        let resume = Resume { adam, progress: self.progress.clone() };
        let refit = self.progress.phase != Phase::Choose;
        self.checkpoint(refit, parameters, Some(resume)).save(&self.run.last())
    }

    fn write(&mut self, line: Value) -> Result<()> {
        self.run.record(&line)?;
        if let Some(events) = &mut self.events {
            events.record(&line, self.progress.step)?;
        }
        self.progress.lines += 1;
        Ok(())
    }

    /// Saves what a failed device still gives; what to say of that.
    fn rescue(&mut self, reason: &str) -> String {
        let last = self.run.last();
        // A step that failed half way is not one to go on from.
        let whole = self.current && self.model.steps() == self.progress.step;
        let saved = if whole && self.save_last().is_ok() {
            format!("everything up to step {} is saved in {}", self.progress.step, last.display())
        } else {
            format!("{} is as it was last saved", last.display())
        };
        format!("{reason}; {saved}; go on with: prismrec train --resume {}", self.run.folder().display())
    }
}

/// Both protocols' evaluators, `sampled` first.
fn evaluators(settings: &Settings, data: &Dataset, part: Part) -> Result<[Evaluator; 2]> {
    Ok([data.evaluator(settings, part, Protocol::Sampled)?, data.evaluator(settings, part, Protocol::Full)?])
}

fn figures(evaluators: &[Evaluator; 2], part: Part, model: &mut Model, observer: &mut dyn Observer) -> Result<Figures> {
    let [sampled, full] = evaluators;
    let mut run = |evaluator: &Evaluator, protocol| {
        let users = evaluator.users();
        evaluator.run(model, &mut |done| {
            observer.tell(News::Evaluating { part, protocol, done, users });
            !observer.stop()
        })
    };
    Ok(Figures { sampled: run(sampled, Protocol::Sampled)?, full: run(full, Protocol::Full)? })
}

/// Draws the examples of the phase: of the items that it trains on, with the settings' noise.
fn sampler(settings: &Settings, data: &Dataset, progress: &Progress) -> Result<Sampler> {
    let Settings { batch, noise, seed, .. } = *settings;
    let split = match progress.phase {
        Phase::Choose if noise == 0.0 => data.split.clone(),
        Phase::Choose => Arc::new(data.split.trained_on(Training::Apart, noise, seed)),
        Phase::Refit { .. } => Arc::new(data.split.trained_on(Training::WithValidation, noise, seed)),
    };
    Sampler::new(split, batch, seed, progress.sampler)
}

fn prefetch(settings: &Settings, sampler: Sampler) -> Result<Prefetch> {
    let Settings { length, position_from, variant, .. } = *settings;
    let labels_from = match settings.seq2seq_from {
        Every::Epochs(epoch) => (epoch - 1).saturating_mul(sampler.batches()) + 1,
        Every::Steps(step) => step,
    };
    let split = sampler.split().clone();
    let packer = Packer::new(split, length, position_from, variant.targets(length), settings.hyper().with_labels());
    Prefetch::start(sampler, packer.labels_from(labels_from), AHEAD)
}
