//! Which rows of a batch are stored already, found out on this side of the wire.
//!
//! A merge looks every row up by its key. Where most of the rows at the times of a batch are those
//! of the batch (the same file again, a later revision of it), reading them all costs the server a
//! tenth of that, and it writes nothing at all for what is the same. Where there are many others
//! at these times, the look gives up early and the batch is merged.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::error::Error as StdError;

use bytes::BytesMut;
use mds_core::{Column, ColumnRole, ColumnType, Record, Value};
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Column as RowColumn, Error, Row};

use super::connect::Session;
use super::encode::{self, ArrayParam};
use super::sql::{self, met};
use super::transaction::{self, Failed};

/// How many rows are read for each row of the batch, at most.
const READ_PER_ROW: usize = 3;

/// Where a version of a row is, and who wrote it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) ctid: [u8; 6],
    pub(crate) xmin: [u8; 4],
}

impl Place {
    /// The page that it is on.
    fn page(self) -> [u8; 4] {
        let [a, b, c, d, _, _] = self.ctid;
        [a, b, c, d]
    }
}

/// How each row of a batch ranks against the stored one.
#[derive(Debug)]
pub(crate) struct Compared {
    /// A class of [`met`] for each row.
    pub(crate) classes: Vec<i16>,
    /// Where the stored row is.
    pub(crate) places: Vec<Option<Place>>,
    /// The columns in which one of the lower rows differs.
    pub(crate) changed: Changed,
    /// For how long the places name the rows, as [`sql::validity`] says.
    pub(crate) validity: Option<i64>,
}

/// Which columns a replacement changes, by their position.
pub(crate) type Changed = Vec<bool>;

/// Any value, as the protocol has it.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Compares `rows` (keys differ, in the order of keys) with what is stored; `None` where there are
/// too many others at the same times, or where a column has another type than ours.
pub(crate) async fn compare<R: Record>(
    client: &Session,
    opening: &str,
    look: &Look,
    rows: &[&R],
) -> Result<Option<Compared>, Failed> {
    let params = encode::typed(&look.params);
    let stored = transaction::run_one(client, opening, &look.sql, &params).await?;
    // A column of another type is the server's to compare.
    let types = sql::types::<R>();
    let fits = |row: &Row| {
        types
            .iter()
            .eq(row.columns()[..types.len()].iter().map(RowColumn::type_))
    };
    if stored.len() >= look.limit || !stored.first().is_none_or(fits) {
        return Ok(None);
    }
    let mut known = Keys::new(rows);
    let mut compared = Compared {
        classes: vec![met::NEW; rows.len()],
        places: vec![None; rows.len()],
        changed: vec![false; R::COLUMNS.len()],
        validity: None,
    };
    if let Some(row) = stored.first() {
        compared.validity = row.try_get(R::COLUMNS.len() + 3)?;
    }
    let mut key = BytesMut::new();
    for row in &stored {
        key.clear();
        for (position, _) in columns::<R>(ColumnRole::Key) {
            let raw: Raw<'_> = row.try_get(position)?;
            encode::put_raw(&mut key, raw.0);
        }
        if let Some(number) = known.find(&key) {
            let class = class_of(rows[number], row)?;
            compared.classes[number] = class;
            if matches!(class, met::LOWER | met::LOWER_CONFLICT) {
                compared.places[number] = place_of::<R>(row)?;
                note_changes(&mut compared.changed, rows[number], row)?;
            }
        }
    }
    Ok(Some(compared))
}

/// Where the rows of a batch are: at their times, and with the parts of the key that all of them
/// have in common.
#[derive(Debug)]
pub(crate) struct Look {
    /// The query for all rows there, up to `limit` of them.
    sql: String,
    params: Vec<ArrayParam>,
    limit: usize,
}

impl Look {
    pub(crate) fn new<R: Record>(rows: &[&R], has_places: bool) -> Self {
        let mut params = Vec::new();
        let mut wanted = Vec::new();
        for (position, column) in columns::<R>(ColumnRole::Key) {
            let is_time = column.ty == ColumnType::Timestamp;
            let mut values = ArrayParam::new(encode::type_of(*column), 16);
            let mut last = Value::Null;
            for row in rows {
                let value = row.value(position);
                if value != last {
                    values.push(value);
                    last = value;
                }
                if !is_time && values.len() > 1 {
                    break;
                }
            }
            let number = params.len() + 1;
            if is_time {
                wanted.push(format!("{} = ANY (${number})", column.name));
                params.push(values);
            } else if values.len() == 1 {
                wanted.push(format!("{} = (${number})[1]", column.name));
                params.push(values);
            }
        }
        let condition = wanted.join(" AND ");
        let place = if has_places {
            format!("ctid, xmin, (SELECT {})", sql::validity(R::KIND.table()))
        } else {
            "NULL::tid, NULL::xid, NULL::int8".to_owned()
        };
        let limit = rows.len() * READ_PER_ROW + 1_000;
        let sql = format!(
            "SELECT {}, {place} FROM {} WHERE {condition} LIMIT {limit}",
            sql::names::<R>().join(", "),
            R::KIND.table(),
        );
        Self { sql, params, limit }
    }
}

/// Replaces stored rows where they were seen, unless somebody else was there meanwhile; answers
/// which were written.
pub(crate) async fn replace<R: Record>(
    client: &Session,
    opening: &str,
    rows: &[(&R, Place)],
    compared: &Compared,
) -> Result<Vec<bool>, Failed> {
    let changed = &compared.changed;
    let mut arrays = vec![
        ArrayParam::new(Type::TID, rows.len()),
        ArrayParam::new(Type::XID, rows.len()),
    ];
    for (_, place) in rows {
        arrays[0].push_raw(&place.ctid);
        arrays[1].push_raw(&place.xmin);
    }
    let records: Vec<&R> = rows.iter().map(|(row, _)| *row).collect();
    arrays.extend(encode::columns_of(&records, |position, _| {
        changed[position]
    }));
    let of_pages: Vec<&R> = rows
        .chunk_by(|(_, a), (_, b)| a.page() == b.page())
        .filter_map(|of_page| of_page.first().map(|(row, _)| *row))
        .collect();
    arrays.extend(encode::keys_of(&of_pages));
    let params = encode::typed(&arrays);
    let sql = sql::replace::<R>(changed, compared.validity, false);
    if transaction::run_counted(client, opening, &sql, &params, rows.len()).await? {
        return Ok(vec![true; rows.len()]);
    }
    // Somebody was there: the same once more, and this time it says which were written.
    let sql = sql::replace::<R>(changed, compared.validity, true);
    let answer = transaction::run_one(client, opening, &sql, &params).await?;
    let ordinals: Vec<i32> = transaction::only(&answer)?.try_get(0)?;
    let mut is_written = vec![false; rows.len()];
    for ordinal in ordinals {
        if let Some(is) = sql::place_of(ordinal).and_then(|p| is_written.get_mut(p)) {
            *is = true;
        }
    }
    Ok(is_written)
}

/// The columns of a role, with their positions.
fn columns<R: Record>(role: ColumnRole) -> impl Iterator<Item = (usize, &'static Column)> {
    let columns = R::COLUMNS.iter().enumerate();
    columns.filter(move |(_, column)| column.role == role)
}

/// The keys of the rows, as the protocol has them.
struct Keys {
    bytes: BytesMut,
    /// Where each ends.
    ends: Vec<usize>,
    /// The row that is asked for next, if the stored ones come in the same order.
    next: usize,
    /// Made when they do not.
    numbers: Option<HashMap<Vec<u8>, usize>>,
}

impl Keys {
    fn new<R: Record>(rows: &[&R]) -> Self {
        let mut bytes = BytesMut::new();
        let mut ends = Vec::with_capacity(rows.len());
        for row in rows {
            for (position, _) in columns::<R>(ColumnRole::Key) {
                encode::put(&mut bytes, row.value(position));
            }
            ends.push(bytes.len());
        }
        Self {
            bytes,
            ends,
            next: 0,
            numbers: None,
        }
    }

    fn key(&self, number: usize) -> Option<&[u8]> {
        let end = *self.ends.get(number)?;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    /// The number of the row of this key.
    fn find(&mut self, key: &[u8]) -> Option<usize> {
        if self.key(self.next) == Some(key) {
            self.next += 1;
            return Some(self.next - 1);
        }
        if self.numbers.is_none() {
            let keys = (0..self.ends.len()).filter_map(|number| self.key(number));
            self.numbers = Some(keys.map(<[u8]>::to_vec).zip(0..).collect());
        }
        let number = *self.numbers.as_ref()?.get(key)?;
        self.next = number + 1;
        Some(number)
    }
}

/// How `ours` ranks against the stored row: as `Record::rank_cmp`, without making a record of it.
fn class_of<R: Record>(ours: &R, stored: &Row) -> Result<i16, Error> {
    let revision: i64 = stored.try_get(R::COLUMNS.len())?;
    let mut rank = match R::column("provisional") {
        Some(position) => {
            let provisional: bool = stored.try_get(position)?;
            ours.is_settled().cmp(&!provisional)
        }
        None => Ordering::Equal,
    };
    rank = rank.then(ours.revision().cmp(&revision));
    let mut values = columns::<R>(ColumnRole::Value);
    while rank.is_eq()
        && let Some((position, _)) = values.next()
    {
        let raw: Raw<'_> = stored.try_get(position)?;
        rank = value_cmp(ours.value(position), raw.0);
    }
    let same_revision = ours.revision() == revision;
    Ok(match (rank, same_revision) {
        (Ordering::Equal, _) => met::SAME,
        (Ordering::Greater, true) => met::LOWER_CONFLICT,
        (Ordering::Greater, false) => met::LOWER,
        (Ordering::Less, true) => met::HIGHER_CONFLICT,
        (Ordering::Less, false) => met::HIGHER,
    })
}

/// Absent lowest, text bytewise, numbers as the server orders them.
fn value_cmp(ours: Value<'_>, stored: Option<&[u8]>) -> Ordering {
    match (ours, stored) {
        (Value::Null, None) => Ordering::Equal,
        (Value::Null, Some(_)) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Value::Text(text), Some(raw)) => text.as_bytes().cmp(raw),
        (Value::Float(number), Some(raw)) => {
            let stored = raw.try_into().map_or(f64::NAN, f64::from_be_bytes);
            // NaN is above all others, and another program may have put one there.
            let or_nan = || number.is_nan().cmp(&stored.is_nan());
            number.partial_cmp(&stored).unwrap_or_else(or_nan)
        }
        (other, Some(raw)) => {
            let mut bytes = BytesMut::new();
            encode::put(&mut bytes, other);
            // Behind its length.
            bytes[4..].cmp(raw)
        }
    }
}

/// Notes the columns in which `ours` differs from the stored row, to the last bit.
fn note_changes<R: Record>(changed: &mut Changed, ours: &R, stored: &Row) -> Result<(), Error> {
    for (position, _) in columns::<R>(ColumnRole::Value) {
        if !changed[position] {
            let raw: Raw<'_> = stored.try_get(position)?;
            changed[position] = match (ours.value(position), raw.0) {
                (Value::Null, None) => false,
                (Value::Float(number), Some(raw)) => number.to_be_bytes() != raw,
                (value, raw) => value_cmp(value, raw).is_ne(),
            };
        }
    }
    Ok(())
}

fn place_of<R: Record>(row: &Row) -> Result<Option<Place>, Error> {
    let ctid: Raw<'_> = row.try_get(R::COLUMNS.len() + 1)?;
    let xmin: Raw<'_> = row.try_get(R::COLUMNS.len() + 2)?;
    let (Some(ctid), Some(xmin)) = (ctid.0, xmin.0) else {
        return Ok(None);
    };
    let place = ctid.try_into().ok().zip(xmin.try_into().ok());
    Ok(place.map(|(ctid, xmin)| Place { ctid, xmin }))
}
