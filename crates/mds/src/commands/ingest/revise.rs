//! Gives the rows of an input their revisions, and tells which bars were not over yet.
//!
//! A bar that had not ended when its file was last changed is provisional. A bar that had not even
//! begun cannot be in such a file: there the file's time is not to be believed (a clock that was
//! wrong, a tool that does not keep times), and the moment counts at which the content was seen for
//! the first time.

use std::sync::Arc;

use mds_core::revision::MAX_AHEAD_MICROS;
use mds_core::{Kind, Origin, Sourced, Timestamp};
use mds_formats::InvalidRow;

use super::input;
use crate::pipeline::MarketRecord;

/// What the rows of an input are given; all in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Revisions {
    /// The revision of the first row; the others count on.
    pub(super) base: i64,
    /// The moment as of which the input holds what it holds.
    pub(super) as_of: i64,
    /// What that moment is called in messages.
    pub(super) as_of_is: &'static str,
    /// When the input was seen for the first time.
    pub(super) first_seen: i64,
}

impl Revisions {
    /// Revisions from `base` on, for rows that are as of that moment, and are seen now.
    pub(super) fn from(base: Timestamp, as_of_is: &'static str) -> Self {
        Self {
            base: base.micros(),
            as_of: base.micros(),
            as_of_is,
            first_seen: input::now().micros(),
        }
    }

    /// What a person should know where bars begin after the moment that they should be as of.
    fn note(&self) -> String {
        let (as_of, first_seen) = (
            Timestamp::from_micros(self.as_of),
            Timestamp::from_micros(self.first_seen),
        );
        format!(
            "{} {as_of}, before its bars begin: whether a bar was over is judged by {first_seen}, \
             when it was read first",
            self.as_of_is
        )
    }
}

/// Gives revisions to rows, one after the other.
#[derive(Debug)]
pub(super) struct Reviser {
    revisions: Revisions,
    /// Revisions beyond this one are refused.
    latest: i64,
    /// Whether a bar began after the moment that it should be as of.
    is_early: bool,
    is_told: bool,
    /// Rows that did not bring a revision of their own.
    pub(super) given: u64,
}

impl Reviser {
    pub(super) fn new(revisions: Revisions) -> Self {
        Self {
            revisions,
            latest: latest(),
            is_early: false,
            is_told: false,
            given: 0,
        }
    }

    /// Looks at the clock; once for many rows.
    pub(super) fn look_at_clock(&mut self) {
        self.latest = latest();
    }

    /// What a person should know about the rows so far; nothing is said twice.
    pub(super) fn note(&mut self) -> Option<String> {
        let is_news = self.is_early && !self.is_told;
        self.is_told |= is_news;
        is_news.then(|| self.revisions.note())
    }

    /// The record with its revision, unless that lies in the future: it would shadow every later
    /// correction.
    pub(super) fn revise<R: MarketRecord>(
        &mut self,
        mut sourced: Sourced<R>,
        ordinal: u64,
    ) -> Result<Sourced<R>, Box<InvalidRow>> {
        let mut as_of = sourced.record.revision();
        if as_of == 0 {
            let ordinal = i64::try_from(ordinal).unwrap_or(i64::MAX);
            let revision = self.revisions.base.saturating_add(ordinal);
            sourced.record.set_revision(revision);
            as_of = self.revisions.as_of;
            self.given += 1;
            let start = sourced.record.time().micros();
            self.is_early |=
                R::KIND == Kind::Bars && start > as_of && start <= self.revisions.first_seen;
        }
        if sourced.record.time().micros() > as_of {
            as_of = as_of.max(self.revisions.first_seen);
        }
        if sourced.record.revision() > self.latest {
            return Err(Box::new(ahead(&sourced, ordinal)));
        }
        sourced
            .record
            .mark_provisional(Timestamp::from_micros(as_of));
        Ok(sourced)
    }
}

fn latest() -> i64 {
    input::now().micros().saturating_add(MAX_AHEAD_MICROS)
}

fn ahead<R: MarketRecord>(sourced: &Sourced<R>, ordinal: u64) -> InvalidRow {
    InvalidRow {
        origin: sourced.origin.clone().unwrap_or_else(|| Origin {
            path: Arc::from("-"),
            line: ordinal + 1,
        }),
        ordinal,
        // The record as JSON stands for its line.
        raw: serde_json::to_vec(&sourced.record).unwrap_or_default(),
        truncated: false,
        field: "revision".into(),
        value: sourced.record.revision().to_string(),
        rule: "a revision cannot be more than 5 minutes ahead of the clock".into(),
        code: "revision_ahead",
    }
}
