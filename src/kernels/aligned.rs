//! Memory whose vectors lie in one line of the cache each.

use std::ops::{Deref, DerefMut};

/// Bytes of a line of the cache, and of the widest vectors.
const LINE: usize = 64;

/// Elements, the first of which begins a line of the cache: a vector that lies in two of them takes twice the time to load
/// or to store, and memory as it is given begins anywhere.
pub struct Aligned<A> {
    /// With room to begin later.
    memory: Vec<A>,
    start: usize,
    len: usize,
}

impl<A: Copy + Default> Aligned<A> {
    /// Elements that are 0. Pages of them that are not touched take no memory.
    pub fn zeroed(len: usize) -> Self {
        let memory = vec![A::default(); len + room::<A>()];
        let start = begin(&memory);
        Aligned { memory, start, len }
    }
}

impl<A> Deref for Aligned<A> {
    type Target = [A];

    fn deref(&self) -> &[A] {
        &self.memory[self.start..][..self.len]
    }
}

impl<A> DerefMut for Aligned<A> {
    fn deref_mut(&mut self) -> &mut [A] {
        &mut self.memory[self.start..][..self.len]
    }
}

/// The first `len` elements of `memory` from the beginning of a line on, whatever they hold: it grows, and is not cleared for what
/// needs less.
pub fn scratch<A: Copy + Default>(memory: &mut Vec<A>, len: usize) -> &mut [A] {
    if memory.len() < len + room::<A>() {
        memory.resize(len + room::<A>(), A::default());
    }
    let start = begin(memory);
    &mut memory[start..][..len]
}

/// Elements that come before the first that begins a line, at most.
const fn room<A>() -> usize {
    LINE / size_of::<A>() - 1
}

/// The first element that begins a line.
fn begin<A>(memory: &[A]) -> usize {
    memory.as_ptr().align_offset(LINE).min(room::<A>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins_a_line<A>(elements: &[A]) -> bool {
        elements.as_ptr().addr().is_multiple_of(LINE)
    }

    #[test]
    fn memory_begins_with_a_line_and_keeps_what_it_holds() {
        for len in [0, 1, 15, 16, 17, 1000, 100_000] {
            let (mut words, doubles) = (Aligned::<u32>::zeroed(len), Aligned::<f64>::zeroed(len));
            assert!(begins_a_line(&words) && begins_a_line(&doubles));
            assert!(words.len() == len && words.iter().all(|&word| word == 0) && doubles.iter().all(|&x| x == 0.0));
            words.fill(7);
            let moved = words;
            assert!(begins_a_line(&moved) && moved.iter().all(|&word| word == 7));
        }
    }

    #[test]
    fn scratch_grows_and_begins_with_a_line() {
        let mut memory = Vec::new();
        for len in [3, 1000, 17, 5000] {
            let elements = scratch(&mut memory, len);
            assert!(begins_a_line(elements) && elements.len() == len);
            elements.fill(1.0f32);
        }
        assert_eq!(scratch(&mut memory, 5000), [1.0; 5000]);
    }
}
