//! The write paths of the daemon: one of each kind, all into one store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use mds_coordinator::{ClockStart, DeadLetterQueue, DurableClock, Stats, WriteCoordinator};
use mds_core::{Kind, RevisionClock, Sourced};
use mds_server::{Lane, Lanes, Revisions, Tickets};
use mds_store::Store;

use crate::context::Context;
use crate::durable::{self, SourcedCodec};
use crate::pipeline::{self, MarketRecord};

/// Opens all of them, or none.
pub(super) async fn open(
    context: &Context,
    store: &Store,
    tickets: &Tickets,
) -> anyhow::Result<Lanes> {
    let last = store.last_revision().await?;
    let open = || -> anyhow::Result<Lanes> {
        Ok(Lanes {
            bars: lane(context, store, tickets, last)?,
            options: lane(context, store, tickets, last)?,
            fundamentals: lane(context, store, tickets, last)?,
            news: lane(context, store, tickets, last)?,
        })
    };
    // Nothing else runs yet that would have to wait for the disk.
    tokio::task::block_in_place(open)
}

fn lane<R: MarketRecord>(
    context: &Context,
    store: &Store,
    tickets: &Tickets,
    last: i64,
) -> anyhow::Result<Lane<R>> {
    let tickets = tickets.clone();
    let letters = pipeline::open_letters::<R>(&context.dlq_path(R::KIND))?;
    let queue = durable::open_queue::<R>(context, store)?;
    let revisions = match durable::folder_of::<R>(context) {
        None => Revisions::InMemory(Mutex::new(RevisionClock::new(last))),
        Some(folder) => {
            let failed = || format!("cannot use the queue in {}", folder.display());
            let clock = DurableClock::open(&folder).with_context(failed)?;
            clock.observe(last).with_context(failed)?;
            // The file says what was given and seen; where it does not, the rows that wait do.
            if clock.start() != ClockStart::Kept {
                let codec = SourcedCodec::default();
                let revision = |row: &Sourced<R>| row.record.revision();
                let waiting = clock.observe_waiting(&folder, &codec, revision);
                waiting.with_context(failed)?;
            }
            Revisions::Durable(clock)
        }
    };
    let settings = context.settings.coordinator();
    let mut builder = pipeline::coordinator::<R, _>(&settings, store.sink::<R>())
        .on_fate(move |row: &Sourced<R>, fate| tickets.note(row, fate))
        .dead_letters(Arc::<DeadLetterQueue<Sourced<R>>>::clone(&letters));
    if let Some(queue) = queue {
        builder = builder.durable_queue(queue);
    }
    Ok(Lane {
        coordinator: builder.start()?,
        revisions,
    })
}

/// The books of all kinds at the end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) books: Vec<(Kind, Stats)>,
    pub(super) timed_out: bool,
}

impl Ended {
    pub(super) fn is_balanced(&self) -> bool {
        self.books.iter().all(|(_, stats)| stats.is_balanced())
    }
}

/// Settles what was accepted, within `grace`; what a durable queue holds by then stays in it.
pub(super) async fn stop(lanes: &Lanes, grace: Duration) -> Ended {
    let (bars, options, fundamentals, news) = tokio::join!(
        stop_one(&lanes.bars.coordinator, grace),
        stop_one(&lanes.options.coordinator, grace),
        stop_one(&lanes.fundamentals.coordinator, grace),
        stop_one(&lanes.news.coordinator, grace),
    );
    let all = [
        (Kind::Bars, bars),
        (Kind::Options, options),
        (Kind::Fundamentals, fundamentals),
        (Kind::News, news),
    ];
    Ended {
        timed_out: all.iter().any(|(_, (_, timed_out))| *timed_out),
        books: all.map(|(kind, (stats, _))| (kind, stats)).into(),
    }
}

async fn stop_one<R: MarketRecord>(
    coordinator: &WriteCoordinator<Sourced<R>>,
    grace: Duration,
) -> (Stats, bool) {
    let stopped = coordinator.stop(true, grace).await;
    (stopped.stats, stopped.timed_out)
}
