//! What can be asked of a store, and the shapes of its answers.

use mds_core::{Kind, Symbol, TenantId, Timeframe, Timestamp, Vendor};
use tokio::sync::mpsc;

use crate::StoreError;

/// Which records; a field that is empty or `None` does not restrict.
///
/// ```
/// use mds_core::{Timeframe, Timestamp};
/// use mds_store::{Order, Query};
///
/// let query = Query {
///     symbols: vec!["btcusdt".into()],
///     timeframe: Some(Timeframe::MINUTE),
///     start: Timestamp::parse("2024-11-01T00:00:00Z").ok(),
///     limit: Some(10),
///     order: Order::NewestFirst,
///     ..Query::default()
/// };
/// assert_eq!(query.symbols[0].as_str(), "BTCUSDT");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Whose records; `None` means those of every tenant.
    pub tenant: Option<TenantId>,
    /// Of which instruments; empty means of all. News matches where any of its symbols does.
    pub symbols: Vec<Symbol>,
    /// From which vendor.
    pub vendor: Option<Vendor>,
    /// Of which span; for kinds other than bars it does not restrict.
    pub timeframe: Option<Timeframe>,
    /// The earliest time, inclusive.
    pub start: Option<Timestamp>,
    /// The latest time, exclusive.
    pub end: Option<Timestamp>,
    /// At most so many records, counted in `order`. A deletion ignores it.
    pub limit: Option<u64>,
    /// In which order.
    pub order: Order,
}

/// The order of an answer: by time, then by the rest of the natural key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Ascending.
    #[default]
    OldestFirst,
    /// Descending.
    NewestFirst,
}

/// The answer to a query, a chunk at a time.
///
/// All chunks show the store as of one moment. Dropping it ends the query; while it is kept, the
/// space of records replaced meanwhile is not reused.
#[derive(Debug)]
pub struct Chunks<R> {
    receiver: mpsc::Receiver<Result<Vec<R>, StoreError>>,
}

impl<R> Chunks<R> {
    pub(crate) const fn new(receiver: mpsc::Receiver<Result<Vec<R>, StoreError>>) -> Self {
        Self { receiver }
    }

    /// The next chunk, never empty; `None` after the last one, and after an error.
    ///
    /// Cancel-safe: a chunk is either returned or still there.
    pub async fn next(&mut self) -> Option<Result<Vec<R>, StoreError>> {
        self.receiver.recv().await
    }

    /// The same for a thread that may block; panics inside an async context.
    pub fn blocking_next(&mut self) -> Option<Result<Vec<R>, StoreError>> {
        self.receiver.blocking_recv()
    }

    /// All that is left, in memory at once.
    pub async fn collect(mut self) -> Result<Vec<R>, StoreError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            all.append(&mut chunk?);
        }
        Ok(all)
    }
}

/// The last known price of one instrument from one vendor.
#[derive(Clone, Debug, PartialEq)]
pub struct LatestPrice {
    /// Whose record it is.
    pub tenant_id: TenantId,
    /// Where it came from.
    pub vendor: Vendor,
    /// The instrument.
    pub symbol: Symbol,
    /// The close of the bar with the latest start that has a close; of several spans that start
    /// together, of the shortest.
    pub price: f64,
    /// The start of that bar.
    pub price_timestamp: Timestamp,
}

/// What a store holds.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreStats {
    /// One entry a kind, in the order of [`Kind::ALL`].
    pub kinds: Vec<KindStats>,
    /// Size of the database file.
    pub file_bytes: u64,
    /// Size of the log beside it, which a checkpoint moves into the database.
    pub log_bytes: u64,
    /// How recent the data of each vendor is, by kind, tenant, vendor and time frame.
    pub freshness: Vec<Freshness>,
}

/// What a store holds of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindStats {
    /// The kind.
    pub kind: Kind,
    /// Records.
    pub rows: u64,
    /// Distinct (tenant, vendor, symbol, time frame) that have records; for news distinct (tenant,
    /// vendor). A file counts those as well whose records were all deleted.
    pub series: u64,
    /// The time of the first record.
    pub earliest: Option<Timestamp>,
    /// The time of the last record.
    pub latest: Option<Timestamp>,
}

/// How recent the data of one vendor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The kind.
    pub kind: Kind,
    /// Whose records.
    pub tenant_id: TenantId,
    /// From whom.
    pub vendor: Vendor,
    /// The span of bars; `None` for other kinds.
    pub timeframe: Option<Timeframe>,
    /// Series with at least one record.
    pub series: u64,
    /// The time of the last record.
    pub latest: Timestamp,
}
