//! Threads that hand in records, wait until they are durable, and settle them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use mds_wal::{Ticket, WriteAheadQueue};

use super::super::measure::float;

/// How records are handed in.
pub(super) struct Load {
    pub(super) producers: u16,
    pub(super) record_bytes: usize,
    /// Records of an append.
    pub(super) chunk: usize,
    /// Records of a producer that are not answered yet.
    pub(super) in_flight: usize,
    /// Whether all records are read meanwhile.
    pub(super) reads: bool,
}

impl Load {
    /// As many as there is time for; how many that was.
    pub(super) fn full(&self, queue: &WriteAheadQueue, time: Duration) -> anyhow::Result<u64> {
        let end = Instant::now() + time;
        self.with_reader(queue, || {
            std::thread::scope(|scope| {
                let threads = (0..self.producers).map(|_| scope.spawn(|| self.push(queue, end)));
                let threads: Vec<_> = threads.collect();
                threads.into_iter().map(join).sum()
            })
        })
    }

    /// At `rate` records a second: how many, and the seconds from handing each append in until it
    /// was known to be durable.
    pub(super) fn steady(
        &self,
        queue: &WriteAheadQueue,
        time: Duration,
        rate: f64,
    ) -> anyhow::Result<(u64, Vec<f64>)> {
        let appends = rate / float(self.chunk as u64) / f64::from(self.producers);
        let interval = Duration::try_from_secs_f64(1.0 / appends)?;
        let (mut records, mut times) = (0, Vec::new());
        self.with_reader(queue, || {
            std::thread::scope(|scope| {
                let mut threads = Vec::new();
                let begin = Instant::now();
                for producer in 0..self.producers {
                    let (send, receive) = channel();
                    let offset = interval.mul_f64(f64::from(producer) / f64::from(self.producers));
                    let offer =
                        move || self.offer(queue, begin + offset, begin + time, interval, &send);
                    threads.push((
                        scope.spawn(offer),
                        scope.spawn(move || answers(queue, &receive)),
                    ));
                }
                for (offers, answers) in threads {
                    records += join(offers)?;
                    times.extend(join(answers)?);
                }
                Ok(0)
            })
        })?;
        Ok((records, times))
    }

    fn record(&self) -> Vec<u8> {
        std::iter::repeat_with(fastrand::alphanumeric)
            .take(self.record_bytes)
            .map(|c| u8::try_from(c).unwrap_or(b'.'))
            .collect()
    }

    /// A producer that waits only when too much of it is on its way.
    fn push(&self, queue: &WriteAheadQueue, end: Instant) -> anyhow::Result<u64> {
        let record = self.record();
        let mut open: VecDeque<Ticket> = VecDeque::new();
        let mut records = 0;
        while records == 0 || Instant::now() < end {
            if (open.len() + 1) * self.chunk > self.in_flight.max(self.chunk)
                && let Some(oldest) = open.pop_front()
            {
                settle(queue, oldest)?;
            }
            open.push_back(queue.append(std::iter::repeat_n(&record, self.chunk))?);
            records += self.chunk as u64;
        }
        open.into_iter()
            .try_for_each(|ticket| settle(queue, ticket))?;
        Ok(records)
    }

    /// A producer that hands in an append each `interval`, whether the ones before are answered or
    /// not.
    fn offer(
        &self,
        queue: &WriteAheadQueue,
        begin: Instant,
        end: Instant,
        interval: Duration,
        sent: &std::sync::mpsc::Sender<(Instant, Ticket)>,
    ) -> anyhow::Result<u64> {
        let record = self.record();
        let (mut due, mut records) = (begin, 0);
        loop {
            let now = Instant::now();
            // One at least, however late it is.
            if now >= end && records > 0 {
                return Ok(records);
            }
            if now < due {
                std::thread::sleep(due - now);
                continue;
            }
            let ticket = queue.append(std::iter::repeat_n(&record, self.chunk))?;
            records += self.chunk as u64;
            sent.send((now, ticket))?;
            due += interval;
        }
    }

    /// Does `work` while a reader reads all that is durable, if one is wanted.
    fn with_reader(
        &self,
        queue: &WriteAheadQueue,
        work: impl FnOnce() -> anyhow::Result<u64>,
    ) -> anyhow::Result<u64> {
        if !self.reads {
            return work();
        }
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read(queue, &is_over));
            let done = work();
            is_over.store(true, Ordering::Release);
            join(reader)?;
            done
        })
    }
}

fn join<T>(thread: ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("a thread has panicked"))?
}

fn settle(queue: &WriteAheadQueue, ticket: Ticket) -> anyhow::Result<()> {
    let range = ticket.wait()?;
    queue.ack(range, 0);
    Ok(())
}

/// Waits for each append in turn; the seconds that each took.
fn answers(
    queue: &WriteAheadQueue,
    sent: &Receiver<(Instant, Ticket)>,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for (submitted, ticket) in sent {
        let range = ticket.wait()?;
        times.push(submitted.elapsed().as_secs_f64());
        queue.ack(range, 0);
    }
    Ok(times)
}

fn read(queue: &WriteAheadQueue, is_over: &AtomicBool) -> anyhow::Result<()> {
    let mut reader = queue.reader();
    while !is_over.load(Ordering::Acquire) {
        if reader.read(10_000, 1 << 20)?.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}
