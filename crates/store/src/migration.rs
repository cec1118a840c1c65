//! What migrations did, or would do.

/// One numbered change of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStep {
    /// Its number, from 1.
    pub version: i64,
    /// What it does, in a few words.
    pub name: &'static str,
    /// SHA-256 of its statements, in hexadecimal.
    pub checksum: String,
}

/// The answer to a request to migrate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationReport {
    /// The version before; 0 for an empty database.
    pub from: i64,
    /// The version after (with `plan`: the version that would be reached).
    pub to: i64,
    /// The steps applied, or with `plan` the steps that would be, in order.
    pub steps: Vec<MigrationStep>,
    /// Whether the steps were applied.
    pub applied: bool,
    /// What was done beyond new tables, in words, in order: what it took to adopt a database that
    /// another program made, and what the settings of TimescaleDB asked for.
    pub actions: Vec<String>,
    /// What a person should know about it.
    pub notes: Vec<String>,
    /// With `plan`: what would stop the migration, all of it.
    pub problems: Vec<String>,
}
