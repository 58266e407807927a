//! Evaluation on cases computed by hand, and the comparison of intentions with categories.

mod small;

use std::sync::Arc;

use prismrec::data::batch::PositionFrom;
use prismrec::data::generate::Generator;
use prismrec::data::read::{Counts, Interactions};
use prismrec::data::split::{Part, Split, Training};
use prismrec::error::Error;
use prismrec::evaluate::{Evaluation, Evaluator, Options, Protocol, Rank, metrics, rank};
use prismrec::intentions::{normalised_mutual_information, recovery};
use prismrec::model::{ITEM_TABLE, Model, Prior, Shape, Tensors};

use small::small;

fn model(shape: Shape, change: impl FnOnce(&mut Tensors)) -> Model {
    small::model(shape, 2, change)
}

/// All users at once.
fn fixed_scores(scores: &[f32]) -> Model {
    small::fixed_scores(scores, 2)
}

fn options(exclude_known: bool) -> Options {
    Options { position_from: PositionFrom::End, exclude_known, users: None, seed: 1, prior: Prior::default() }
}

fn evaluate(model: &mut Model, split: &Arc<Split>, part: Part, protocol: Protocol, options: Options) -> Evaluation {
    let evaluator = Evaluator::new(split.clone(), part, protocol, options).unwrap();
    let mut done = Vec::new();
    let evaluation = evaluator.run(model, &mut |users| {
        done.push(users);
        true
    });
    let evaluation = evaluation.unwrap();
    assert!(done.is_sorted());
    assert_eq!(done.last(), Some(&evaluator.users()));
    evaluation
}

fn near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-12, "{got} instead of {expected}");
}

#[test]
fn ties_and_scores_that_are_not_finite_count_against_the_truth() {
    assert_eq!(rank(1.0, &[0.5, 1.0, 2.0, -1.0]), 2);
    assert_eq!(rank(1.0, &[0.5, f32::NAN, f32::NEG_INFINITY, f32::INFINITY]), 3);
    assert_eq!(rank(1.0, &[]), 0);
    for truth in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(rank(truth, &[0.0, 1.0, -1.0]), 3);
    }
}

#[test]
fn metrics_of_a_few_ranks() {
    let ranks = [0, 2, 7, 30].map(|rank| Rank { rank, competitors: 40 });
    let sampled = metrics(&ranks, Protocol::Sampled);
    let names: Vec<&str> = sampled.keys().map(String::as_str).collect();
    assert_eq!(names, ["recall@1", "recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr", "auc"]);
    near(sampled["recall@1"], 0.25);
    near(sampled["recall@5"], 0.5);
    near(sampled["recall@10"], 0.75);
    // Places 1, 3 and 8: 1 / log2(2), 1 / log2(4), 1 / log2(9).
    near(sampled["ndcg@5"], (1.0 + 0.5) / 4.0);
    near(sampled["ndcg@10"], (1.0 + 0.5 + 1.0 / 9_f64.log2()) / 4.0);
    near(sampled["mrr"], (1.0 + 1.0 / 3.0 + 1.0 / 8.0 + 1.0 / 31.0) / 4.0);
    near(sampled["auc"], 1.0 - (2.0 + 7.0 + 30.0) / 40.0 / 4.0);
    let full = metrics(&ranks, Protocol::Full);
    near(full["recall@20"], 0.75);
    near(full["recall@100"], 1.0);
    near(full["ndcg@100"], (1.0 + 0.5 + 1.0 / 9_f64.log2() + 0.2) / 4.0);
}

#[test]
fn full_ranks_by_hand() {
    // Scores fall from item 5 to item 0, and items 2 and 3 are tied.
    let mut model = fixed_scores(&[1.0, 2.0, 3.0, 3.0, 4.0, 5.0]);
    let counts = Counts { users: 4, items: 6, interactions: 14 };
    // Truths 2, 5 and 4; ahead of them 5 4 3, none and 5.
    let all = evaluate(&mut model, &small(), Part::Test, Protocol::Full, options(false));
    assert_eq!((all.users, all.competitors, all.counts), (3, 5, counts));
    assert_eq!((all.part, all.protocol), (Part::Test, Protocol::Full));
    near(all.metrics["mrr"], (1.0 / 4.0 + 1.0 + 1.0 / 2.0) / 3.0);
    near(all.metrics["auc"], 1.0 - (3.0 / 5.0 + 0.0 + 1.0 / 5.0) / 3.0);
    near(all.metrics["recall@1"], 1.0 / 3.0);
    // Known are 5 4 1; 0 (5 is the truth itself); 3 0 (4 is the truth itself): ahead are 3, none and 5.
    let unknown = evaluate(&mut model, &small(), Part::Test, Protocol::Full, options(true));
    assert_eq!(unknown.competitors, 2);
    near(unknown.metrics["mrr"], (1.0 / 2.0 + 1.0 + 1.0 / 2.0) / 3.0);
    near(unknown.metrics["auc"], 1.0 - (1.0 / 2.0 + 0.0 + 1.0 / 3.0) / 3.0);
    // Validation: truths 1, 5 and 0; ahead of them 5 4 3 2, none, and all of 5 4 3 2 1.
    let valid = evaluate(&mut model, &small(), Part::Validation, Protocol::Full, options(false));
    near(valid.metrics["mrr"], (1.0 / 5.0 + 1.0 + 1.0 / 6.0) / 3.0);
}

#[test]
fn sampled_ranks_by_hand() {
    // Fewer than a hundred negatives exist, so that all are drawn: a never met 0 3, b 1 2 3 4, d 1 2 5.
    let mut model = fixed_scores(&[1.0, 2.0, 3.0, 3.0, 4.0, 5.0]);
    let test = evaluate(&mut model, &small(), Part::Test, Protocol::Sampled, options(false));
    assert_eq!(test.competitors, 2);
    // Ahead of 2, 5 and 4: the tie 3, none, 5.
    near(test.metrics["mrr"], (1.0 / 2.0 + 1.0 + 1.0 / 2.0) / 3.0);
    near(test.metrics["auc"], 1.0 - (1.0 / 2.0 + 0.0 + 1.0 / 3.0) / 3.0);
    let mut broken = fixed_scores(&[1.0, 2.0, 3.0, f32::NAN, 4.0, 5.0]);
    let test = evaluate(&mut broken, &small(), Part::Test, Protocol::Sampled, options(false));
    // Now 3 is ahead of 2 and of 5, and d's history has it, so that no score of d's is a number.
    near(test.metrics["mrr"], (1.0 / 2.0 + 1.0 / 2.0 + 1.0 / 4.0) / 3.0);
}

#[test]
fn popularity_is_worse_than_chance_against_popular_negatives() {
    // Many more items than negatives: otherwise drawing without replacement soon runs out of popular ones.
    let generator = Generator { items: 20_000, ..Generator::default() };
    let split = Arc::new(Split::new(generator.generate(1).interactions, Training::Apart));
    let popularity: Vec<f32> = split.frequency().iter().map(|&n| n as f32).collect();
    let mut model = fixed_scores(&popularity);
    let sampled = evaluate(&mut model, &split, Part::Test, Protocol::Sampled, options(false));
    assert_eq!(sampled.competitors, 100);
    // The truth is drawn like the negatives, but loses ties; the standard error of the mean is 0.005.
    let auc = sampled.metrics["auc"];
    assert!((0.4..0.5).contains(&auc), "{auc}");
    // Against the whole catalogue it is better than chance.
    let full = evaluate(&mut model, &split, Part::Test, Protocol::Full, options(false));
    assert!(full.metrics["auc"] > 0.55, "{}", full.metrics["auc"]);
}

#[test]
fn a_prior_is_added_to_scores() {
    let (scores, occurrences) = ([1.0, 2.0, 3.0, 3.0, 4.0, 5.0], [7, 1, 0, 0, 30, 2]);
    let prior = Prior { popularity: -1.5, cold_bonus: 0.75 };
    // A logit of 1 is a score of sqrt(2), as D is 2.
    let added = occurrences.map(|n| if n == 0 { 0.75 } else { -1.5 * f64::from(n + 1).ln() });
    let together: Vec<f32> = scores.iter().zip(added).map(|(a, b)| a + (2_f64.sqrt() * b) as f32).collect();
    let (mut model, mut expected) = (fixed_scores(&scores), fixed_scores(&together));
    for protocol in [Protocol::Sampled, Protocol::Full] {
        let with = |prior| Evaluator::new(small(), Part::Test, protocol, Options { prior, ..options(true) }).unwrap();
        let (plain, adding) = (with(Prior::default()), with(prior));
        let ranks = |evaluator: &Evaluator, model: &mut Model| evaluator.ranks(model, &mut |_| true).unwrap();
        let before = ranks(&plain, &mut model);
        model.set_occurrences(occurrences.to_vec()).unwrap();
        assert_eq!(ranks(&adding, &mut model), ranks(&plain, &mut expected), "{protocol:?}");
        assert_ne!(ranks(&adding, &mut model), before, "{protocol:?}");
        assert_eq!(ranks(&plain, &mut model), before, "{protocol:?}");
        assert_eq!(adding.summary(&before).prior, prior);
        let lists = |evaluator: &Evaluator, model: &mut Model| evaluator.lists(model, 3, &mut |_| true).unwrap();
        assert_eq!(lists(&adding, &mut model), lists(&plain, &mut expected));
        let unknown = adding.ranks(&mut fixed_scores(&scores), &mut |_| true);
        let Err(Error::Data(reason)) = unknown else { panic!("{unknown:?}") };
        assert!(reason.ends_with("occur in training, which the model was not told"), "{reason}");
    }
    assert!(model.set_occurrences(vec![1; 5]).is_err(), "occurrences of too few items");
}

#[test]
fn an_evaluation_stops_when_it_is_told_to() {
    let evaluator = Evaluator::new(small(), Part::Test, Protocol::Full, options(false)).unwrap();
    // A block has four users at most, and there are three: the first block is the last.
    let scores = [1.0, 2.0, 3.0, 3.0, 4.0, 5.0];
    assert!(evaluator.run(&mut fixed_scores(&scores), &mut |_| false).is_ok());
    let split = Arc::new(Split::new(
        Generator { users: 40, items: 6, categories: 2 }.generate(1).interactions,
        Training::Apart,
    ));
    let evaluator = Evaluator::new(split.clone(), Part::Test, Protocol::Full, options(false)).unwrap();
    let mut told = Vec::new();
    let error = evaluator.run(&mut fixed_scores(&scores[..split.counts().items]), &mut |users| {
        told.push(users);
        told.len() < 3
    });
    assert!(matches!(error, Err(Error::Interrupted)), "{error:?}");
    assert_eq!(told, [4, 8, 12]);
}

#[test]
fn data_that_do_not_fit_are_refused() {
    let evaluator = Evaluator::new(small(), Part::Test, Protocol::Full, options(false)).unwrap();
    let error = evaluator.run(&mut fixed_scores(&[1.0, 2.0]), &mut |_| true).unwrap_err().to_string();
    assert!(error.contains("the model has 2 items and the data 6"), "{error}");
    let short = Interactions {
        users: vec!["a".into()],
        items: vec!["0".into(), "1".into()],
        offsets: vec![0, 2],
        clicks: vec![0, 1],
    };
    let short = Arc::new(Split::new(short, Training::Apart));
    let error = Evaluator::new(short, Part::Test, Protocol::Full, options(false)).unwrap_err().to_string();
    assert!(error.contains("no user can be evaluated"), "{error}");
}

#[test]
fn an_evaluation_as_json() {
    let mut model = fixed_scores(&[1.0, 2.0, 3.0, 3.0, 4.0, 5.0]);
    let evaluation = evaluate(&mut model, &small(), Part::Validation, Protocol::Sampled, options(false));
    let json = serde_json::to_string(&evaluation).unwrap();
    let start = r#"{"protocol":"sampled","part":"validation","users":3,"competitors":2,"counts":{"users":4,"items":6,"#;
    assert!(json.starts_with(start), "{json}");
    assert!(json.contains(r#""metrics":{"recall@1":"#), "{json}");
}

#[test]
fn mutual_information_of_small_tables() {
    near(normalised_mutual_information(&[3, 0, 0, 0, 0, 5, 0, 2, 0], 3), 1.0);
    near(normalised_mutual_information(&[2, 4, 1, 2], 2), 0.0);
    near(normalised_mutual_information(&[2, 0, 4, 0], 2), 0.0);
    // Joint 3/8 1/8 / 1/8 3/8, both margins even: I = 1 - H(1/4) = 0.75 log2(3) - 1 bits, of 1 bit.
    near(normalised_mutual_information(&[3, 1, 1, 3], 2), 0.75 * 3_f64.log2() - 1.0);
    // Two rows of one bit against three columns of 1.5 bits: I = 1 bit.
    near(normalised_mutual_information(&[2, 0, 0, 0, 1, 1], 3), 2.0 / 2.5);
}

#[test]
fn intentions_that_are_the_categories_are_recovered() {
    let generator = Generator { users: 200, items: 120, categories: 3 };
    let planted = generator.generate(5);
    let split = Split::new(planted.interactions, Training::Apart);
    let shape = Shape { items: 120, dim: 4, intentions: 3, length: 5, blocks: 1 };
    // Neither positions nor attention nor feed-forward add to the items' rows, which are their category's prototype.
    let mut model = model(shape, |parameters| {
        let row = |category: u32| (0..4).map(move |d| f32::from(u8::from(category == d)));
        for name in
            ["position_embedding.weight", "blocks.0.attention.value.weight", "blocks.0.feed_forward.outer.weight"]
        {
            parameters.get_mut(name).unwrap().data.fill(0.0);
        }
        parameters.get_mut(ITEM_TABLE).unwrap().data = planted.categories.iter().flat_map(|&c| row(c)).collect();
        parameters.get_mut("intention.prototypes").unwrap().data = (0..3).flat_map(row).collect();
    });
    let found = recovery(&mut model, &split, &planted.categories, PositionFrom::End, 1).unwrap();
    let tokens: usize = (0..200).map(|user| split.training(user).len().min(5)).sum();
    assert_eq!(found.tokens, tokens);
    near(found.nmi, 1.0);
    assert!(found.nmi_shuffled < 0.1, "{}", found.nmi_shuffled);
}
