//! How much intentions are used.

use serde::Serialize;

use super::Recommender;
use super::histories::Request;
use crate::error::Result;

/// How much an intention is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// The mean of what it holds of each history, the sum over i of p_{k|i} p_i; of all intentions together, 1.
    pub share: f64,
    /// Users of whose history no other intention holds more; of equal ones, the first counts.
    pub users: usize,
}

impl Usage {
    /// That of each intention. `progress` is told the number of histories done.
    ///
    /// # Errors
    /// Where the engine fails.
    pub fn of(
        recommender: &mut Recommender,
        requests: &[Request],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Usage>> {
        let mut usage = vec![Usage::default(); recommender.intentions()];
        let mut done = 0;
        for some in requests.chunks(recommender.batch()) {
            let histories: Vec<&[u32]> = some.iter().map(|request| &request.history[..]).collect();
            for user in recommender.user_vectors(&histories)? {
                let shares = &user.shares;
                let most = (1..shares.len()).fold(0, |most, k| if shares[k] > shares[most] { k } else { most });
                usage[most].users += 1;
                usage.iter_mut().zip(shares).for_each(|(usage, &share)| usage.share += f64::from(share));
            }
            done += some.len();
            progress(done);
        }
        usage.iter_mut().for_each(|usage| usage.share /= done.max(1) as f64);
        Ok(usage)
    }
}
