//! When interactions were.

use super::fields::short;

/// Numbers in order, whole ones or not, in any unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// Whole numbers, or [`order`] of decimal ones.
    pub(crate) values: Vec<i64>,
    pub(crate) decimal: bool,
}

/// Orders floats as integers.
fn order(time: f64) -> i64 {
    // Zero has two signs.
    let bits = (time + 0.0).to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// The float that [`order`] gives `at` for.
fn ordered(at: i64) -> f64 {
    f64::from_bits((at ^ ((at >> 63) as u64 >> 1) as i64) as u64)
}

impl Times {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The time at a place.
    pub fn get(&self, place: usize) -> f64 {
        let value = self.values[place];
        if self.decimal { ordered(value) } else { value as f64 }
    }

    /// The times at these places.
    pub(crate) fn pick(&self, places: impl Iterator<Item = usize>) -> Times {
        Times { values: places.map(|place| self.values[place]).collect(), decimal: self.decimal }
    }

    /// Adds a number.
    pub(super) fn push(&mut self, text: &str) -> Result<(), String> {
        let text = text.trim_ascii();
        let whole = text.parse::<i64>();
        if let (Ok(time), false) = (&whole, self.decimal) {
            self.values.push(*time);
            return Ok(());
        }
        match text.parse::<f64>() {
            Ok(time) if time.is_finite() => {
                self.push_decimal(time);
                Ok(())
            }
            _ => Err(format!("expected a number that grows with time, such as seconds, found `{}`", short(text))),
        }
    }

    pub(super) fn push_decimal(&mut self, time: f64) {
        self.make_decimal();
        self.values.push(order(time));
    }

    /// Makes decimal numbers of whole ones.
    pub(super) fn make_decimal(&mut self) {
        if !self.decimal {
            self.decimal = true;
            self.values.iter_mut().for_each(|time| *time = order(*time as f64));
        }
    }
}
