//! Both engines against golden values that an independent PyTorch implementation computed in f64 (`tests/reference`):
//! activations, losses, gradients, three Adam steps. Further folders of such fixtures may be given, separated by `:`, in
//! `PRISMREC_FIXTURES`.

mod fixture;

use std::path::PathBuf;

use fixture::Fixture;
use prismrec::engine::cpu::CpuEngine;
use prismrec::engine::{self, Checks, Engine, EngineChoice, EngineRequest};
use prismrec::kernels::storage::ItemStorage;
use prismrec::kernels::{adam, adam_catch_up, adam_rows};
use prismrec::model::{Hyper, Model, Shape};

/// Every fixture of a model: the file's path without its ending.
fn fixtures() -> Vec<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let further = std::env::var_os("PRISMREC_FIXTURES").unwrap_or_default();
    let mut found = Vec::new();
    for folder in std::iter::once(own).chain(std::env::split_paths(&further).filter(|p| !p.as_os_str().is_empty())) {
        let before = found.len();
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "safetensors") && path.file_stem().unwrap() != "adam" {
                found.push(path.with_extension(""));
            }
        }
        assert!(found.len() > before, "{} has no fixtures", folder.display());
    }
    found.sort();
    found
}

fn check_all(engine: &str, open: &dyn Fn() -> Box<dyn Engine>) {
    let mut wrong = Vec::new();
    for path in fixtures() {
        let fixture = Fixture::load(&path);
        let at = format!("{engine}, {}", path.file_name().unwrap().display());
        if fixture.config.lambda == 0.0 {
            // Nothing to select: as it trains, and with the labels encoded all the same.
            check(&fixture, open(), 0.0, &at, &mut wrong);
            check(&fixture, open(), 1e-12, &at, &mut wrong);
        } else {
            check(&fixture, open(), fixture.config.lambda, &at, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{} of the values differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn check(fixture: &Fixture, engine: Box<dyn Engine>, lambda: f64, at: &str, wrong: &mut Vec<String>) {
    let config = &fixture.config;
    let shape = Shape {
        items: config.items,
        dim: config.dim,
        intentions: config.intentions,
        length: config.length,
        blocks: config.blocks,
    };
    let hyper = Hyper {
        variant: config.variant,
        position_from: config.position_from,
        batch: config.batch,
        dropout: 0.0,
        lambda,
        l2: config.l2,
        temperature: 1.0,
        learning_rate: fixture.adam.lr,
        item_storage: ItemStorage::F32,
        seed: 0,
    };
    let labelled = hyper.with_labels();
    let mut compare =
        |name: &str, got: &[f32]| wrong.extend(fixture.difference(name, got).map(|d| format!("{at}: {d}")));
    let mut model = Model::new(engine, shape, hyper).unwrap();
    model.set_parameters(&fixture.parameters("param.")).unwrap();

    // Evaluation first: it must not disturb training.
    let inputs = fixture.inputs();
    let candidates: Vec<u32> = (0..config.batch).flat_map(|_| 0..config.items as u32).collect();
    compare("scores", &model.candidate_scores(&inputs, &candidates).unwrap().0);
    compare("p_cluster.input", &model.clusters(&inputs).unwrap());

    let batch = fixture.batch(labelled);
    model.step(&batch).unwrap();
    let mut buffer = |name: &str| -> Vec<f32> {
        model
            .buffer(name)
            .unwrap()
            .unwrap_or_else(|| panic!("no buffer {name}"))
            .into_iter()
            .map(f32::from_bits)
            .collect()
    };
    let (z, phi) = (buffer("z"), buffer("phi"));
    let (cluster, weight) = (buffer("cluster"), buffer("weight"));
    let (item_loss, pair_loss, tau) = (buffer("item_loss"), buffer("pair_loss"), buffer("tau"));
    let tokens = inputs.tokens();
    let rows = config.batch * config.intentions;
    compare("z.input", &z[..tokens * config.dim]);
    compare("p_cluster.input", &cluster[..tokens * config.intentions]);
    compare("p_weight.input", &weight[..tokens]);
    compare("phi.input", &phi[..rows * config.dim]);
    compare("loss.s2i", &item_loss[..config.batch]);
    if labelled {
        compare("z.label", &z[tokens * config.dim..batch.sequences.tokens() * config.dim]);
        compare("phi.label", &phi[rows * config.dim..2 * rows * config.dim]);
        compare("loss.s2s", &pair_loss[..rows]);
        compare("tau", &tau[..1]);
    }
    let losses = model.take_losses(true).unwrap();
    assert_eq!(losses.len(), 1);
    assert_eq!(losses[0].selected, fixture.selected, "{at}: selected pairs");
    let decay = config.l2 * fixture.squares(&batch.rows);
    compare("loss.total", &[(f64::from(losses[0].seq2item) + f64::from(losses[0].seq2seq) + decay) as f32]);
    for (name, gradient) in model.gradients(&batch).unwrap() {
        compare(&format!("grad.{name}"), &gradient.data);
    }

    for _ in 1..fixture.adam.steps {
        model.step(&batch).unwrap();
    }
    for (name, parameter) in model.parameters().unwrap() {
        if !fixture.zero_gradient.contains(&name) {
            compare(&format!("adam3.{name}"), &parameter.data);
        }
    }
}

#[test]
fn the_cpu_engine_agrees_with_pytorch() {
    check_all("cpu", &|| Box::new(CpuEngine::new(0).unwrap()));
}

#[test]
fn the_gpu_engine_agrees_with_pytorch() {
    let adapters = engine::adapters();
    assert!(
        !adapters.is_empty(),
        "no Vulkan, Metal or Direct3D 12 adapter: this test needs one. On Debian or Ubuntu `apt-get install \
         mesa-vulkan-drivers` installs one that computes on the CPU"
    );
    for adapter in adapters {
        for checks in [Checks::Checked, Checks::Unchecked] {
            let name = adapter.name.clone();
            let at = format!("{name} {checks:?}");
            let request =
                EngineRequest { choice: EngineChoice::Gpu, adapter: Some(name), checks, ..EngineRequest::default() };
            check_all(&at, &|| engine::open(&request).unwrap());
        }
    }
}

/// Adam alone, dense, on given gradients; and by rows, where those without a gradient are brought up to date later.
#[test]
fn adam_agrees_with_pytorch() {
    let fixture = Fixture::load(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adam"));
    let (rows, dim) = (fixture.shape("param.0")[0], fixture.shape("param.0")[1]);
    let rates = adam_catch_up::rates(fixture.adam.lr, fixture.adam.steps);
    let mut dense = [fixture.values("param.0"), vec![0.0; rows * dim], vec![0.0; rows * dim]];
    let mut lazy = dense.clone();
    let mut updated = vec![0; rows];
    // Values computed in f64 and stored as f32, against f32 throughout: a few units in the last place a step.
    let near = |name: &str, got: &[f32]| {
        for (i, (got, want)) in got.iter().zip(fixture.values(name)).enumerate() {
            assert!((got - want).abs() <= 4e-6 * want.abs().max(1e-3), "{name}[{i}]: {got} instead of {want}");
        }
    };
    for step in 1..=fixture.adam.steps as u32 {
        let gradient = fixture.values(&format!("grad.{step}"));
        let (rate, correction) = adam::rates(fixture.adam.lr, step.into());
        let (rate, correction) = (rate as f32, correction as f32);
        let [h, m, v] = &mut dense;
        let elements = (rows * dim) as u32;
        adam::twin(&adam::Params { elements, slices: 1, stride: elements, rate, correction }, &gradient, h, m, v);
        near(&format!("param.{step}"), &dense[0]);

        let with_gradient = |row: &u32| gradient[*row as usize * dim..][..dim].iter().any(|g| *g != 0.0);
        let touched: Vec<u32> = (0..rows as u32).filter(with_gradient).collect();
        let compact: Vec<f32> =
            touched.iter().flat_map(|row| &gradient[*row as usize * dim..][..dim]).copied().collect();
        let [h, m, v] = &mut lazy;
        let (rows, dim, plane) = (touched.len() as u32, dim as u32, compact.len() as u32);
        let steps = fixture.adam.steps as u32;
        let catch_up = adam_catch_up::Params { first: 0, rows, dim, base: 0, plane, step: step - 1, steps, packed: 0 };
        let mut working = vec![f32::NAN; 3 * compact.len()];
        adam_catch_up::twin(&catch_up, &touched, &rates, &updated, h, m, v, &mut working);
        let params = adam_rows::Params {
            first: 0,
            rows,
            dim,
            base: 0,
            plane,
            step,
            update: 1,
            rate,
            correction,
            packed: 0,
            key: 0,
        };
        adam_rows::twin(&params, &touched, &compact, &working, h, m, v, &mut updated);
    }
    let all: Vec<u32> = (0..rows as u32).collect();
    let steps = fixture.adam.steps as u32;
    let [h, m, v] = &lazy;
    let plane = (rows * dim) as u32;
    let (rows, dim) = (rows as u32, dim as u32);
    let catch_up = adam_catch_up::Params { first: 0, rows, dim, base: 0, plane, step: steps, steps, packed: 0 };
    let mut working = vec![f32::NAN; 3 * plane as usize];
    adam_catch_up::twin(&catch_up, &all, &rates, &updated, h, m, v, &mut working);
    assert!(updated.iter().any(|&step| step < steps), "every row had a gradient in the last step");
    let lazy: Vec<_> = working.chunks_exact(plane as usize).map(<[f32]>::to_vec).collect();
    for [h, m, v] in [&dense, &lazy.try_into().unwrap()] {
        near(&format!("param.{steps}"), h);
        near(&format!("first_moment.{steps}"), m);
        near(&format!("second_moment.{steps}"), v);
    }
}
