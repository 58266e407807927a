//! Users and items few enough for evaluations by hand, and models that score them so.

use std::sync::Arc;

use prismrec::data::batch::PositionFrom;
use prismrec::data::read::Interactions;
use prismrec::data::split::{Split, Training};
use prismrec::engine::cpu::CpuEngine;
use prismrec::kernels::storage::ItemStorage;
use prismrec::model::{Hyper, ITEM_TABLE, Model, Shape, Tensors, Variant, initial_parameters};

/// Users a: 5 4 1 2, b: 0 5 5, c: 1 2 (too short to be evaluated), d: 3 4 3 0 4; items 0 to 5.
pub fn small() -> Arc<Split> {
    let interactions = Interactions {
        users: ["a", "b", "c", "d"].map(String::from).to_vec(),
        items: ["0", "1", "2", "3", "4", "5"].map(String::from).to_vec(),
        offsets: vec![0, 4, 7, 9, 14],
        clicks: vec![5, 4, 1, 2, 0, 5, 5, 1, 2, 3, 4, 3, 0, 4],
    };
    Arc::new(Split::new(interactions, Training::Apart))
}

/// A model of some shape on the CPU, with its initial parameters changed; evaluations take twice `batch` users at a time.
pub fn model(shape: Shape, batch: usize, change: impl FnOnce(&mut Tensors)) -> Model {
    let hyper = Hyper {
        variant: Variant::Full,
        position_from: PositionFrom::End,
        batch,
        dropout: 0.0,
        lambda: 0.5,
        l2: 0.0,
        temperature: 1.0,
        learning_rate: 1e-3,
        item_storage: ItemStorage::F32,
        seed: 1,
    };
    let mut model = Model::new(Box::new(CpuEngine::new(2).unwrap()), shape, hyper).unwrap();
    let mut parameters = initial_parameters(shape, None, 1);
    change(&mut parameters);
    model.set_parameters(&parameters).unwrap();
    model
}

/// A model that gives every item the same score whatever the history: phi is (1, 0), and h the (score, 0) of the item.
pub fn fixed_scores(scores: &[f32], batch: usize) -> Model {
    let shape = Shape { items: scores.len(), dim: 2, intentions: 1, length: 3, blocks: 1 };
    model(shape, batch, |parameters| {
        let mut set = |name: &str, data: Vec<f32>| parameters.get_mut(name).unwrap().data = data;
        set("intention.output_norm.weight", vec![0.0; 2]);
        set("intention.output_norm.bias", vec![1.0, 0.0]);
        set(ITEM_TABLE, scores.iter().flat_map(|&score| [score, 0.0]).collect());
    })
}
