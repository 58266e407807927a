//! The loop: going on equals not stopping, a seed decides everything, early stopping, refit, what is recorded.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use prismrec::checkpoint::Checkpoint;
use prismrec::data::generate::Generator;
use prismrec::data::pack::Packer;
use prismrec::data::sample::{Sampler, SamplerState};
use prismrec::data::split::Part;
use prismrec::engine::cpu::CpuEngine;
use prismrec::engine::{Ceilings, Description, Engine, PendingRead, Span};
use prismrec::error::{Error, Result};
use prismrec::evaluate::Protocol;
use prismrec::kernels::storage::ItemStorage;
use prismrec::kernels::{BufferId, Call, Region};
use prismrec::model::{ITEM_TABLE, Model, Variant, initial_parameters};
use prismrec::run::Run;
use prismrec::settings::{Every, Settings};
use prismrec::train::{Dataset, Ended, News, Observer, Ready};
use serde_json::Value;

fn tiny() -> Dataset {
    Dataset::planted(Generator { users: 60, items: 50, categories: 4 }.generate(3))
}

/// Three epochs of a small model.
fn settings() -> Settings {
    Settings { dim: 8, length: 8, intentions: 3, blocks: 1, batch: 32, dropout: 0.3, epochs: 3, ..Settings::default() }
}

/// Stops a run after so many steps.
struct StopAfter(u64);

impl Observer for StopAfter {
    fn tell(&mut self, news: News<'_>) {
        if let News::Step(_) = news {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn stop(&mut self) -> bool {
        self.0 == 0
    }
}

const NEVER: u64 = u64::MAX;

fn cpu(settings: &Settings) -> Box<dyn Engine> {
    Box::new(CpuEngine::new(settings.threads).unwrap())
}

/// Begins a run and stops it after `steps` steps.
fn begin(folder: &Path, settings: &Settings, data: &Dataset, steps: u64) -> Result<Ended> {
    let run = Run::create(Some(folder), settings)?;
    Ready::new(settings, data, cpu(settings))?.train(&run, None, &mut StopAfter(steps))
}

/// Goes on with a run and stops it after `steps` more steps.
fn go_on(folder: &Path, settings: &Settings, data: &Dataset, steps: u64) -> Result<Ended> {
    let run = Run::open(folder)?;
    let resume = Some(Checkpoint::load_resumable(&run.last())?);
    Ready::new(settings, data, cpu(settings))?.train(&run, resume, &mut StopAfter(steps))
}

/// The lines of `metrics.jsonl`.
fn lines(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Lines without what a clock decides, or what else the process has done: its peak memory.
fn timeless(folder: &Path) -> Vec<Value> {
    let mut lines = lines(folder);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("seconds");
        line.remove("examples_per_second");
        line.remove("peak_memory_bytes");
    }
    lines
}

fn events<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

fn steps_of_an_epoch(folder: &Path, settings: &Settings) -> u64 {
    let examples = lines(folder)[0]["examples"].as_u64().unwrap();
    examples.div_ceil(settings.batch as u64)
}

/// Both folders hold the same run, bit for bit.
fn assert_same(a: &Path, b: &Path, what: &str) {
    for name in ["best.safetensors", "last.safetensors", "refit.safetensors", "settings.toml"] {
        let [a, b] = [a, b].map(|folder| fs::read(folder.join(name)).ok());
        assert!(a == b, "{what}: {name} differs");
    }
    let (a, b) = (timeless(a), timeless(b));
    assert_eq!(a.len(), b.len(), "{what}: other lines");
    for (number, (a, b)) in (1..).zip(a.iter().zip(&b)) {
        assert!(a == b, "{what}: line {number} differs\n{a}\n{b}");
    }
}

/// Stops `settings`' run at steps of all kinds, and goes on.
fn assert_resumes(settings: &Settings) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let data = tiny();
    let whole = at("whole");
    assert!(matches!(begin(&whole, settings, &data, NEVER).unwrap(), Ended::Finished { .. }));
    let epoch = steps_of_an_epoch(&whole, settings);
    assert!(epoch > 5, "{epoch}");
    // Before the first step, inside an epoch, at its end, just after it, inside the second.
    for stop in [0, 1, 5, epoch, epoch + 1, 2 * epoch - 1] {
        let stopped = at(&format!("stopped at {stop}"));
        let ended = begin(&stopped, settings, &data, stop).unwrap();
        assert!(matches!(ended, Ended::Stopped { step } if step == stop), "{ended:?}");
        go_on(&stopped, settings, &data, NEVER).unwrap();
        assert_same(&whole, &stopped, &format!("stopped at step {stop} of {epoch} an epoch"));
    }
    let often = at("stopped often");
    begin(&often, settings, &data, 2).unwrap();
    while let Ended::Stopped { .. } = go_on(&often, settings, &data, 4).unwrap() {}
    assert_same(&whole, &often, "stopped every four steps");
    // What is finished stays as it is.
    go_on(&often, settings, &data, NEVER).unwrap();
    assert_same(&whole, &often, "gone on with after the end");
}

/// Stops a run in the first evaluation of a part that takes more than one block.
struct StopInEvaluation {
    of: Part,
    stop: bool,
}

impl Observer for StopInEvaluation {
    fn tell(&mut self, news: News<'_>) {
        if let News::Evaluating { part, done, users, .. } = news {
            self.stop |= part == self.of && done < users;
        }
    }

    fn stop(&mut self) -> bool {
        self.stop
    }
}

#[test]
fn an_evaluation_that_is_stopped_is_done_by_going_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = tiny();
    for (every, eval_every) in [("epochs", Every::Epochs(1)), ("steps", Every::Steps(20))] {
        // 16 users at a time.
        let settings = Settings { batch: 8, epochs: 2, eval_every, ..settings() };
        let whole = folder.path().join(every);
        begin(&whole, &settings, &data, NEVER).unwrap();
        for of in [Part::Validation, Part::Test] {
            let what = format!("{every}, stopped in {of:?}");
            let stopped = folder.path().join(&what);
            let run = Run::create(Some(&stopped), &settings).unwrap();
            let mut observer = StopInEvaluation { of, stop: false };
            let ended = Ready::new(&settings, &data, cpu(&settings)).unwrap().train(&run, None, &mut observer).unwrap();
            assert!(matches!(ended, Ended::Stopped { .. }), "{ended:?}");
            assert!(events(&lines(&stopped), "test").is_empty());
            go_on(&stopped, &settings, &data, NEVER).unwrap();
            assert_same(&whole, &stopped, &what);
        }
    }
}

#[test]
fn going_on_equals_not_stopping() {
    assert_resumes(&settings());
}

#[test]
fn going_on_equals_not_stopping_with_item_rows_of_16_bits() {
    assert_resumes(&Settings { item_storage: ItemStorage::Bf16, dim: 7, eval_every: Every::Steps(4), ..settings() });
}

#[test]
fn going_on_equals_not_stopping_with_validation_by_steps_and_refit() {
    assert_resumes(&Settings { eval_every: Every::Steps(4), refit: true, epochs: 2, noise: 0.3, ..settings() });
}

#[test]
fn going_on_equals_not_stopping_with_a_seq2seq_loss_that_joins_later() {
    assert_resumes(&Settings { seq2seq_from: Every::Epochs(2), refit: true, epochs: 3, ..settings() });
    assert_resumes(&Settings { seq2seq_from: Every::Steps(4), temperature: 0.5, epochs: 2, ..settings() });
}

#[test]
fn until_the_seq2seq_loss_joins_a_run_is_one_of_seq2item_alone() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, settings: Settings| {
        let folder = folder.path().join(name);
        begin(&folder, &settings, &tiny(), NEVER).unwrap();
        let parameters = Checkpoint::load(&folder.join("last.safetensors")).unwrap().parameters;
        let losses = |name: &str| -> Vec<f64> {
            events(&lines(&folder), "epoch").iter().map(|line| line[name].as_f64().unwrap()).collect()
        };
        (parameters, losses("loss_s2i"), losses("loss_s2s"), losses("loss_s2s_all"))
    };
    let alone = run("alone", Settings { variant: Variant::SequenceToItem, epochs: 1, ..settings() });
    let later = Settings { seq2seq_from: Every::Epochs(2), ..settings() };
    assert!(alone == run("first epoch", Settings { epochs: 1, ..later.clone() }), "not the bits of seq2item alone");
    let later = run("later", later);
    assert_eq!(later.1[0], alone.1[0]);
    assert!(later.2[0] == 0.0 && later.2[1..].iter().all(|&loss| loss > 0.0), "{:?}", later.2);
    assert!(later.3[0] == 0.0 && later.3[1..].iter().all(|&loss| loss > 0.0), "{:?}", later.3);
    // The same by the number of the step.
    let epoch = steps_of_an_epoch(&folder.path().join("later"), &settings());
    let by_step = run("by step", Settings { seq2seq_from: Every::Steps(epoch + 1), ..settings() });
    assert!(by_step == later, "other bits by the number of the step");
    let one_later = run("one step later", Settings { seq2seq_from: Every::Steps(epoch + 2), ..settings() });
    assert!(one_later != later, "a step more of seq2item alone made no difference");
}

/// Scores divided by T are scores of outputs divided by T, where the other side stays as it is.
#[test]
fn temperature_divides_the_scores_of_both_losses() {
    let data = tiny();
    let step = |variant: Variant, lambda: f64, temperature: f64, divide_outputs_by: f32| {
        let settings = Settings { variant, lambda, temperature, dropout: 0.0, ..settings() };
        let shape = settings.shape(data.split.counts().items);
        let mut model = Model::new(cpu(&settings), shape, settings.hyper()).unwrap();
        let mut parameters = initial_parameters(shape, Some(0.3), 1);
        for name in ["intention.output_norm.weight", "intention.output_norm.bias"] {
            parameters.get_mut(name).unwrap().data.iter_mut().for_each(|value| *value /= divide_outputs_by);
        }
        model.set_parameters(&parameters).unwrap();
        let mut sampler = Sampler::new(data.split.clone(), 32, 1, SamplerState::default()).unwrap();
        let labels = settings.hyper().with_labels();
        let mut packer = Packer::new(data.split.clone(), 8, settings.position_from, 1, labels);
        let batch = packer.pack(sampler.next_batch());
        model.step(&batch).unwrap();
        let losses = model.take_losses(true).unwrap()[0];
        (losses.seq2item, losses.seq2seq_all, model.gradients(&batch).unwrap().remove(ITEM_TABLE).unwrap().data)
    };
    let close = |a: f32, b: f32| (a - b).abs() <= 1e-5 * a.abs().max(1e-2);
    for temperature in [0.25, 3.0] {
        let cold = step(Variant::SequenceToItem, 0.5, temperature, 1.0);
        let divided = step(Variant::SequenceToItem, 0.5, 1.0, temperature as f32);
        assert!(close(cold.0, divided.0), "{} and {}", cold.0, divided.0);
        assert!(cold.2.iter().zip(&divided.2).all(|(&a, &b)| close(a, b)), "gradients at temperature {temperature}");
        assert!(!close(cold.0, step(Variant::SequenceToItem, 0.5, 1.0, 1.0).0));
        // Both sides of seq2seq are outputs.
        let cold = step(Variant::Full, 1.0, temperature, 1.0);
        let divided = step(Variant::Full, 1.0, 1.0, temperature.sqrt() as f32);
        assert!(close(cold.1, divided.1), "{} and {}", cold.1, divided.1);
    }
}

/// Rows of items that have not occurred for hundreds of steps are behind those that have.
#[test]
fn going_on_equals_not_stopping_where_items_rest_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::planted(Generator { users: 60, items: 500, categories: 4 }.generate(3));
    let settings = Settings { batch: 1, epochs: 2, lr: 1e-2, ..settings() };
    let [whole, stopped] = ["whole", "stopped"].map(|name| folder.path().join(name));
    begin(&whole, &settings, &data, NEVER).unwrap();
    let epoch = steps_of_an_epoch(&whole, &settings);
    assert!(epoch > 500, "{epoch}");
    begin(&stopped, &settings, &data, epoch - 100).unwrap();
    go_on(&stopped, &settings, &data, 400).unwrap();
    go_on(&stopped, &settings, &data, NEVER).unwrap();
    assert_same(&whole, &stopped, "stopped while rows were behind");
}

/// A file may have been written after the state that is gone on from: a program that was killed.
#[test]
fn going_on_forgets_what_was_recorded_later() {
    let folder = tempfile::tempdir().unwrap();
    let (data, settings) = (tiny(), settings());
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    begin(&whole, &settings, &data, NEVER).unwrap();
    begin(&killed, &settings, &data, 7).unwrap();
    let last = fs::read(killed.join("last.safetensors")).unwrap();
    go_on(&killed, &settings, &data, steps_of_an_epoch(&whole, &settings)).unwrap();
    assert_eq!(lines(&killed).len(), 2, "the first epoch was not recorded");
    fs::write(killed.join("last.safetensors"), last).unwrap();
    go_on(&killed, &settings, &data, NEVER).unwrap();
    assert_same(&whole, &killed, "gone on with from an older state");
}

#[test]
fn the_seed_decides_everything() {
    let folder = tempfile::tempdir().unwrap();
    let data = tiny();
    let run = |name: &str, settings: Settings| {
        let folder = folder.path().join(name);
        begin(&folder, &settings, &data, NEVER).unwrap();
        let parameters = Checkpoint::load(&folder.join("last.safetensors")).unwrap().parameters;
        (parameters, timeless(&folder).split_off(1))
    };
    let one = run("1 thread", Settings { threads: 1, ..settings() });
    assert!(one == run("1 thread, again", Settings { threads: 1, ..settings() }), "the same seed gave other bits");
    assert!(one == run("2 threads", Settings { threads: 2, ..settings() }), "two threads gave other bits than one");
    let other = run("another seed", Settings { threads: 1, seed: 2, ..settings() });
    assert!(one.0 != other.0 && one.1 != other.1, "another seed gave the same");
}

#[test]
fn stops_early_and_tests_the_best_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Steps too small to change any rank: the first validation stays the best.
    let settings = Settings { lr: 1e-9, epochs: 50, patience: 2, ..settings() };
    let ended = begin(&run, &settings, &tiny(), NEVER).unwrap();
    let Ended::Finished { tests, best } = ended else { panic!("{ended:?}") };
    assert_eq!((tests.len(), best.epoch), (1, 1));
    let lines = lines(&run);
    assert_eq!(events(&lines, "epoch").len(), 3);
    assert_eq!(events(&lines, "test")[0]["epoch"], 1);
    assert_eq!(Checkpoint::load(&run.join("best.safetensors")).unwrap().epoch, 1);
    assert_eq!(Checkpoint::load(&run.join("last.safetensors")).unwrap().epoch, 3);
}

#[test]
fn either_protocol_may_choose_the_epoch_and_the_test_may_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = tiny();
    for choose_by in [Protocol::Sampled, Protocol::Full] {
        let run = Run::create(Some(&folder.path().join(format!("{choose_by:?}"))), &settings()).unwrap();
        let settings = Settings { choose_by, lr: 0.02, epochs: 12, patience: 0, ..settings() };
        let ready = Ready::new(&settings, &data, cpu(&settings)).unwrap().without_test();
        let ended = ready.train(&run, None, &mut StopAfter(NEVER)).unwrap();
        let Ended::Finished { tests, best } = ended else { panic!("{ended:?}") };
        assert!(tests.is_empty());
        let lines = lines(run.folder());
        assert!(events(&lines, "test").is_empty());
        let protocol = if choose_by == Protocol::Full { "full" } else { "sampled" };
        let scores: Vec<f64> =
            events(&lines, "epoch").iter().map(|line| line["valid"][protocol]["ndcg@10"].as_f64().unwrap()).collect();
        let most = scores.iter().copied().fold(0.0, f64::max);
        assert_eq!((best.score, scores[best.epoch as usize - 1]), (most, most), "{protocol}");
    }
}

#[test]
fn tests_the_best_parameters_not_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let data = tiny();
    let settings = Settings { lr: 0.02, epochs: 1000, patience: 3, ..settings() };
    let ended = begin(&run, &settings, &data, NEVER).unwrap();
    let Ended::Finished { tests, best } = ended else { panic!("{ended:?}") };
    let evaluated = |name: &str| {
        let checkpoint = Checkpoint::load(&run.join(name)).unwrap();
        let shape = settings.shape(checkpoint.items.len());
        let mut model = Model::new(cpu(&settings), shape, settings.hyper()).unwrap();
        checkpoint.give_to(&mut model).unwrap();
        let evaluator = data.evaluator(&settings, Part::Test, Protocol::Full).unwrap();
        (checkpoint.epoch, evaluator.run(&mut model, &mut |_| true).unwrap())
    };
    assert_eq!(evaluated("best.safetensors"), (best.epoch, tests[0].figures.full.clone()));
    // Patience ran out, so it is not the last.
    let (epoch, last) = evaluated("last.safetensors");
    assert_eq!(epoch, best.epoch + 3);
    assert_ne!(last, tests[0].figures.full);
}

#[test]
fn learns_and_records_what_others_rely_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let settings = Settings { epochs: 12, dropout: 0.1, lr: 5e-3, ..settings() };
    begin(&run, &settings, &tiny(), NEVER).unwrap();
    let lines = lines(&run);
    let start = &lines[0];
    for key in ["users", "items", "interactions", "examples", "parameters", "threads"] {
        assert!(start[key].is_u64(), "start has no {key}: {start}");
    }
    assert_eq!(
        (&start["event"], &start["engine"], &start["settings"]["dim"]),
        (&"start".into(), &"cpu".into(), &8.into())
    );
    let epochs = events(&lines, "epoch");
    for (epoch, number) in epochs.iter().zip(1..) {
        assert_eq!(epoch["epoch"], number);
        for key in ["seconds", "examples_per_second", "loss_s2i", "loss_s2s", "loss_s2s_all", "loss_total"] {
            assert!(epoch[key].as_f64().is_some_and(|value| value > 0.0), "epoch has no {key}: {epoch}");
        }
        for metric in ["recall@1", "recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr", "auc"] {
            for protocol in ["sampled", "full"] {
                assert!(epoch["valid"][protocol][metric].is_f64(), "no {metric} of {protocol}: {epoch}");
            }
        }
    }
    let loss = |line: &Value| line["loss_total"].as_f64().unwrap();
    assert!(loss(epochs[11]) < 0.9 * loss(epochs[0]), "{} after {}", loss(epochs[11]), loss(epochs[0]));
    let best = |line: &&Value| line["valid"]["sampled"]["ndcg@10"].as_f64().unwrap();
    let (first, most) = (best(&epochs[0]), epochs.iter().map(best).fold(0.0, f64::max));
    assert!(most > 1.5 * first, "validation never got better: {first} to {most}");
    let test = events(&lines, "test")[0];
    let chosen = test["epoch"].as_u64().unwrap() as usize;
    assert_eq!(best(&epochs[chosen - 1]), most, "tested epoch {chosen}");
    assert!(test["sampled"]["ndcg@10"].is_f64() && test["full"]["ndcg@100"].is_f64(), "{test}");
    assert_eq!(events(&lines, "intentions").len(), 1);
}

#[test]
fn validates_by_steps_and_ends_inside_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let settings = Settings { eval_every: Every::Steps(3), steps: 7, ..settings() };
    begin(&run, &settings, &tiny(), NEVER).unwrap();
    let lines = lines(&run);
    let at: Vec<_> = events(&lines, "validation").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(at, [3, 6]);
    let epochs = events(&lines, "epoch");
    assert_eq!(epochs.len(), 1);
    assert_eq!(epochs[0]["step"], 7);
    assert!(epochs[0]["valid"].is_object(), "the last step was not validated: {}", epochs[0]);
}

#[test]
fn refit_trains_on_validation_items_for_as_many_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, refit) = (folder.path().join("plain"), folder.path().join("refit"));
    let (data, settings) = (tiny(), settings());
    begin(&plain, &settings, &data, NEVER).unwrap();
    let ended = begin(&refit, &Settings { refit: true, ..settings.clone() }, &data, NEVER).unwrap();
    let Ended::Finished { tests, best } = ended else { panic!("{ended:?}") };
    assert_eq!(tests.iter().map(|test| test.refit).collect::<Vec<_>>(), [false, true]);
    let lines = lines(&refit);
    // What comes before is not touched by it.
    let before: Vec<_> = timeless(&refit).into_iter().skip(1).take(timeless(&plain).len() - 1).collect();
    assert_eq!(before, timeless(&plain)[1..]);
    assert_eq!(events(&lines, "refit_epoch").len() as u64, best.epoch);
    assert_eq!(events(&lines, "refit_test")[0]["epoch"], best.epoch);
    // One more example of every user that has two items left besides the test item.
    let users = data.split.counts().users as u64;
    let examples = lines[0]["examples"].as_u64().unwrap() + users;
    let checkpoint = Checkpoint::load(&refit.join("refit.safetensors")).unwrap();
    assert!(checkpoint.refit && checkpoint.resume.is_none());
    // One validation item a user more than before.
    let sum = |checkpoint: &Checkpoint| checkpoint.occurrences.as_ref().unwrap().iter().sum::<u32>() as usize;
    let best = Checkpoint::load(&refit.join("best.safetensors")).unwrap();
    assert_eq!(sum(&checkpoint), sum(&best) + data.split.evaluated_users(Part::Validation, None, 0).len());
    assert_eq!(checkpoint.step, best.epoch * examples.div_ceil(settings.batch as u64));
}

#[test]
fn noise_spoils_what_is_learnt_and_not_what_is_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::planted(Generator { users: 400, items: 60, categories: 4 }.generate(3));
    let best = |noise: f64| {
        let run = folder.path().join(format!("noise {noise}"));
        let settings = Settings { noise, lr: 5e-3, epochs: 6, ..settings() };
        let Ended::Finished { tests, .. } = begin(&run, &settings, &data, NEVER).unwrap() else { panic!("stopped") };
        assert_eq!(Checkpoint::load(&run.join("best.safetensors")).unwrap().settings.noise, noise);
        // The data's record is that of the data that were observed.
        assert_eq!(Checkpoint::load(&run.join("best.safetensors")).unwrap().data, data.record());
        tests[0].figures.full.metrics["ndcg@10"]
    };
    let (clean, some, all) = (best(0.0), best(0.3), best(1.0));
    // Chance is 0.084 with 54 competitors, give or take 0.012 with 400 users.
    assert!(clean > 1.5 * some && some > 1.2 * all && all < 0.12, "{clean}, {some}, {all}");
}

#[test]
fn refuses_to_go_on_with_other_data() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    begin(&run, &settings(), &tiny(), 2).unwrap();
    let other = Dataset::planted(Generator { users: 60, items: 50, categories: 4 }.generate(4));
    let error = go_on(&run, &settings(), &other, NEVER).unwrap_err();
    assert!(error.to_string().contains("not the data that the run began with"), "{error}");
}

#[test]
fn a_run_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    begin(&run, &settings(), &tiny(), 1).unwrap();
    let before = fs::read(run.join("last.safetensors")).unwrap();
    let error = begin(&run, &settings(), &tiny(), NEVER).unwrap_err();
    assert!(error.to_string().contains("--resume"), "{error}");
    assert_eq!(before, fs::read(run.join("last.safetensors")).unwrap());
}

/// A CPU engine whose device fails after so many steps; `dead` devices then refuse to be read, too.
struct Failing {
    engine: CpuEngine,
    steps_left: u64,
    dead: bool,
    failed: Rc<Cell<bool>>,
}

impl Failing {
    fn check(&self) -> Result<()> {
        if self.dead && self.failed.get() { Err(Error::Device("the device is lost".into())) } else { Ok(()) }
    }
}

impl Engine for Failing {
    fn describe(&self) -> Description {
        self.engine.describe()
    }
    fn allocate(&mut self, name: &str, len: usize) -> Result<BufferId> {
        self.engine.allocate(name, len)
    }
    fn longest_buffer(&self) -> usize {
        self.engine.longest_buffer()
    }
    fn allocated_bytes(&self) -> usize {
        self.engine.allocated_bytes()
    }
    fn write(&mut self, region: Region, elements: &[u32]) -> Result<()> {
        self.engine.write(region, elements)
    }
    fn run(&mut self, label: &str, calls: &[Call]) -> Result<()> {
        self.check()?;
        if label.starts_with("step") {
            if self.steps_left == 0 {
                self.failed.set(true);
                return Err(Error::Device("out of memory".into()));
            }
            self.steps_left -= 1;
        }
        self.engine.run(label, calls)
    }
    fn read(&mut self, region: Region) -> Result<Vec<u32>> {
        self.check()?;
        self.engine.read(region)
    }
    fn read_later(&mut self, region: Region) -> Result<PendingRead> {
        self.check()?;
        self.engine.read_later(region)
    }
    fn profile(&mut self, on: bool) -> Result<Vec<Span>> {
        self.engine.profile(on)
    }
    fn ceilings(&mut self) -> Result<Ceilings> {
        self.engine.ceilings()
    }
    fn collect(&mut self, pending: &PendingRead, wait: bool) -> Result<Option<Vec<u32>>> {
        self.engine.collect(pending, wait)
    }
}

#[test]
fn a_failed_device_leaves_a_run_to_go_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (data, settings) = (tiny(), settings());
    let whole = folder.path().join("whole");
    begin(&whole, &settings, &data, NEVER).unwrap();
    let epoch = steps_of_an_epoch(&whole, &settings);
    for (name, dead, saved) in [("one that can be read", false, epoch + 3), ("a dead one", true, epoch)] {
        let failed = folder.path().join(name);
        let engine = Failing {
            engine: CpuEngine::new(settings.threads).unwrap(),
            steps_left: epoch + 3,
            dead,
            failed: Rc::default(),
        };
        let run = Run::create(Some(&failed), &settings).unwrap();
        let ready = Ready::new(&settings, &data, Box::new(engine)).unwrap();
        let error = ready.train(&run, None, &mut StopAfter(NEVER)).unwrap_err().to_string();
        assert!(error.contains("out of memory") && error.contains("--resume"), "{error}");
        assert_eq!(Checkpoint::load(&run.last()).unwrap().step, saved, "{name}");
        go_on(&failed, &settings, &data, NEVER).unwrap();
        assert_same(&whole, &failed, name);
    }
}
