//! Opening a folder: what is there, what of it is whole, and from where to go on.
//!
//! - A segment that was there before is never written again: the first group goes into a new one. So
//!   what an unfinished write has left behind cannot be mixed up with what comes.
//! - Of all segments but the last only the first block is read; their records are checked when they
//!   are delivered. The last one is walked through to its end, and the room behind it, which a process
//!   that was killed has left, is given back.
//! - Content is never a reason to fail. Only what a person has to decide is: another version, a
//!   folder that belongs to something else, another process, a storage that does not answer.
//! - Nothing is changed before it is known that the folder is the one that is wanted.

use crate::SeqNo;
use crate::acks::Acks;
use crate::checkpoint::Checkpoints;
use crate::damage::{Damage, Damages, ENDING};
use crate::error::{OpenError, StorageError};
use crate::identity::{self, Identity};
use crate::log::{LogOptions, Opened, Segment, State, WhenDone};
use crate::record::blocks;
use crate::segment;
use crate::storage::Storage;
use crate::survey::{Survey, survey};
use crate::walk::{Findings, judge, walk};

/// What opening has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Records of before that wait, with those of them that turned out to be damaged.
    pub records: u64,
    /// Of these, the ones that are known to be damaged by now.
    pub damaged: u64,
    /// The first number that waits.
    pub first: SeqNo,
    /// The number of the next record.
    pub next: SeqNo,
    /// A random number that the queue in this folder has kept since it was made.
    pub queue: u64,
    /// A checkpoint of before says what became of its records: the queue is not new, and not both of
    /// its checkpoints are lost.
    pub is_continued: bool,
    /// Everything that was found damaged.
    pub damages: Vec<Damage>,
}

/// Opens a folder, and makes the queue in it if there is none.
pub(crate) fn open(
    storage: &dyn Storage,
    options: LogOptions,
    wanted: &Identity,
) -> Result<(Opened, Recovery), OpenError> {
    let failed = |operation, source| StorageError::new(operation, "", source);
    let lock = storage.lock().map_err(|e| failed("lock", e))?;
    let lock = lock.ok_or(OpenError::InUse)?;
    let survey = survey(storage, options.max_record)?;
    let salt = identity::settle(storage, &survey, wanted)?;
    clear(storage, &survey);
    let mut checkpoints = Checkpoints::open(storage, &survey)?;
    let next_number = survey.next_number;
    let is_continued = survey.newest.is_some();
    let state = state(storage, options, survey, salt)?;
    // That torn records count as settled must not be found out anew, with more behind them.
    checkpoints.write(salt, state.durable, state.acks.clone())?;
    storage.sync_dir().map_err(|e| failed("sync", e))?;
    let recovery = recovery_of(&state, salt, is_continued);
    let opened = Opened {
        state,
        salt,
        identity: identity::checksum(wanted),
        next_number,
        checkpoints,
        lock,
    };
    Ok((opened, recovery))
}

/// Puts away what is no part of the queue.
fn clear(storage: &dyn Storage, survey: &Survey) {
    for spare in &survey.spares {
        let name = segment::name(spare.number);
        // One that stays is found empty again.
        if let Err(error) = storage.remove(&name) {
            tracing::warn!(file = name, %error, "an empty segment cannot be removed");
        }
    }
    for foreign in &survey.foreign {
        let name = segment::name(foreign.number);
        if let Err(error) = storage.rename(&name, &format!("{name}{ENDING}")) {
            tracing::error!(file = name, %error, "a file of another queue cannot be set aside");
        }
    }
}

fn state(
    storage: &dyn Storage,
    options: LogOptions,
    survey: Survey,
    salt: u64,
) -> Result<State, OpenError> {
    let checkpointed = survey.checkpointed();
    let mut segments = survey.segments;
    let lowest = segments.front().map_or(1, |first| first.first);
    let acks = survey.newest.map_or_else(|| Acks::new(lowest), |c| c.acks);
    let findings = match segments.back_mut() {
        Some(last) => {
            let name = segment::name(last.number);
            // A process that was killed has left writes that are readable and not durable yet.
            let synced = storage.open(&name).and_then(|file| file.sync());
            synced.map_err(|source| StorageError::new("sync", &name, source))?;
            let walk = walk(storage, last, checkpointed, None, salt, options.max_record)?;
            last.end = walk.end;
            if walk.is_unreadable() {
                last.when_done = WhenDone::SetAside;
            }
            if !walk.has_holes() && walk.end >= checkpointed {
                give_back(storage, last, walk.data_end());
            }
            walk.judge(last, checkpointed, &acks)
        }
        None => Findings::default(),
    };
    let verdict = judge(&segments, findings, acks, checkpointed);
    let mut damages = Damages::at(storage.place());
    survey.damages.into_iter().for_each(|d| damages.add(d));
    for mut damage in verdict.damages {
        damage.copy = damage.set_aside(storage);
        damages.add(damage);
    }
    Ok(State {
        acks: verdict.acks,
        segments,
        durable: verdict.durable,
        is_dirty: false,
        damages,
    })
}

/// A process that was killed has left the room that it had made for more records. Where it cannot be
/// given back it is only kept for longer.
fn give_back(storage: &dyn Storage, segment: &mut Segment, data_end: u64) {
    let end = blocks(data_end);
    if end >= segment.len {
        return;
    }
    let name = segment::name(segment.number);
    let shortened = storage.open(&name).and_then(|file| file.truncate(end));
    if shortened.is_ok() {
        segment.len = end;
        segment.data_end = end;
    }
}

fn recovery_of(state: &State, queue: u64, is_continued: bool) -> Recovery {
    let damages: Vec<Damage> = state.damages.kept().cloned().collect();
    let lost = damages.iter().map(|damage| damage.records).sum();
    let mut first = None;
    state.acks.each_open(0..state.durable, |gap| {
        first.get_or_insert(gap.start);
    });
    Recovery {
        records: state.backlog() + lost,
        damaged: lost,
        first: first.unwrap_or(state.durable),
        next: state.durable,
        queue,
        is_continued,
        damages,
    }
}
