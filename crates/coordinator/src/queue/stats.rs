//! The books: how many records had which fate.

use std::time::Duration;

use mds_core::BackpressureLevel;

use crate::dead_letter::Reason;
use crate::overflow::Refusal;

/// How one accepted record ended. Each record has exactly one fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The store committed it.
    Written,
    /// The store, or the batch, had a record of equal or higher rank for its key.
    Superseded,
    /// It is in the dead letters.
    DeadLettered(Reason),
    /// It is gone, and counted.
    Dropped(Reason),
}

/// Counts by [`Reason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByReason([u64; Reason::ALL.len()]);

impl ByReason {
    /// The count of one reason.
    pub fn get(&self, reason: Reason) -> u64 {
        Reason::ALL
            .iter()
            .position(|r| *r == reason)
            .map_or(0, |i| self.0[i])
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().zip(self.0.iter().copied())
    }

    fn add(&mut self, reason: Reason, rows: u64) {
        if let Some(i) = Reason::ALL.iter().position(|r| *r == reason) {
            self.0[i] += rows;
        }
    }
}

/// One cut through a coordinator's books.
///
/// `submitted + recovered = written + superseded + dead_lettered + dropped + damaged + queued +
/// in_flight`, at every instant ([`Stats::is_balanced`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records accepted.
    pub submitted: u64,
    /// Records found in a durable queue at the start.
    pub recovered: u64,
    /// Records committed by the store.
    pub written: u64,
    /// Records that lost to one of equal or higher rank.
    pub superseded: u64,
    /// Records in the dead letters.
    pub dead_lettered: ByReason,
    /// Records that are gone.
    pub dropped: ByReason,
    /// Records of a durable queue whose bytes were damaged.
    pub damaged: u64,
    /// Records that wait.
    pub queued: u64,
    /// Records that a worker, or the writer of dead letters, holds.
    pub in_flight: u64,
    /// Records that were never accepted, by reason; outside of the equation.
    pub refused: [u64; Refusal::ALL.len()],
    /// Records that met another of the same key and revision with other values.
    pub conflicts: u64,
    /// Bytes of the records that wait.
    pub queued_bytes: u64,
    /// How long the oldest record that has no fate yet has been here.
    pub oldest_age: Option<Duration>,
    /// The pressure.
    pub level: BackpressureLevel,
}

impl Stats {
    /// Whether the equation holds.
    pub fn is_balanced(&self) -> bool {
        self.submitted + self.recovered
            == self.written
                + self.superseded
                + self.dead_lettered.total()
                + self.dropped.total()
                + self.damaged
                + self.queued
                + self.in_flight
    }

    /// Records that have their fate.
    pub fn resolved(&self) -> u64 {
        self.written + self.superseded + self.dead_lettered.total() + self.dropped.total()
    }

    /// Records refused, over all reasons.
    pub fn refused_total(&self) -> u64 {
        self.refused.iter().sum()
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, rows: u64) {
        if let Some(i) = Refusal::ALL.iter().position(|r| *r == refusal) {
            self.refused[i] += rows;
        }
    }

    pub(super) fn settle(&mut self, fate: Fate, rows: u64) {
        self.in_flight -= rows;
        match fate {
            Fate::Written => self.written += rows,
            Fate::Superseded => self.superseded += rows,
            Fate::DeadLettered(reason) => self.dead_lettered.add(reason, rows),
            Fate::Dropped(reason) => self.dropped.add(reason, rows),
        }
    }
}
