//! What was found damaged, where exactly, and where its bytes are now.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use crate::SeqNo;
use crate::storage::{Storage, read_full};

/// Reports that are kept in memory; all are counted and logged.
const KEPT: usize = 1_000;
/// How the name of a copy ends.
pub(crate) const ENDING: &str = ".damaged";

/// What kind of damage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DamageKind {
    /// Bytes that were durable are not what was written.
    Damaged,
    /// The end of what was written last: a write that was under way when power was lost, whose
    /// records nobody was told to be durable; or damage to the last records.
    Torn,
    /// Records are gone with their file.
    Missing,
    /// The storage does not give the bytes.
    Unreadable,
    /// One of two copies of a head or a checkpoint: the other one was whole.
    Copy,
}

impl DamageKind {
    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Torn => "torn",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Copy => "copy",
        }
    }
}

/// A damaged part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Its bytes, from 0.
    pub bytes: Range<u64>,
    /// What kind it is.
    pub kind: DamageKind,
    /// Records that are known to be lost by it.
    pub records: u64,
    /// The number of the first of them.
    pub first: SeqNo,
    /// The file that holds a copy of the bytes, if one could be made.
    pub copy: Option<String>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, start, end) = (&self.file, self.bytes.start, self.bytes.end);
        match (self.kind, self.bytes.is_empty()) {
            (DamageKind::Copy, true) => write!(f, "{file}, one of two copies, cannot be used")?,
            (DamageKind::Copy, false) => {
                write!(f, "{file}: bytes {start} to {end}, kept twice, are damaged")?;
            }
            (DamageKind::Missing, true) if start > 0 => {
                write!(
                    f,
                    "{file}: nothing is behind byte {start}, where more should be"
                )?;
            }
            (kind, true) => write!(f, "{file} is {}", kind.as_str())?,
            (kind, false) => write!(f, "{file}: bytes {start} to {end} are {}", kind.as_str())?,
        }
        match self.records {
            0 => write!(f, ", no record is known to be lost")?,
            1 => write!(f, ", record {} is lost", self.first)?,
            n => write!(f, ", {n} records from {} on are lost", self.first)?,
        }
        match &self.copy {
            Some(copy) => write!(f, "; their bytes are in {copy}"),
            None => Ok(()),
        }
    }
}

impl Damage {
    pub(crate) fn new(file: &str, bytes: Range<u64>, kind: DamageKind) -> Self {
        Self {
            file: file.to_owned(),
            bytes,
            kind,
            records: 0,
            first: 0,
            copy: None,
        }
    }

    /// Whether something is lost by it that was durable, or may be: not what a power loss leaves of
    /// a write that nobody was told to be durable, and not one of two copies.
    pub fn is_loss(&self) -> bool {
        self.records > 0 || !matches!(self.kind, DamageKind::Torn | DamageKind::Copy)
    }

    /// Copies the bytes into a file of their own. That they cannot be copied keeps nothing else
    /// from going on.
    pub(crate) fn set_aside(&self, storage: &dyn Storage) -> Option<String> {
        let has_bytes = matches!(self.kind, DamageKind::Damaged | DamageKind::Torn);
        if !has_bytes || self.bytes.is_empty() {
            return None;
        }
        let name = format!(
            "{}.{}-{}{ENDING}",
            self.file, self.bytes.start, self.bytes.end
        );
        let copied = || -> std::io::Result<()> {
            let from = storage.open(&self.file)?;
            let to = match storage.create(&name, 0) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
                other => other?,
            };
            let mut buffer = vec![0; 64 << 10];
            let mut at = self.bytes.start;
            while at < self.bytes.end {
                let left = usize::try_from(self.bytes.end - at).unwrap_or(usize::MAX);
                let size = left.min(buffer.len());
                let read = read_full(from.as_ref(), &mut buffer[..size], at)?;
                if read == 0 {
                    break;
                }
                to.write_all_at(&buffer[..read], at - self.bytes.start)?;
                at += read as u64;
            }
            to.sync()
        };
        match copied() {
            Ok(()) => Some(name),
            Err(error) => {
                tracing::error!(file = %self.file, %error, "damaged bytes cannot be copied aside");
                None
            }
        }
    }
}

/// All damage so far.
#[derive(Debug, Default)]
pub(crate) struct Damages {
    /// The folder, for the log.
    place: String,
    kept: VecDeque<Damage>,
    count: u64,
    bytes: u64,
}

impl Damages {
    /// None yet, in a folder.
    pub(crate) fn at(place: String) -> Self {
        Self {
            place,
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, damage: Damage) {
        let place = &self.place;
        match damage.kind {
            DamageKind::Torn if damage.records == 0 => tracing::warn!("{place}: {damage}"),
            _ => tracing::error!("{place}: {damage}"),
        }
        self.count += 1;
        self.bytes += damage.bytes.end - damage.bytes.start;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(damage);
    }

    pub(crate) fn kept(&self) -> impl Iterator<Item = &Damage> {
        self.kept.iter()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
