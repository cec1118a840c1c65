//! What each SQLSTATE means for a write: the one table.
//!
//! Codes and their names: PostgreSQL's manual, appendix A ("PostgreSQL Error Codes").

use mds_core::ErrorKind::{self, Environment, Fatal, Rejected, Transient};

/// A five-letter code, or a class of two letters; its meaning; its name; and what a person should do
/// about it, where the server's own words do not say. The longest match counts.
const TABLE: &[(&str, ErrorKind, &str, &str)] = &[
    // The connection, and what the server runs on: waiting helps.
    //
    // Poolers say 08P01 for whatever befalls the server behind them.
    ("08", Environment, "connection exception", ""),
    (
        "25006",
        Environment,
        "read only sql transaction",
        "the server is a standby, or set to read only; name the one that takes writes, or \
         several hosts, of which it is found",
    ),
    ("53", Environment, "insufficient resources", ""),
    (
        "53100",
        Environment,
        "disk full",
        "free space on the server",
    ),
    ("53200", Environment, "out of memory", ""),
    (
        "53300",
        Environment,
        "too many connections",
        "use fewer workers, or raise the limit of the server or the role",
    ),
    (
        "55P03",
        Environment,
        "lock not available",
        "another session holds a lock; pg_locks says which",
    ),
    ("57", Environment, "operator intervention", ""),
    ("57P01", Environment, "admin shutdown", ""),
    ("57P02", Environment, "crash shutdown", ""),
    ("57P03", Environment, "cannot connect now", ""),
    ("57P04", Environment, "database dropped", ""),
    ("57P05", Environment, "idle session timeout", ""),
    ("58", Environment, "system error", ""),
    ("58030", Environment, "io error", ""),
    // This attempt failed, the next may not.
    ("25P02", Transient, "in failed sql transaction", ""),
    (
        "25P03",
        Transient,
        "idle in transaction session timeout",
        "",
    ),
    ("40", Transient, "transaction rollback", ""),
    ("40001", Transient, "serialization failure", ""),
    ("40P01", Transient, "deadlock detected", ""),
    ("57014", Transient, "query canceled", ""),
    // The server refuses a row; its neighbours are innocent.
    ("22", Rejected, "data exception", ""),
    ("23", Rejected, "integrity constraint violation", ""),
    ("44", Rejected, "with check option violation", ""),
    ("54000", Rejected, "program limit exceeded", ""),
    ("P0001", Rejected, "raise exception", ""),
    // Our own mistake, or a schema and a role that do not fit: a person is needed.
    (
        "0A000",
        Fatal,
        "feature not supported",
        "the tables must be as mds migrate makes them, without rules",
    ),
    ("21000", Fatal, "cardinality violation", ""),
    ("22P03", Fatal, "invalid binary representation", ""),
    ("22P04", Fatal, "bad copy file format", ""),
    (
        "28",
        Fatal,
        "invalid authorization specification",
        "check the user in the URL, and pg_hba.conf of the server",
    ),
    (
        "28P01",
        Fatal,
        "invalid password",
        "check the password in the URL, PGPASSWORD or ~/.pgpass, in this order",
    ),
    (
        "3D",
        Fatal,
        "invalid catalog name",
        "make it with createdb, or name another in the URL",
    ),
    (
        "3F",
        Fatal,
        "invalid schema name",
        "make the schema that search_path names",
    ),
    (
        "42",
        Fatal,
        "syntax error or access rule violation",
        "the tables must be as mds migrate makes them, and mds migrate --plan says what they have \
         lost",
    ),
    (
        "42501",
        Fatal,
        "insufficient privilege",
        "GRANT the role what it lacks",
    ),
    (
        "XX001",
        Fatal,
        "data corrupted",
        "restore the server's data from a backup",
    ),
    (
        "XX002",
        Fatal,
        "index corrupted",
        "REINDEX it, or restore the server's data from a backup",
    ),
];

type Row = (&'static str, ErrorKind, &'static str, &'static str);

fn find(code: &str) -> Option<&'static Row> {
    let class = code.get(..2).unwrap_or_default();
    let row = |wanted: &str| TABLE.iter().find(|(code, ..)| *code == wanted);
    row(code).or_else(|| row(class))
}

/// What an SQLSTATE means for a write.
pub(crate) fn kind_of(code: &str) -> ErrorKind {
    find(code).map_or(ErrorKind::Unknown, |(_, kind, ..)| *kind)
}

/// What a person should do about it, where the server's own words do not say.
pub(crate) fn advice_on(code: &str) -> Option<&'static str> {
    let advice = find(code).map(|(.., advice)| *advice);
    advice.filter(|advice| !advice.is_empty())
}

#[cfg(test)]
mod tests {
    use mds_core::ErrorKind::Unknown;

    use super::*;

    #[test]
    fn every_row_of_the_table_is_what_it_says() {
        for (code, kind, name, _) in TABLE {
            assert_eq!(kind_of(code), *kind, "{code} ({name})");
        }
        for (code, kind) in [
            ("08006", Environment),
            ("08P01", Environment),
            ("53400", Environment),
            ("57P05", Environment),
            ("40002", Transient),
            ("22003", Rejected),
            ("22021", Rejected),
            ("23502", Rejected),
            ("23503", Rejected),
            ("23505", Rejected),
            ("23514", Rejected),
            ("28P01", Fatal),
            ("28000", Fatal),
            ("3D000", Fatal),
            ("42P01", Fatal),
            ("42501", Fatal),
            ("42P10", Fatal),
            ("XX000", Unknown),
            ("0A000", Fatal),
            ("P0002", Unknown),
            ("", Unknown),
            ("é", Unknown),
        ] {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }

    #[test]
    fn whoever_is_needed_is_told_what_to_do() {
        for (code, kind, name, advice) in TABLE {
            // Our own mistakes are not for the person to mend.
            let is_ours = ["21000", "22P03", "22P04"].contains(code);
            if *kind == Fatal && !is_ours {
                assert!(!advice.is_empty(), "{code} ({name})");
            }
        }
        assert_eq!(
            advice_on("42P01"),
            Some(
                "the tables must be as mds migrate makes them, and mds migrate --plan says what \
                 they have lost"
            )
        );
        assert_eq!(advice_on("57P03"), None);
        assert_eq!(advice_on(""), None);
    }
}
