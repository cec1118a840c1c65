//! Reading durable records in the order of their numbers.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::SeqNo;
use crate::damage::{Damage, DamageKind};
use crate::error::StorageError;
use crate::log::{Log, Segment, WhenDone};
use crate::scan::{Item, Scanner, extent};
use crate::segment::{self, DATA};
use crate::storage::StorageFile;

/// Reads in a row that may fail before blocks that cannot be read are passed over as damaged.
const PATIENCE: u32 = 10;

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub seq: SeqNo,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Reads the records of a queue that are durable and not settled, each once, in the order of their
/// numbers. It holds one file open, and a quarter of a MiB or one record in memory.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    /// The number of the next record.
    next: SeqNo,
    place: Option<Place>,
    /// Reads in a row that failed.
    failures: u32,
}

#[derive(Debug)]
struct Place {
    number: u64,
    file: Arc<dyn StorageFile>,
    scanner: Scanner,
    /// The number after the last record that was seen, and where that one ends.
    last: (SeqNo, u64),
    junk: Option<(Range<u64>, bool)>,
}

impl Place {
    /// Takes the junk before the record `seq`, which is at `next`: the bytes of the records that
    /// are missing there.
    fn take_junk(
        &mut self,
        last: (SeqNo, u64),
        seq: SeqNo,
        next: Option<u64>,
    ) -> Option<(Range<u64>, bool)> {
        let (junk, is_unreadable) = self.junk.take()?;
        let at = if is_unreadable || last.0 >= seq {
            junk
        } else {
            extent(last.1, &junk, next)
        };
        Some((at, is_unreadable))
    }
}

/// What became of a walk through a part of a segment.
enum Walked {
    Full,
    AtEnd,
}

impl Reader {
    pub(crate) fn new(log: Arc<Log>, next: SeqNo) -> Self {
        Self {
            log,
            next,
            place: None,
            failures: 0,
        }
    }

    /// The number that the next record has at least.
    pub fn next_seq(&self) -> SeqNo {
        self.next
    }

    /// Goes on from `seq`, forward only: what is before it is read by somebody else.
    pub fn skip_to(&mut self, seq: SeqNo) {
        self.next = self.next.max(seq);
    }

    /// The next records, at most `max_records` and not many more than `max_bytes`; none where no
    /// more are durable by now. Damaged ones are left out, told and settled; see
    /// [`crate::WriteAheadQueue::stats`].
    ///
    /// # Errors
    ///
    /// The storage does not give the bytes. Nothing is passed over: the next call tries again, and
    /// only after ten failures in a row the blocks in question are taken for damaged.
    pub fn read(
        &mut self,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, StorageError> {
        let mut records = Vec::new();
        loop {
            let next = self.next;
            let segment = {
                let state = self.log.state();
                let has_more = |segment: &&Segment| segment.end > next;
                state.segments.iter().find(has_more).copied()
            };
            let Some(segment) = segment else {
                return Ok(records);
            };
            match self.walk(&segment, &mut records, max_records, max_bytes) {
                Ok(Walked::Full) => {
                    self.failures = 0;
                    return Ok(records);
                }
                Ok(Walked::AtEnd) => self.failures = 0,
                // What was read before it is handed out first.
                Err(_) if !records.is_empty() => return Ok(records),
                Err(error) => {
                    self.failures += 1;
                    if self.failures >= PATIENCE
                        && let Some(place) = &mut self.place
                    {
                        place.scanner.skip_unreadable();
                    }
                    return Err(error);
                }
            }
        }
    }

    fn walk(
        &mut self,
        segment: &Segment,
        records: &mut Vec<Record>,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Walked, StorageError> {
        let name = segment::name(segment.number);
        if self.next < segment.first {
            self.miss(segment, segment.first, None, false);
        }
        if !self.enter(segment, &name)? {
            return Ok(Walked::AtEnd);
        }
        let mut bytes = 0;
        loop {
            if records.len() >= max_records || bytes >= max_bytes {
                return Ok(Walked::Full);
            }
            let Some(place) = &mut self.place else {
                return Ok(Walked::AtEnd);
            };
            let item = place.scanner.next(place.file.as_ref());
            match item.map_err(|source| StorageError::new("read", &name, source))? {
                Item::Record { at, head, .. } if head.seq < self.next => {
                    let end = at + head.size() as u64;
                    let last = std::mem::replace(&mut place.last, (head.seq + 1, end));
                    // Nothing that is wanted was in it, but it should be known.
                    if let Some(junk) = place.take_junk(last, head.seq, Some(at)) {
                        let is_torn = last.0 < head.seq && head.group_first <= last.0;
                        self.miss(segment, self.next, Some(junk), is_torn);
                    }
                }
                Item::Record { at, head, payload } => {
                    let payload = payload.to_vec();
                    let end = at + head.size() as u64;
                    let last = std::mem::replace(&mut place.last, (head.seq + 1, end));
                    let mut junk = place.take_junk(last, head.seq, Some(at));
                    let is_settled = self.log.state().acks.covers(self.next..head.seq);
                    if junk.is_none() && !is_settled {
                        // Records that are zeros now look like filling.
                        junk = Some((last.1..at, false));
                    }
                    if head.seq > self.next || junk.is_some() {
                        let is_same_group = head.group_first <= self.next && head.seq > self.next;
                        self.miss(segment, head.seq, junk, is_settled && is_same_group);
                    }
                    self.next = head.seq + 1;
                    if !self.log.state().acks.contains(head.seq) {
                        bytes += payload.len();
                        records.push(Record {
                            seq: head.seq,
                            payload,
                        });
                    }
                }
                Item::Junk { at, is_unreadable } => place.junk = Some((at, is_unreadable)),
                Item::End => {
                    let junk = place.take_junk(place.last, segment.end, None);
                    if self.next < segment.end || junk.is_some() {
                        let is_torn = self.log.state().acks.covers(self.next..segment.end);
                        self.miss(segment, segment.end, junk, is_torn);
                    }
                    if segment.is_sealed {
                        self.place = None;
                    }
                    return Ok(Walked::AtEnd);
                }
            }
        }
    }

    /// Opens a segment, or looks anew at how far the open one goes; `false` if it is gone since
    /// nobody needs it any more.
    fn enter(&mut self, segment: &Segment, name: &str) -> Result<bool, StorageError> {
        if let Some(place) = &mut self.place
            && place.number == segment.number
        {
            place.scanner.extend(segment.data_end, segment.end);
            return Ok(true);
        }
        let file = match self.log.storage.open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It was removed since the look, all of it settled; or somebody took it away.
                self.place = None;
                let damage = Damage::new(name, 0..0, DamageKind::Missing);
                self.lose(segment, segment.end, damage);
                return Ok(false);
            }
            Err(source) => return Err(StorageError::new("open", name, source)),
        };
        let (salt, max_record) = (self.log.salt, self.log.options.max_record);
        self.place = Some(Place {
            number: segment.number,
            file,
            scanner: segment.scanner(segment.end, segment.end, salt, max_record),
            last: (segment.first, DATA),
            junk: None,
        });
        Ok(true)
    }

    /// Passes over records that are not there, up to `end`. `is_torn`: they look like what a write
    /// that was under way has left, and all of them are settled.
    fn miss(
        &mut self,
        segment: &Segment,
        end: SeqNo,
        junk: Option<(Range<u64>, bool)>,
        is_torn: bool,
    ) {
        let name = segment::name(segment.number);
        let (at, is_unreadable) = junk.unwrap_or((0..0, false));
        if is_unreadable {
            let mut state = self.log.state();
            let mut all = state.segments.iter_mut();
            if let Some(own) = all.find(|s| s.number == segment.number) {
                own.when_done = WhenDone::SetAside;
            }
        }
        let kind = match (is_unreadable, at.is_empty()) {
            (true, _) => DamageKind::Unreadable,
            (false, true) => DamageKind::Missing,
            (false, false) if is_torn => DamageKind::Torn,
            (false, false) => DamageKind::Damaged,
        };
        self.lose(segment, end, Damage::new(&name, at, kind));
    }

    fn lose(&mut self, segment: &Segment, end: SeqNo, damage: Damage) {
        let range = self.next..end.max(self.next);
        self.next = range.end;
        let state = self.log.state();
        if state.segments.iter().all(|s| s.number != segment.number) {
            // All of it was settled, and its file may be another segment by now.
            return;
        }
        let is_settled = state.acks.covers(range.clone());
        drop(state);
        // What is settled is nobody's loss, and its bytes may have been told when it was opened.
        if is_settled && (damage.bytes.is_empty() || !self.is_new(&damage)) {
            return;
        }
        self.log.note_damage(damage, range);
    }

    /// Whether a part of a file was not told to be damaged before.
    fn is_new(&self, damage: &Damage) -> bool {
        let state = self.log.state();
        let same = |told: &Damage| told.file == damage.file && told.bytes == damage.bytes;
        !state.damages.kept().any(same)
    }
}
