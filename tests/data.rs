//! Reading, splitting, sampling, packing and generating, on cases computed by hand.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use prismrec::data::batch::{Packed, PositionFrom, Segments};
use prismrec::data::generate::Generator;
use prismrec::data::negatives::Negatives;
use prismrec::data::pack::{Packer, pack_sequences};
use prismrec::data::prefetch::Prefetch;
use prismrec::data::read::{Counts, Interactions, read};
use prismrec::data::sample::{Sampler, SamplerState};
use prismrec::data::split::{Part, Split, Training};
use prismrec::error::{Error, Result};
use tempfile::TempDir;

/// Reads `content` from a file `clicks`.
fn read_text(content: impl AsRef<[u8]>) -> Result<Interactions> {
    let (_folder, path) = file(content);
    read(&path)
}

fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clicks");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn strings(of: &[&str]) -> Vec<String> {
    of.iter().map(|&id| id.to_owned()).collect()
}

/// Users with the given sequences; items are numbered up to the largest.
fn interactions(sequences: &[&[u32]]) -> Interactions {
    let items = sequences.concat().iter().max().map_or(0, |&last| last + 1);
    let mut offsets = vec![0];
    offsets.extend(sequences.iter().scan(0, |sum, sequence| {
        *sum += sequence.len();
        Some(*sum)
    }));
    Interactions {
        users: (0..sequences.len()).map(|user| format!("u{user}")).collect(),
        items: (0..items).map(|item| format!("i{item}")).collect(),
        offsets,
        clicks: sequences.concat(),
    }
}

fn split(sequences: &[&[u32]]) -> Arc<Split> {
    Arc::new(Split::new(interactions(sequences), Training::Apart))
}

#[test]
fn pairs_may_be_interleaved_and_keep_their_order() {
    let read = read_text("b x\na y\nb z\na x\nb x\n").unwrap();
    assert_eq!(read.users, strings(&["b", "a"]));
    assert_eq!(read.items, strings(&["x", "y", "z"]));
    assert_eq!(read.offsets, [0, 3, 5]);
    assert_eq!(read.clicks, [0, 2, 0, 1, 0]);
    assert_eq!(read.counts(), Counts { users: 2, items: 3, interactions: 5 });
}

#[test]
fn sequences_may_have_one_item() {
    let read = read_text("1 10 11 10\n2 11\n3 12 10").unwrap();
    assert_eq!(read.users, strings(&["1", "2", "3"]));
    assert_eq!(read.items, strings(&["10", "11", "12"]));
    assert_eq!(read.offsets, [0, 3, 4, 6]);
    assert_eq!(read.clicks, [0, 1, 0, 1, 2, 0]);
}

#[test]
fn spaces_tabs_blank_lines_line_ends_and_gzip_make_no_difference() {
    let plain = read_text("über x\nüber 007\nb 7\n").unwrap();
    assert_eq!(plain.users, strings(&["über", "b"]));
    assert_eq!(plain.items, strings(&["x", "007", "7"]));
    assert_eq!(read_text("\u{feff}über\tx\r\n\r\n  über   007 \r\nb\t7").unwrap(), plain);
    // Two members, as `cat a.gz b.gz` gives.
    let zipped = ["über x\nüb", "er 007\nb 7\n"].map(|text| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    });
    assert_eq!(read_text(zipped.concat()).unwrap(), plain);
}

#[test]
fn bad_lines_are_named() {
    let cases: [(&[u8], u64, &str); 6] = [
        (b"1 2\n\n1\n", 3, "found one field, `1`, expected `user item` or"),
        (b"1,2\n", 1, "replace `,`"),
        (b"1::1193::5\n", 1, "found 3 fields with `::` between"),
        (b"1 2\n1 \xff\n", 2, "not UTF-8"),
        // A table with more columns, and one broken line among pairs.
        (b"user item rating\n1 7 5\n1 8 3\n", 3, "line 1 has 3 fields"),
        (b"1 7\n1 8\n1 9 9\n", 3, "line 3 has 3 fields"),
    ];
    for (content, at, expected) in cases {
        match read_text(content) {
            Err(Error::Line { line, reason, path }) => {
                assert_eq!(line, at, "{reason}");
                assert!(reason.contains(expected), "{reason}");
                assert!(path.ends_with("clicks"));
            }
            other => panic!("{other:?} instead of an error: {expected}"),
        }
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    for empty in ["", "\n \n"] {
        let error = read_text(empty).unwrap_err().to_string();
        assert!(error.contains("clicks: no interactions"), "{error}");
    }
    let error = read(std::path::Path::new("no/such/file")).unwrap_err().to_string();
    assert_eq!(error, "no/such/file: cannot open");
    let mut cut = GzEncoder::new(Vec::new(), Compression::default());
    cut.write_all(b"1 2\n").unwrap();
    let mut cut = cut.finish().unwrap();
    cut.truncate(cut.len() - 6);
    assert!(matches!(read_text(cut), Err(Error::File { action: "read", .. })));
}

#[test]
fn items_take_the_numbers_of_a_catalogue() {
    let read = read_text("1 a\n1 b\n1 a\n").unwrap();
    let renumbered = read.clone().renumbered(&strings(&["c", "b", "a"])).unwrap();
    assert_eq!(renumbered.clicks, [2, 1, 2]);
    assert_eq!(renumbered.items.len(), 3);
    let error = read.renumbered(&strings(&["a", "c"])).unwrap_err().to_string();
    assert!(error.contains("item `b`"), "{error}");
}

#[test]
fn the_last_two_items_are_held_out() {
    let all = interactions(&[&[5, 6, 7, 8], &[1, 2], &[3, 4, 5], &[9]]);
    let split = Split::new(all.clone(), Training::Apart);
    assert_eq!((split.training(0), split.training(2)), (&[5, 6][..], &[3][..]));
    assert_eq!((split.history(0, Part::Validation), split.truth(0, Part::Validation)), (&[5, 6][..], 7));
    assert_eq!((split.history(0, Part::Test), split.truth(0, Part::Test)), (&[5, 6, 7][..], 8));
    assert_eq!((split.history(2, Part::Validation), split.truth(2, Part::Validation)), (&[3][..], 4));
    // Nothing of a short sequence is held out.
    assert_eq!((split.training(1), split.training(3)), (&[1, 2][..], &[9][..]));
    assert_eq!(split.users_kept_out(), 2);
    assert_eq!(split.evaluated_users(Part::Test, None, 1), [0, 2]);

    let refit = Split::new(all, Training::WithValidation);
    assert_eq!((refit.training(0), refit.training(1), refit.training(2)), (&[5, 6, 7][..], &[1, 2][..], &[3, 4][..]));
    assert_eq!((refit.history(0, Part::Test), refit.truth(0, Part::Test)), (&[5, 6, 7][..], 8));
}

#[test]
fn noise_replaces_its_share_of_what_trains_and_nothing_else() {
    let clean = Split::new(Generator::default().generate(5).interactions, Training::Apart);
    let (users, items) = (clean.counts().users as u32, clean.counts().items as u32);
    let clicks = |split: &Split| -> Vec<u32> { (0..users).flat_map(|user| split.training(user).to_vec()).collect() };
    let all = clicks(&clean);
    let differing = |split: &Split| -> Vec<usize> {
        clicks(split).iter().zip(&all).enumerate().filter(|(_, (a, b))| a != b).map(|(place, _)| place).collect()
    };
    let mut noise_before = Vec::new();
    for share in [0.0, 0.1, 0.5, 1.0] {
        let noisy = clean.trained_on(Training::Apart, share, 3);
        let (places, now) = (differing(&noisy), clicks(&noisy));
        // One in 240 draws is the item that was there; more than twice as many of them are a wonder.
        let replaced = (share * all.len() as f64).round() as usize;
        assert!(places.len() <= replaced && places.len() as f64 >= replaced as f64 * (1.0 - 2.0 / 240.0), "{share}");
        // Noise of one share is noise of the next: the same places, the same items.
        assert!(noise_before.iter().all(|&(place, item): &(usize, u32)| now[place] == item), "{share}");
        noise_before = places.iter().map(|&place| (place, now[place])).collect();
        if share == 1.0 {
            // Uniform: 240 items with about the same share of some 30,000 draws, far less uneven than the data.
            let mut frequency = vec![0_u32; items as usize];
            now.iter().for_each(|&item| frequency[item as usize] += 1);
            let mean = all.len() as f64 / f64::from(items);
            let off = frequency.iter().map(|&n| (f64::from(n) - mean).powi(2) / mean).sum::<f64>();
            assert!(off < 350.0, "chi-squared {off} of {} degrees of freedom", items - 1);
        }
        for user in (0..users).filter(|&user| clean.evaluated(user, Part::Test)) {
            for part in [Part::Validation, Part::Test] {
                assert_eq!(noisy.history(user, part), clean.history(user, part));
                assert_eq!(noisy.truth(user, part), clean.truth(user, part));
            }
        }
        assert_eq!(noisy.frequency(), clean.frequency());
        // A refit has the same noise in front, and its own in the validation items.
        let refit = clean.trained_on(Training::WithValidation, share, 3);
        let mut other = 0;
        for user in 0..users {
            let (apart, with) = (noisy.training(user), refit.training(user));
            assert_eq!(with[..apart.len()], *apart);
            other += usize::from(
                clean.evaluated(user, Part::Test) && with[apart.len()] != clean.truth(user, Part::Validation),
            );
        }
        let expected = share * f64::from(users);
        assert!((other as f64) <= expected + 0.5 && other as f64 > expected * 0.98 - 1.0, "{other} of {expected}");
    }
    let of_seed = |seed| clicks(&clean.trained_on(Training::Apart, 0.2, seed));
    assert_eq!(of_seed(3), of_seed(3));
    assert_ne!(of_seed(3), of_seed(4));
}

#[test]
fn evaluated_users_can_be_a_fixed_subset() {
    let split = split(&[&[0, 1, 2][..]; 1000]);
    let some = split.evaluated_users(Part::Test, Some(100), 7);
    assert_eq!(some.len(), 100);
    assert!(some.is_sorted_by(|a, b| a < b));
    assert_eq!(some, split.evaluated_users(Part::Test, Some(100), 7));
    assert_ne!(some, split.evaluated_users(Part::Test, Some(100), 8));
    // Not the first ones: the mean is 499.5 with a standard deviation of 27.
    let mean = some.iter().sum::<u32>() as f64 / 100.0;
    assert!((mean - 499.5).abs() < 150.0, "{mean}");
    assert_eq!(split.evaluated_users(Part::Test, Some(2000), 7).len(), 1000);
}

/// Examples of the next `n` batches.
fn batches(sampler: &mut Sampler, n: u64) -> Vec<Vec<u32>> {
    (0..n).map(|_| sampler.next_batch().to_vec()).collect()
}

#[test]
fn an_epoch_is_every_example_once() {
    // Targets are at places 1 to 4 of user 0, none of user 1, 11 of user 2 (who has too few items to hold any out).
    let split = split(&[&[0, 1, 2, 3, 4, 5, 6], &[7, 8, 9], &[10, 11]]);
    let mut sampler = Sampler::new(split, 2, 3, SamplerState::default()).unwrap();
    assert_eq!((sampler.examples(), sampler.batches()), (5, 3));
    for epoch in 0..20 {
        assert_eq!(sampler.state(), SamplerState { epoch, batch: 0 });
        let epoch = batches(&mut sampler, 3);
        assert_eq!(epoch.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        let mut all = epoch.concat();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4, 11]);
    }
}

#[test]
fn the_order_is_decided_by_seed_and_epoch_and_goes_on_from_any_state() {
    let long: Vec<u32> = (0..1002).collect();
    let split = split(&[&long]);
    let new = |seed, state| Sampler::new(split.clone(), 100, seed, state).unwrap();
    let mut whole = new(1, SamplerState::default());
    let expected = batches(&mut whole, 25);
    assert_ne!(expected[0], expected[10]);
    assert_ne!(expected[0], batches(&mut new(2, SamplerState::default()), 1)[0]);
    assert_ne!(expected[0], (1..101).collect::<Vec<u32>>());
    for stop in [0, 3, 9, 10, 11, 20] {
        let mut before = new(1, SamplerState::default());
        batches(&mut before, stop);
        assert_eq!(batches(&mut new(1, before.state()), 25 - stop), expected[stop as usize..]);
    }
}

#[test]
fn a_sampler_needs_examples_and_a_state_of_its_own() {
    let none = Sampler::new(split(&[&[0, 1, 2], &[3]]), 2, 1, SamplerState::default()).unwrap_err().to_string();
    assert!(none.contains("no training examples"), "{none}");
    let beyond = SamplerState { epoch: 0, batch: 1 };
    let error = Sampler::new(split(&[&[0, 1, 2, 3]]), 2, 1, beyond).unwrap_err().to_string();
    assert!(error.contains("batch 1 of an epoch of 1"), "{error}");
}

#[test]
fn sequences_keep_their_last_items() {
    let sequences: [&[u32]; 3] = [&[7], &[1, 2, 3, 4, 5], &[8, 9, 8]];
    let packed = Packed {
        items: vec![7, 3, 4, 5, 8, 9, 8],
        positions: vec![2, 0, 1, 2, 0, 1, 2],
        owners: vec![0, 1, 1, 1, 2, 2, 2],
        offsets: vec![0, 1, 4, 7],
    };
    assert_eq!(pack_sequences(&sequences, 3, PositionFrom::End), packed);
    let packed = Packed { positions: vec![0, 0, 1, 2, 0, 1, 2], ..packed };
    assert_eq!(pack_sequences(&sequences, 3, PositionFrom::Start), packed);
}

#[test]
fn a_batch_is_inputs_then_reversed_futures() {
    // The training part of user 0 is 4 2 6 2 5 0 1; items 3 and 7 are held out.
    let split = split(&[&[4, 2, 6, 2, 5, 0, 1, 3, 7], &[6, 5, 7, 7]]);
    let mut packer = Packer::new(split.clone(), 3, PositionFrom::End, 1, true);
    // t = 2 and 6 of user 0 and 1 of user 1; twice, as the packer keeps scratch space.
    for _ in 0..2 {
        let batch = packer.pack(&[2, 6, 10]);
        assert_eq!(batch.examples, 3);
        assert_eq!(batch.targets, [6, 1, 5]);
        assert_eq!(batch.target_offsets, [0, 1, 2, 3]);
        assert_eq!(
            batch.sequences,
            Packed {
                // Inputs 4 2, 2 5 0 (its last three), 6; labels 5 2 6 (of 1 0 5 2 6), 1, 5.
                items: vec![4, 2, 2, 5, 0, 6, 5, 2, 6, 1, 5],
                positions: vec![1, 2, 0, 1, 2, 2, 0, 1, 2, 2, 2],
                owners: vec![0, 0, 1, 1, 1, 2, 3, 3, 3, 4, 5],
                offsets: vec![0, 2, 5, 6, 9, 10, 11],
            }
        );
        assert_eq!(batch.rows, [0, 1, 2, 4, 5, 6]);
        // Tokens are 0 to 10, candidates 11 to 13.
        assert_eq!(
            batch.row_sources,
            Segments {
                starts: vec![0, 1, 3, 6, 7, 11, 14],
                sources: vec![4, 9, 12, 1, 2, 7, 0, 3, 6, 10, 13, 5, 8, 11],
            }
        );
        assert_eq!(
            batch.position_sources,
            Segments { starts: vec![0, 2, 5, 11], sources: vec![2, 6, 0, 3, 7, 1, 4, 5, 8, 9, 10] }
        );
    }
    // Several targets an example, all of them candidates: the next two items, as far as there are any.
    let mut several = Packer::new(split.clone(), 3, PositionFrom::End, 2, false);
    let batch = several.pack(&[2, 6, 10]);
    assert_eq!(batch.targets, [6, 2, 1, 5]);
    assert_eq!(batch.target_offsets, [0, 2, 3, 4]);
    assert_eq!(batch.sequences.items, [4, 2, 2, 5, 0, 6]);
    // Tokens are 0 to 5, candidates 6 to 9.
    assert_eq!(batch.rows, [0, 1, 2, 4, 5, 6]);
    let sources = vec![4, 8, 1, 2, 7, 0, 3, 9, 5, 6];
    assert_eq!(batch.row_sources, Segments { starts: vec![0, 1, 2, 5, 6, 8, 10], sources });

    let mut inputs = Packer::new(split, 3, PositionFrom::Start, 1, false);
    let batch = inputs.pack(&[6]);
    assert_eq!(batch.sequences, pack_sequences(&[&[2, 5, 0]], 3, PositionFrom::Start));
    assert_eq!(batch.rows, [0, 1, 2, 5]);
}

#[test]
fn batches_made_ahead_are_those_of_the_sampler() {
    let split = split(&[&[0, 1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5]]);
    let start = SamplerState { epoch: 3, batch: 1 };
    let sampler = || Sampler::new(split.clone(), 4, 5, start).unwrap();
    let packer = || Packer::new(split.clone(), 4, PositionFrom::End, 1, true);
    for ahead in [0, 1, 3] {
        let (mut sampler, mut packer, mut prefetch) =
            (sampler(), packer(), Prefetch::start(sampler(), packer(), ahead).unwrap());
        for _ in 0..20 {
            let prepared = prefetch.next_batch().unwrap();
            assert_eq!(prepared.batch, packer.pack(sampler.next_batch()));
            assert_eq!(prepared.after, sampler.state());
        }
        drop(prefetch);
    }
    // The thread has ended and given its share back.
    assert_eq!(Arc::strong_count(&split), 1);
}

#[test]
fn a_failure_on_the_other_thread_is_an_error_here() {
    let long: Vec<u32> = (0..100).collect();
    let sampler = Sampler::new(split(&[&long]), 10, 1, SamplerState::default()).unwrap();
    // A packer of other data, which has none of the examples.
    let packer = Packer::new(split(&[&[0, 1, 2]]), 4, PositionFrom::End, 1, true);
    let mut prefetch = Prefetch::start(sampler, packer, 2).unwrap();
    for _ in 0..2 {
        let error = prefetch.next_batch().unwrap_err().to_string();
        assert!(error.contains("thread that packs batches failed"), "{error}");
    }
}

#[test]
fn negatives_are_distinct_items_never_met() {
    let split = Split::new(Generator::default().generate(4).interactions, Training::Apart);
    let users = split.evaluated_users(Part::Test, Some(500), 1);
    let negatives = Negatives::draw(&split, Part::Test, &users, 100, 1);
    for (index, &user) in users.iter().enumerate() {
        let mut drawn = negatives.of(index).to_vec();
        assert_eq!(drawn.len(), 100);
        assert!(drawn.iter().all(|item| !split.interactions().sequence(user).contains(item)), "user {user}");
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 100, "user {user}");
    }
    // The same for every model, whichever users are asked for.
    let last = Negatives::draw(&split, Part::Test, &users[499..], 100, 1);
    assert_eq!(last.of(0), negatives.of(499));
    assert_ne!(Negatives::draw(&split, Part::Test, &users, 100, 2), negatives);
    assert_ne!(Negatives::draw(&split, Part::Validation, &users, 100, 1), negatives);
}

#[test]
fn negatives_follow_popularity() {
    // Item n of 1 to 4 occurs 10 n times. The users drawn for know item 0, which has 60,000 of the 60,100 clicks: drawing and
    // throwing back hardly ever gets them another one, so that this is about the race.
    let busy: Vec<u32> = [1, 2, 2, 3, 3, 3, 4, 4, 4, 4].to_vec();
    let mut sequences: Vec<&[u32]> = vec![&busy; 10];
    sequences.extend(vec![&[0, 0, 0][..]; 20000]);
    let split = Split::new(interactions(&sequences), Training::Apart);
    let users: Vec<u32> = (10..20010).collect();
    let few = Negatives::draw(&split, Part::Test, &users, 1, 9);
    let mut counts = [0_u32; 5];
    for user in 0..users.len() {
        assert_eq!(few.of(user).len(), 1);
        counts[few.of(user)[0] as usize] += 1;
    }
    check_shares(&counts[1..], &[0.1, 0.2, 0.3, 0.4]);
}

/// Chi-square with three degrees of freedom: above 21.1 once in 10,000.
fn check_shares(counts: &[u32], shares: &[f64; 4]) {
    let n = f64::from(counts.iter().sum::<u32>());
    let chi_square: f64 = counts.iter().zip(shares).map(|(&c, s)| (f64::from(c) - n * s).powi(2) / (n * s)).sum();
    assert!(chi_square < 21.1, "{chi_square}: {counts:?}");
}

#[test]
fn negatives_are_drawn_without_replacement() {
    // Weights 1 2 3 4 of items that the users have not met, and 6 of one that they have: most draws are of use.
    let busy: Vec<u32> = [1, 2, 2, 3, 3, 3, 4, 4, 4, 4].to_vec();
    let mut sequences: Vec<&[u32]> = vec![&busy; 5000];
    sequences.extend(vec![&[0, 0, 0][..]; 10000]);
    let split = Split::new(interactions(&sequences), Training::Apart);
    let users: Vec<u32> = (5000..15000).collect();
    let two = Negatives::draw(&split, Part::Test, &users, 2, 9);
    let mut second = [0_u32; 5];
    for user in 0..users.len() {
        second[two.of(user)[1] as usize] += 1;
    }
    // The chance that j comes second: the sum over first i of w_i * w_j / (1 - w_i).
    let weights = [0.1, 0.2, 0.3, 0.4];
    let shares: [f64; 4] =
        std::array::from_fn(|j| (0..4).filter(|&i| i != j).map(|i| weights[i] * weights[j] / (1.0 - weights[i])).sum());
    check_shares(&second[1..], &shares);
    // All that there are, where more are asked for.
    let all = Negatives::draw(&split, Part::Test, &users[..1], 100, 9);
    let mut all = all.of(0).to_vec();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4]);
}

#[test]
fn generated_clicks_follow_their_intentions() {
    let planted = Generator::default().generate(1);
    assert_eq!(planted, Generator::default().generate(1));
    assert_ne!(planted, Generator::default().generate(2));
    let Counts { users, items, interactions } = planted.interactions.counts();
    assert_eq!((users, items, planted.categories.len()), (4000, 240, 240));
    let mean = interactions as f64 / users as f64;
    assert!((9.0..14.0).contains(&mean), "mean length {mean}");
    let category = |item: u32| planted.categories[item as usize];
    let (mut same, mut pairs, mut follows) = (0, 0, std::collections::HashMap::new());
    for user in 0..users as u32 {
        for pair in planted.interactions.sequence(user).windows(2) {
            pairs += 1;
            same += usize::from(category(pair[0]) == category(pair[1]));
            *follows.entry((pair[0], pair[1])).or_insert(0_usize) += 1;
        }
    }
    // By chance a quarter of the pairs stay in their category, and a pair of items comes up 0.7 times.
    assert!(same as f64 > 0.5 * pairs as f64, "{same} of {pairs} pairs stay in their category");
    let frequent: usize = follows.values().filter(|&&n| n >= 5).sum();
    assert!(frequent as f64 > 0.3 * pairs as f64, "{frequent} of {pairs} pairs are frequent ones");
}
