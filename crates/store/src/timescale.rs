//! What is wanted of TimescaleDB.

/// Whether TimescaleDB is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimescaleMode {
    /// Where the database has the extension.
    #[default]
    Auto,
    /// Always: the extension is made where it is missing, and it is an error if it cannot be.
    On,
    /// Not even where the database has the extension: new tables are plain ones.
    Off,
}

/// How the tables of bars and options lie in a database that has TimescaleDB.
///
/// What is absent here is left as it is in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimescaleOptions {
    /// Whether TimescaleDB is used. Default: where the database has it.
    pub mode: TimescaleMode,
    /// Days of a chunk. Default: 7 for a hypertable that is made, else as it is.
    pub chunk_days: Option<u32>,
    /// How many days old a chunk is when it is compressed; 0: not any more. Default: as it is.
    pub compress_after_days: Option<u32>,
    /// How many days old a chunk is when it is deleted; 0: not any more. Default: as it is.
    pub retention_days: Option<u32>,
}

impl TimescaleOptions {
    pub(crate) fn compresses_or_deletes(self) -> bool {
        let is_on = |days: Option<u32>| days.is_some_and(|days| days > 0);
        is_on(self.compress_after_days) || is_on(self.retention_days)
    }

    pub(crate) fn asks_for_more(self) -> bool {
        self.chunk_days.is_some() || self.compresses_or_deletes()
    }
}
