//! The statements of one kind, spelled out of its columns.

use std::cmp::Ordering;

use mds_core::{Column, ColumnRole, ColumnType, Record};
use tokio_postgres::types::Type;

use super::encode;

/// The text of the statements for one kind.
#[derive(Debug)]
pub(crate) struct Sql {
    /// All columns of the table, to see of which types they are.
    pub(crate) table: String,
    /// The types that they should have.
    types: Vec<Type>,
    /// Copies rows that are new straight into the table.
    pub(crate) copy: String,
    /// Merges arrays of columns: which rows met a stored one, how they rank, and which rows were
    /// not written although they should have been.
    pub(crate) merge: String,
}

/// How a row of a batch ranks against the stored one, as `merge` and `compare` answer.
pub(crate) mod met {
    /// There was no stored row.
    pub(crate) const NEW: i16 = -1;
    /// The stored row ranks lower, by an older revision.
    pub(crate) const LOWER: i16 = 0;
    /// The stored row ranks lower although its revision is the same.
    pub(crate) const LOWER_CONFLICT: i16 = 1;
    /// The stored row is the same.
    pub(crate) const SAME: i16 = 2;
    /// The stored row ranks higher although its revision is the same.
    pub(crate) const HIGHER_CONFLICT: i16 = 3;
    /// The stored row ranks higher.
    pub(crate) const HIGHER: i16 = 4;
}

/// How the server is made to compare texts as everybody else does, by their bytes in UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Texts {
    /// Its own bytes are in the same order.
    Bytewise,
    /// The database has an encoding of another order.
    Recoded,
}

impl Texts {
    /// In a database of the encoding that the server calls `name`.
    pub(crate) fn of_encoding(name: &str) -> Self {
        match name {
            // What SQL_ASCII holds is what we have sent; Latin 1 is the beginning of Unicode.
            "UTF8" | "SQL_ASCII" | "LATIN1" => Self::Bytewise,
            _ => Self::Recoded,
        }
    }

    fn ordered(self, text: &str) -> String {
        match self {
            Self::Bytewise => format!("{text} COLLATE \"C\""),
            Self::Recoded => format!("convert_to({text}, 'UTF8')"),
        }
    }
}

impl Sql {
    /// The statements for `R`.
    pub(crate) fn of<R: Record>(texts: Texts) -> Self {
        let table = R::KIND.table();
        let columns = names::<R>();
        let list = columns.join(", ");
        let keys = key_columns::<R>();
        let input = format!(
            "SELECT * FROM unnest({}) WITH ORDINALITY AS u ({list}, ord)",
            numbered(types::<R>().into_iter(), 1)
        );
        let (stored, given) = (rank::<R>("t", texts), rank::<R>("i", texts));
        let class = format!(
            "CASE WHEN {given} > {stored} THEN CASE WHEN t.revision = i.revision THEN {} ELSE {} END \
             WHEN {given} = {stored} THEN {} WHEN t.revision = i.revision THEN {} ELSE {} END",
            met::LOWER_CONFLICT,
            met::LOWER,
            met::SAME,
            met::HIGHER_CONFLICT,
            met::HIGHER,
        );
        let conflict = keys.join(", ");
        let (excluded, target) = (rank::<R>("excluded", texts), rank::<R>(table, texts));
        let stored_columns = columns
            .iter()
            .map(|c| format!("s.{c}"))
            .collect::<Vec<_>>()
            .join(", ");
        let lookup = keys
            .iter()
            .map(|k| format!("s.{k} = i.{k}"))
            .collect::<Vec<_>>()
            .join(" AND ");
        Self {
            table: format!("SELECT {list} FROM {table}"),
            types: types::<R>(),
            copy: format!("COPY {table} ({list}) FROM STDIN (FORMAT binary)"),
            // One look at the index a row (LIMIT keeps the planner from reading the whole table).
            // A row that changes nothing is not even locked: its lock alone writes 170 bytes of
            // log. All others go through one INSERT in the order of keys, so that two merges never
            // wait for each other; its guard decides races. The last parameter is the first and the
            // last time of the rows, without which each row would be looked up in every part that a
            // table has.
            merge: format!(
                "WITH j AS MATERIALIZED (SELECT i.*, t.found, t.revision AS stored, \
                 ({class})::int2 AS class \
                 FROM ({input}) AS i LEFT JOIN LATERAL (SELECT {stored_columns}, true AS found \
                 FROM {table} AS s WHERE {lookup} AND s.{time} >= (${bounds}::timestamptz[])[1] \
                 AND s.{time} <= (${bounds}::timestamptz[])[2] LIMIT 1) AS t ON true), \
                 ins AS (INSERT INTO {table} ({list}) SELECT {list} FROM j \
                 WHERE {is_tried} ORDER BY j.ord \
                 ON CONFLICT ({conflict}) DO UPDATE SET {set} \
                 WHERE {excluded} > {target} RETURNING {conflict}) \
                 SELECT coalesce((SELECT array_agg(ord::int4) FROM j WHERE found), '{{}}'), \
                 coalesce((SELECT array_agg(class) FROM j WHERE found), '{{}}'), \
                 CASE WHEN (SELECT count(*) FROM ins) < (SELECT count(*) FROM j WHERE {is_tried}) \
                 THEN ARRAY(SELECT ord::int4 FROM j WHERE ({is_tried}) AND ({conflict}) NOT IN \
                 (SELECT {conflict} FROM ins)) ELSE '{{}}' END, \
                 coalesce((SELECT array_agg(stored) FROM j WHERE found), '{{}}')",
                is_tried = format_args!("found IS NULL OR class < {}", met::SAME),
                time = keys[0],
                bounds = columns.len() + 1,
                set = assignments::<R>("excluded"),
            ),
        }
    }
}

impl Sql {
    /// Whether columns have the types that values are encoded for.
    pub(crate) fn fits(&self, columns: &[tokio_postgres::Column]) -> bool {
        columns
            .iter()
            .map(tokio_postgres::Column::type_)
            .eq(&self.types)
    }
}

/// The types of all columns, the revision last.
pub(crate) fn types<R: Record>() -> Vec<Type> {
    let types = R::COLUMNS.iter().map(|c| encode::type_of(*c));
    types.chain([Type::INT8]).collect()
}

/// The statement that replaces stored rows where they were seen. Parameters: their places and who
/// wrote them, the changed values and the revision, and the keys of one row of each page. It says
/// how many were written, or, with `says_which`, answers which.
///
/// The place and the transaction that wrote it are the identity of one version of a row, as long as
/// their [`validity`] is the same. One row of each page is looked up by the index first, since only
/// that makes the server clear the page of old versions, and so makes room for the new. A place in
/// a table that somebody has cut into parts meanwhile would name a row in each of them.
pub(crate) fn replace<R: Record>(changed: &[bool], seen: Option<i64>, says_which: bool) -> String {
    let table = R::KIND.table();
    let columns = || R::COLUMNS.iter().zip(changed);
    let values = || columns().filter_map(|(c, is_changed)| is_changed.then_some(c));
    let names: Vec<_> = values().map(|c| c.name).chain(["revision"]).collect();
    let set: Vec<_> = names.iter().map(|c| format!("{c} = j.{c}")).collect();
    let key_parts = || R::COLUMNS.iter().filter(|c| c.role == ColumnRole::Key);
    let key_names: Vec<_> = key_parts().map(|c| c.name).collect();
    let lookup: Vec<_> = key_names.iter().map(|k| format!("s.{k} = p.{k}")).collect();
    let (with, ordinal) = if says_which {
        (" WITH ORDINALITY", ", ord")
    } else {
        ("", "")
    };
    let update = format!(
        "UPDATE {table} AS s SET {set} \
         FROM unnest($1::tid[], $2::xid[], {types}){with} AS j (place, writer, {names}{ordinal}) \
         WHERE s.ctid = j.place AND s.xmin = j.writer AND s.tableoid = '{table}'::regclass \
         AND {now} = {seen} AND (SELECT count(f.place) FROM unnest({key_types}) AS p ({key_names}) \
         CROSS JOIN LATERAL (SELECT s.ctid AS place FROM {table} AS s \
         WHERE {lookup} LIMIT 1) AS f) >= 0",
        key_types = numbered(key_parts().map(|c| encode::type_of(*c)), 3 + names.len()),
        key_names = key_names.join(", "),
        lookup = lookup.join(" AND "),
        now = validity(table),
        seen = seen.unwrap_or_default(),
        set = set.join(", "),
        types = numbered(values().map(|c| encode::type_of(*c)).chain([Type::INT8]), 3),
        names = names.join(", "),
    );
    if says_which {
        format!(
            "WITH u AS ({update} RETURNING j.ord) \
             SELECT coalesce(array_agg(ord::int4), '{{}}') FROM u"
        )
    } else {
        update
    }
}

/// An expression whose value changes when the places of rows that were seen in `table`, and their
/// writers, may name other rows; NULL where they never name one.
///
/// While the server runs, a place is not used again by the same transaction, but what writes a
/// table anew (VACUUM FULL, CLUSTER) moves rows and leaves their writers as they were: then the
/// file is another. A server that has crashed gives the numbers of transactions that were not on
/// disk to others, and so does the standby that takes its place: then it is not the same [`RUN`].
pub(crate) fn validity(table: &str) -> String {
    format!("({RUN}::int8 << 32) + pg_relation_filenode('{table}')::int8")
}

/// One run of a server, through which nothing that was committed is lost. A pooler keeps us
/// connected beyond it. The server has started at another time or, where one process of it was
/// killed and it has recovered by itself, has begun its statistics anew.
const RUN: &str = "hash_record(ROW(pg_postmaster_start_time(), \
     pg_stat_get_bgwriter_stat_reset_time()))";

/// Whether the run of the server is still the one in which `seen` was the [`validity`].
pub(crate) fn is_same_run(seen: Option<i64>) -> String {
    format!("{RUN}::int8 = {}", seen.unwrap_or_default() >> 32)
}

/// The place of what SQL counts from 1.
pub(crate) fn place_of(ordinal: i32) -> Option<usize> {
    usize::try_from(ordinal).ok()?.checked_sub(1)
}

/// The columns that are not part of the key, the revision last.
fn value_columns<R: Record>() -> impl Iterator<Item = &'static str> {
    let values = R::COLUMNS.iter().filter(|c| c.role == ColumnRole::Value);
    values.map(|c| c.name).chain(["revision"])
}

/// All values, set from a row of the name `from`.
fn assignments<R: Record>(from: &str) -> String {
    let set: Vec<_> = value_columns::<R>()
        .map(|c| format!("{c} = {from}.{c}"))
        .collect();
    set.join(", ")
}

/// All columns, the revision last.
pub(crate) fn names<R: Record>() -> Vec<&'static str> {
    let names = R::COLUMNS.iter().map(|c| c.name);
    names.chain(["revision"]).collect()
}

/// The columns of the natural key, the time first: rows that come in the order of time then land
/// on few pages of the index (twice as fast as with the symbol first).
pub(crate) fn key_columns<R: Record>() -> Vec<&'static str> {
    let is_key = |c: &&Column| c.role == ColumnRole::Key;
    let mut keys: Vec<&Column> = R::COLUMNS.iter().filter(is_key).collect();
    // Stable: the others keep the order of the key.
    keys.sort_by_key(|c| c.ty != ColumnType::Timestamp);
    keys.iter().map(|c| c.name).collect()
}

/// The order of keys in the index, in which all writers take rows.
pub(crate) fn key_cmp<R: Record>(a: &R, b: &R) -> Ordering {
    let keys = R::COLUMNS.iter().enumerate();
    let mut keys = keys.filter(|(_, c)| c.role == ColumnRole::Key);
    let mut order = a.time().cmp(&b.time());
    while order.is_eq()
        && let Some((position, _)) = keys.next()
    {
        order = a.value(position).rank_cmp(&b.value(position));
    }
    order
}

/// The same order in SQL.
pub(crate) fn key_order<R: Record>() -> String {
    let by = |name: &&str| match R::column(name).map(|position| R::COLUMNS[position].ty) {
        Some(ColumnType::Text | ColumnType::Timeframe | ColumnType::OptionType) => {
            format!("{name} COLLATE \"C\"")
        }
        _ => (*name).to_owned(),
    };
    key_columns::<R>()
        .iter()
        .map(by)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Array parameters of these types, from `first` on.
fn numbered(types: impl Iterator<Item = Type>, first: usize) -> String {
    let parameters: Vec<_> = (first..)
        .zip(types)
        .map(|(number, ty)| format!("${number}::{}[]", ty.name()))
        .collect();
    parameters.join(", ")
}

/// The rank of the row `of` as an SQL row value; compares as `Record::rank_cmp`. It has no NULL in
/// it: an absent number is below every number, an absent text below every text.
fn rank<R: Record>(of: &str, texts: Texts) -> String {
    let mut parts = Vec::new();
    if R::column("provisional").is_some() {
        parts.push(format!("(NOT {of}.provisional)"));
    }
    parts.push(format!("{of}.revision"));
    for column in R::COLUMNS {
        let name = column.name;
        match column.ty {
            _ if column.role == ColumnRole::Key || name == "provisional" => {}
            ColumnType::Float => {
                parts.push(format!("coalesce({of}.{name}, '-Infinity'::float8)"));
            }
            _ => {
                parts.push(format!("({of}.{name} IS NOT NULL)"));
                parts.push(texts.ordered(&format!("coalesce({of}.{name}, '')")));
            }
        }
    }
    format!("ROW({})", parts.join(", "))
}
