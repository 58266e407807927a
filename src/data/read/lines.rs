//! Cuts what is read into blocks of whole lines.

use std::io::{self, Read};

use memchr::memrchr;

/// Marks a text as UTF-8 at its beginning; no part of it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Blocks of whole lines, `size` bytes or (where lines are longer) more.
pub(super) struct Blocks<R> {
    reader: R,
    size: usize,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    begun: bool,
}

impl<R: Read> Blocks<R> {
    pub fn new(reader: R, size: usize) -> Self {
        Blocks { reader, size, rest: Vec::new(), begun: false }
    }

    /// The next block; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut block = std::mem::take(&mut self.rest);
            let unfinished = block.len();
            block.reserve_exact(self.size);
            let read = self.reader.by_ref().take(self.size as u64).read_to_end(&mut block)?;
            if !std::mem::replace(&mut self.begun, true) {
                while block.starts_with(BYTE_ORDER_MARK) {
                    block.drain(..BYTE_ORDER_MARK.len());
                }
            }
            if read < self.size {
                // The reader's end.
                return Ok((!block.is_empty()).then_some(block));
            }
            match memrchr(b'\n', &block[unfinished.min(block.len())..]) {
                Some(end) => {
                    self.rest = block.split_off(unfinished + end + 1);
                    return Ok(Some(block));
                }
                None => self.rest = block,
            }
        }
    }
}
