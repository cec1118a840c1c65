//! What each SQLSTATE means for a write: the one table.
//!
//! Codes and their names: PostgreSQL's manual, appendix A ("PostgreSQL Error Codes").

use mds_core::ErrorKind;

/// A five-letter code, or a class of two letters, and its meaning. The longest match counts.
const TABLE: &[(&str, ErrorKind, &str)] = &[
    // The connection, and what the server runs on: waiting helps.
    ("08", ErrorKind::Environment, "connection exception"),
    ("08P01", ErrorKind::Fatal, "protocol violation"),
    ("25006", ErrorKind::Environment, "read only sql transaction"),
    ("53", ErrorKind::Environment, "insufficient resources"),
    ("53100", ErrorKind::Environment, "disk full"),
    ("53200", ErrorKind::Environment, "out of memory"),
    ("53300", ErrorKind::Environment, "too many connections"),
    ("55P03", ErrorKind::Environment, "lock not available"),
    ("57", ErrorKind::Environment, "operator intervention"),
    ("57P01", ErrorKind::Environment, "admin shutdown"),
    ("57P02", ErrorKind::Environment, "crash shutdown"),
    ("57P03", ErrorKind::Environment, "cannot connect now"),
    ("57P04", ErrorKind::Environment, "database dropped"),
    ("57P05", ErrorKind::Environment, "idle session timeout"),
    ("58", ErrorKind::Environment, "system error"),
    ("58030", ErrorKind::Environment, "io error"),
    // This attempt failed, the next may not.
    ("25P02", ErrorKind::Transient, "in failed sql transaction"),
    (
        "25P03",
        ErrorKind::Transient,
        "idle in transaction session timeout",
    ),
    ("40", ErrorKind::Transient, "transaction rollback"),
    ("40001", ErrorKind::Transient, "serialization failure"),
    ("40P01", ErrorKind::Transient, "deadlock detected"),
    ("57014", ErrorKind::Transient, "query canceled"),
    // The server refuses a row; its neighbours are innocent.
    ("22", ErrorKind::Rejected, "data exception"),
    ("23", ErrorKind::Rejected, "integrity constraint violation"),
    ("44", ErrorKind::Rejected, "with check option violation"),
    ("54000", ErrorKind::Rejected, "program limit exceeded"),
    ("P0001", ErrorKind::Rejected, "raise exception"),
    // Our own mistake, or a schema and a role that do not fit: a person is needed.
    ("21000", ErrorKind::Fatal, "cardinality violation"),
    ("22P03", ErrorKind::Fatal, "invalid binary representation"),
    ("22P04", ErrorKind::Fatal, "bad copy file format"),
    (
        "28",
        ErrorKind::Fatal,
        "invalid authorization specification",
    ),
    ("3D", ErrorKind::Fatal, "invalid catalog name"),
    ("3F", ErrorKind::Fatal, "invalid schema name"),
    (
        "42",
        ErrorKind::Fatal,
        "syntax error or access rule violation",
    ),
    ("XX001", ErrorKind::Fatal, "data corrupted"),
    ("XX002", ErrorKind::Fatal, "index corrupted"),
];

/// What an SQLSTATE means for a write.
pub(crate) fn kind_of(code: &str) -> ErrorKind {
    let class = code.get(..2).unwrap_or_default();
    let find = |wanted: &str| TABLE.iter().find(|(code, ..)| *code == wanted);
    find(code)
        .or_else(|| find(class))
        .map_or(ErrorKind::Unknown, |(_, kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_what_it_says() {
        for (code, kind, name) in TABLE {
            assert_eq!(kind_of(code), *kind, "{code} ({name})");
        }
        for (code, kind) in [
            ("08006", ErrorKind::Environment),
            ("53400", ErrorKind::Environment),
            ("57P05", ErrorKind::Environment),
            ("40002", ErrorKind::Transient),
            ("22003", ErrorKind::Rejected),
            ("22021", ErrorKind::Rejected),
            ("23502", ErrorKind::Rejected),
            ("23503", ErrorKind::Rejected),
            ("23505", ErrorKind::Rejected),
            ("23514", ErrorKind::Rejected),
            ("28P01", ErrorKind::Fatal),
            ("28000", ErrorKind::Fatal),
            ("3D000", ErrorKind::Fatal),
            ("42P01", ErrorKind::Fatal),
            ("42501", ErrorKind::Fatal),
            ("42P10", ErrorKind::Fatal),
            ("XX000", ErrorKind::Unknown),
            ("0A000", ErrorKind::Unknown),
            ("P0002", ErrorKind::Unknown),
            ("", ErrorKind::Unknown),
            ("é", ErrorKind::Unknown),
        ] {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }
}
