//! Which of the interactions that were read are kept.

use std::collections::HashSet;

use rayon::prelude::*;

use super::read::{Interactions, Times};
use crate::error::{Error, Result};

/// What becomes of an item that a user met several times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Repeats {
    /// All times are kept.
    #[default]
    Keep,
    /// The first time is kept.
    First,
    /// The last time is kept.
    Last,
    /// Of several times in a row, the first is kept.
    Adjacent,
}

/// What to keep, in this order: of repeats, of long sequences, of rare users and items.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cleaning {
    pub repeats: Repeats,
    /// A user's last interactions, so many; 0 for all.
    pub last: usize,
    /// The fewest interactions of a user, and of an item: dropping some may make others too rare, which are dropped, too.
    pub user_core: usize,
    pub item_core: usize,
}

/// How many interactions were left out, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    pub repeats: usize,
    pub old: usize,
    pub rare: usize,
    /// Users and items of which nothing is left.
    pub users: usize,
    pub items: usize,
}

/// Keeps what is to be kept. Users and items that stay keep their order.
///
/// # Errors
/// [`Error::Data`] where nothing is left.
pub fn clean(
    interactions: Interactions,
    times: Option<Times>,
    cleaning: &Cleaning,
) -> Result<(Interactions, Option<Times>, Dropped)> {
    if *cleaning == Cleaning::default() {
        return Ok((interactions, times, Dropped::default()));
    }
    let before = interactions.counts();
    let mut keep = vec![true; interactions.clicks.len()];
    let mut left = keep.len();
    let mut dropped = Dropped::default();
    let mut count = |keep: &[bool], of: &mut usize| {
        let now = keep.iter().filter(|&&keep| keep).count();
        *of = left - now;
        left = now;
    };
    drop_repeats(&interactions, cleaning.repeats, &mut keep);
    count(&keep, &mut dropped.repeats);
    if cleaning.last > 0 {
        for ends in interactions.offsets.windows(2) {
            let kept = keep[ends[0]..ends[1]].iter_mut().rev().filter(|keep| **keep);
            kept.skip(cleaning.last).for_each(|keep| *keep = false);
        }
        count(&keep, &mut dropped.old);
    }
    drop_rare(&interactions, cleaning.user_core, cleaning.item_core, &mut keep);
    count(&keep, &mut dropped.rare);
    if left == 0 {
        let Cleaning { user_core, item_core, .. } = cleaning;
        return Err(Error::Data(format!(
            "no interaction is left: no users and items have {user_core} and {item_core} interactions among each other; \
             lower --user-core or --item-core"
        )));
    }
    let (interactions, times) = pick(interactions, times, &keep);
    let after = interactions.counts();
    dropped.users = before.users - after.users;
    dropped.items = before.items - after.items;
    Ok((interactions, times, dropped))
}

fn drop_repeats(interactions: &Interactions, repeats: Repeats, keep: &mut [bool]) {
    let mut of_users = Vec::with_capacity(interactions.users.len());
    let mut rest = keep;
    for ends in interactions.offsets.windows(2) {
        let (keep, others) = rest.split_at_mut(ends[1] - ends[0]);
        of_users.push((&interactions.clicks[ends[0]..ends[1]], keep));
        rest = others;
    }
    of_users.into_par_iter().for_each_init(HashSet::new, |met, (clicks, keep)| {
        met.clear();
        match repeats {
            Repeats::Keep => {}
            Repeats::First => {
                for (item, keep) in clicks.iter().zip(keep) {
                    *keep = met.insert(*item);
                }
            }
            Repeats::Last => {
                for (item, keep) in clicks.iter().zip(keep).rev() {
                    *keep = met.insert(*item);
                }
            }
            Repeats::Adjacent => {
                for (pair, keep) in clicks.windows(2).zip(keep.iter_mut().skip(1)) {
                    *keep = pair[0] != pair[1];
                }
            }
        }
    });
}

/// Drops users and items with too few interactions, until none is left that has.
fn drop_rare(interactions: &Interactions, user_core: usize, item_core: usize, keep: &mut [bool]) {
    if user_core <= 1 && item_core <= 1 {
        return;
    }
    let Interactions { clicks, offsets, .. } = interactions;
    let mut of_item = vec![0_usize; interactions.items.len()];
    for (&item, _) in clicks.iter().zip(&*keep).filter(|(_, keep)| **keep) {
        of_item[item as usize] += 1;
    }
    loop {
        let mut changed = false;
        for ends in offsets.windows(2) {
            let (clicks, keep) = (&clicks[ends[0]..ends[1]], &mut keep[ends[0]..ends[1]]);
            let mut of_user = 0;
            for (&item, keep) in clicks.iter().zip(keep.iter_mut()).filter(|(_, keep)| **keep) {
                if of_item[item as usize] < item_core {
                    of_item[item as usize] -= 1;
                    (*keep, changed) = (false, true);
                } else {
                    of_user += 1;
                }
            }
            if of_user > 0 && of_user < user_core {
                for (&item, keep) in clicks.iter().zip(keep.iter_mut()).filter(|(_, keep)| **keep) {
                    of_item[item as usize] -= 1;
                    (*keep, changed) = (false, true);
                }
            }
        }
        if !changed {
            return;
        }
    }
}

/// What is kept, with users and items numbered anew.
fn pick(interactions: Interactions, times: Option<Times>, keep: &[bool]) -> (Interactions, Option<Times>) {
    let mut used = vec![false; interactions.items.len()];
    for (&item, _) in interactions.clicks.iter().zip(keep).filter(|(_, keep)| **keep) {
        used[item as usize] = true;
    }
    let mut number = 0;
    let numbers: Vec<u32> = used
        .iter()
        .map(|&used| {
            number += u32::from(used);
            number.wrapping_sub(1)
        })
        .collect();
    let items = interactions.items.into_iter().zip(&used).filter(|(_, used)| **used).map(|(id, _)| id).collect();
    let (mut users, mut offsets) = (Vec::new(), vec![0]);
    let mut sum = 0;
    for (id, ends) in interactions.users.into_iter().zip(interactions.offsets.windows(2)) {
        let kept = keep[ends[0]..ends[1]].iter().filter(|keep| **keep).count();
        if kept > 0 {
            sum += kept;
            users.push(id);
            offsets.push(sum);
        }
    }
    let kept = |place: &usize| keep[*place];
    let clicks = (0..keep.len()).filter(kept).map(|place| numbers[interactions.clicks[place] as usize]).collect();
    let times = times.map(|times| times.pick((0..keep.len()).filter(kept)));
    (Interactions { users, items, offsets, clicks }, times)
}
