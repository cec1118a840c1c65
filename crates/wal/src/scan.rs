//! Walks through the records of a segment, whatever is damaged in between.

use std::io;
use std::ops::Range;

use crate::SeqNo;
use crate::record::{BLOCK, Expect, HEAD, Head, Look, distance, look, resembles};
use crate::storage::{StorageFile, read_full};

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// Bytes that may be looked at in vain.
const PATIENCE: u64 = 256 << 20;

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Record {
        /// Where it begins.
        at: u64,
        head: Head,
        payload: &'a [u8],
    },
    /// Bytes that are no record and no filling.
    Junk {
        at: Range<u64>,
        /// The storage does not give them.
        is_unreadable: bool,
    },
    End,
}

/// A walk through a file, from a place up to a limit. It holds a part of the file in memory.
#[derive(Debug)]
pub(crate) struct Scanner {
    offset: u64,
    limit: u64,
    expect: Expect,
    /// Where the last record ended.
    last_end: u64,
    /// Behind the last record are remains of what was in the file before, as far as all records below
    /// this number were found.
    remains: Option<SeqNo>,
    /// Bytes that were looked at as payloads of records that were none.
    wasted: u64,
    buf: Vec<u8>,
    buf_at: u64,
    junk: Option<Range<u64>>,
    /// Blocks that cannot be read are junk, instead of an error.
    skips_unreadable: bool,
    /// Blocks in memory that could not be read, and stand there as zeros.
    unreadable: Vec<Range<u64>>,
    junk_is_unreadable: bool,
}

impl Scanner {
    /// A walk through `range`. Where the file may have remains of what was in it before, they are passed
    /// over behind the last record, unless one below `remains` is missing.
    pub(crate) fn new(range: Range<u64>, expect: Expect, remains: Option<SeqNo>) -> Self {
        Self {
            offset: range.start,
            limit: range.end,
            expect,
            last_end: range.start,
            remains,
            wasted: 0,
            buf: Vec::new(),
            buf_at: range.start,
            junk: None,
            skips_unreadable: false,
            unreadable: Vec::new(),
            junk_is_unreadable: false,
        }
    }

    /// From now on blocks that cannot be read are passed over.
    pub(crate) fn skip_unreadable(&mut self) {
        self.skips_unreadable = true;
    }

    /// Sets the end, which only ever goes up, and the number that all records are below.
    pub(crate) fn extend(&mut self, limit: u64, below: SeqNo) {
        // What was read beyond the old end may have been written since.
        let kept = usize::try_from(self.limit.saturating_sub(self.buf_at)).unwrap_or(usize::MAX);
        if limit > self.limit {
            self.buf.truncate(kept);
        }
        self.limit = limit;
        self.expect.below = below;
    }

    /// The next item. An error leaves it where it is.
    pub(crate) fn next<'a>(&'a mut self, file: &dyn StorageFile) -> io::Result<Item<'a>> {
        loop {
            if self.offset >= self.limit {
                self.pass_remains(file)?;
                return Ok(self.take_junk().unwrap_or(Item::End));
            }
            let from = self.fill(file, HEAD)?;
            // What it says of itself first; then all of it.
            let head = self.buf[from..].get(..HEAD).unwrap_or(&self.buf[from..]);
            let mut found = look(head, &self.expect);
            if let Look::Longer(wanted) = found {
                // With what is behind it.
                let from = self.fill(file, wanted.saturating_add(HEAD))?;
                found = self.look_at_all(from, wanted);
            }
            match found {
                Look::Record(_) if self.junk.is_some() => {
                    return Ok(self.take_junk().unwrap_or(Item::End));
                }
                Look::Record(head) => return Ok(self.pass(head)),
                Look::Longer(_) | Look::Nothing => self.step(file)?,
            }
        }
    }

    /// Of the bytes behind the last record, keeps what the next one has left that was being written;
    /// the rest is of before.
    fn pass_remains(&mut self, file: &dyn StorageFile) -> io::Result<()> {
        let Some(junk) = self.junk.clone() else {
            return Ok(());
        };
        if self.remains.is_none() || self.junk_is_unreadable {
            return Ok(());
        }
        let mut torn = None;
        // In the same group, or as the first of the next one.
        for place in [self.last_end, self.last_end.next_multiple_of(BLOCK as u64)] {
            let mut head = [0; HEAD];
            let read = read_full(file, &mut head, place)?;
            let found = resembles(&head, &self.expect).filter(|_| read == HEAD);
            if let Some(size) = found.filter(|_| torn.is_none()) {
                let end = place + size as u64;
                torn = Some(place..end.min(self.limit).max(place + 1));
            }
        }
        let torn = torn.filter(|torn| torn.start < junk.end);
        let is_missing = self
            .remains
            .is_some_and(|durable| self.expect.next < durable);
        self.junk = if is_missing {
            // Where the records that are missing have ended, nothing says.
            let start = torn.map_or(junk.start, |torn| torn.start.min(junk.start));
            Some(start..junk.end)
        } else {
            torn
        };
        Ok(())
    }

    /// Looks at a record whose `size` bytes are in memory. What only resembles one costs its length, and
    /// content can be made of such beginnings: once that has cost enough, only those count that
    /// something fits behind.
    fn look_at_all(&mut self, from: usize, size: usize) -> Look {
        let bytes = &self.buf[from..];
        if self.junk.is_some() && self.wasted > PATIENCE {
            // What ends with the file, or before zeros, has nothing behind it that speaks for it.
            let is_alone = self.wasted > 8 * PATIENCE;
            if !is_followed(bytes, size, is_alone) {
                return Look::Nothing;
            }
        }
        let found = look(bytes, &self.expect);
        if found == Look::Nothing {
            self.wasted += size as u64;
        }
        found
    }

    fn take_junk<'b>(&mut self) -> Option<Item<'b>> {
        let at = self.junk.take()?;
        let is_unreadable = std::mem::take(&mut self.junk_is_unreadable);
        Some(Item::Junk { at, is_unreadable })
    }

    fn pass(&mut self, head: Head) -> Item<'_> {
        let (at, from) = (self.offset, self.index() + HEAD);
        self.offset += head.size() as u64;
        self.last_end = self.offset;
        self.expect.next = head.seq + 1;
        Item::Record {
            at,
            head,
            payload: &self.buf[from..from + head.len],
        }
    }

    /// Goes on by one byte that is no beginning of a record, or by as many zeros as there are.
    fn step(&mut self, file: &dyn StorageFile) -> io::Result<()> {
        let from = self.fill(file, 2 * BLOCK)?;
        if self.offset >= self.limit {
            return Ok(());
        }
        let (here, buf_end) = (self.offset, self.buf_end());
        self.unreadable.retain(|block| block.end > here);
        let block = self.unreadable.first().cloned();
        if let Some(block) = block.as_ref().filter(|block| block.start <= here) {
            self.note_junk(block.end);
            self.junk_is_unreadable = true;
            self.offset = block.end;
            return Ok(());
        }
        let zeros = leading_zeros(&self.buf[from..]);
        if zeros == 0 {
            let mut far = distance(&self.buf[from..], &self.expect) as u64;
            if let Some(block) = &block {
                far = far.min(block.start - here);
            }
            let passed = &self.buf[from..][..usize::try_from(far).unwrap_or(1)];
            let junk = passed.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            self.note_junk(here + junk as u64 + 1);
            self.offset += far;
            return Ok(());
        }
        let end = here + zeros as u64;
        // A record may begin with zeros.
        let next = if end == buf_end && buf_end >= self.limit {
            self.limit
        } else {
            end.saturating_sub(HEAD as u64).max(here + 1)
        };
        self.offset = block.map_or(next, |block| next.min(block.start));
        Ok(())
    }

    fn note_junk(&mut self, end: u64) {
        let junk = self.junk.get_or_insert(self.offset..self.offset);
        junk.end = end;
    }

    fn index(&self) -> usize {
        usize::try_from(self.offset - self.buf_at).unwrap_or(usize::MAX)
    }

    fn buf_end(&self) -> u64 {
        self.buf_at + self.buf.len() as u64
    }

    /// Reads until at least `wanted` bytes from here on are in memory, or all that there are before
    /// the limit; answers where in the memory they begin.
    fn fill(&mut self, file: &dyn StorageFile, wanted: usize) -> io::Result<usize> {
        let wanted = wanted.min(usize::try_from(self.limit - self.offset).unwrap_or(wanted));
        if self.index() + wanted > self.buf.len() {
            let done = self.index().min(self.buf.len());
            self.buf.drain(..done);
            self.buf_at = self.offset;
            self.read_more(file, wanted)?;
        }
        Ok(self.index())
    }

    fn read_more(&mut self, file: &dyn StorageFile, wanted: usize) -> io::Result<()> {
        let room = usize::try_from(self.limit - self.buf_at).unwrap_or(usize::MAX);
        let have = self.buf.len();
        let target = wanted.max(CHUNK).min(room);
        let from = self.buf_end();
        self.buf.resize(target, 0);
        match read_full(file, &mut self.buf[have..], from) {
            Ok(read) => {
                self.buf.truncate(have + read);
                if read == 0 || self.buf.len() < wanted {
                    // The file ends before its limit.
                    self.limit = self.buf_end().max(self.offset);
                }
                Ok(())
            }
            Err(error) => {
                self.buf.truncate(have);
                if self.skips_unreadable {
                    self.read_blocks(file, target - have);
                    return Ok(());
                }
                Err(error)
            }
        }
    }

    /// Reads block by block; those that cannot be read are zeros.
    fn read_blocks(&mut self, file: &dyn StorageFile, bytes: usize) {
        let mut left = bytes;
        while left > 0 {
            let from = self.buf_end();
            let whole = BLOCK - usize::try_from(from % BLOCK as u64).unwrap_or(0);
            let size = whole.min(left);
            let have = self.buf.len();
            self.buf.resize(have + size, 0);
            match read_full(file, &mut self.buf[have..], from) {
                Ok(read) if read < size => {
                    self.buf.truncate(have + read);
                    self.limit = self.buf_end().max(self.offset);
                    return;
                }
                Ok(_) => {}
                Err(_) => {
                    self.buf[have..].fill(0);
                    self.unreadable.push(from..from + size as u64);
                }
            }
            left -= size;
        }
    }
}

/// The bytes that records were in which are missing: `junk` is what is there between the end of the
/// record before and the beginning of the next one. Some of their bytes may be zeros, before and
/// behind the junk.
pub(crate) fn extent(before: u64, junk: &Range<u64>, next: Option<u64>) -> Range<u64> {
    let block = BLOCK as u64;
    // The first of them follows at once or, in a group of its own, at the next block; there is never
    // more than that of filling.
    let next_block = before.next_multiple_of(block);
    let start = if junk.start / block * block == next_block {
        next_block
    } else {
        before.min(junk.start)
    };
    let end = next.unwrap_or(start + HEAD as u64).max(junk.end);
    start..end
}

/// Whether behind `size` bytes there is what may be behind a record: the next one of its group, or, if
/// that will do, zeros up to the end of the block or the end of the file.
fn is_followed(bytes: &[u8], size: usize, must_be_record: bool) -> bool {
    let (Some(head), Some(next)) = (bytes.get(8..16), bytes.get(size..)) else {
        return !must_be_record;
    };
    let word = |bytes: &[u8], at: usize| {
        let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
        word.map(|word| u32::from_le_bytes(*word))
    };
    let is_next = |at: usize| word(head, at).map(|word| word.wrapping_add(1)) == word(next, at + 8);
    let zeros = next.iter().take(HEAD).all(|byte| *byte == 0);
    let is_alone = zeros || word(next, 12).is_none();
    is_next(0) && is_next(4) || is_alone && !must_be_record
}

fn leading_zeros(bytes: &[u8]) -> usize {
    let (mut at, zeros) = (0, [0; 64]);
    while bytes[at..].starts_with(&zeros) {
        at += zeros.len();
    }
    at + bytes[at..].iter().take_while(|byte| **byte == 0).count()
}

#[cfg(test)]
mod tests {
    #[test]
    fn missing_records_reach_from_the_one_before_to_the_next() {
        let extent = |before, junk, next| super::extent(before, &junk, next);
        // In the same group, whatever of it is zeros.
        assert_eq!(extent(5_000, 5_003..5_009, Some(5_100)), 5_000..5_100);
        // The first of a group, behind filling.
        assert_eq!(extent(5_000, 8_193..8_300, Some(8_400)), 8_192..8_400);
        assert_eq!(extent(4_096, 4_096..4_120, Some(4_200)), 4_096..4_200);
        // More zeros than any filling has.
        assert_eq!(extent(5_000, 12_290..12_300, Some(12_400)), 5_000..12_400);
        // Nothing follows.
        assert_eq!(extent(5_000, 5_000..5_009, None), 5_000..5_016);
        assert_eq!(extent(5_000, 5_000..5_200, None), 5_000..5_200);
    }
}
