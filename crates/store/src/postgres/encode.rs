//! Values in the binary form of PostgreSQL's protocol.
//!
//! The same bytes serve a row of `COPY ... (FORMAT binary)` and an element of an array parameter:
//! a length (4 bytes, -1 for NULL) and the value. Formats: the server's `*_send` functions, and
//! "COPY / File Formats / Binary Format" of its manual.

use std::error::Error;
use std::io::Write as _;

use super::transaction::Param;
use bytes::{BufMut as _, BytesMut};
use mds_core::{Column, ColumnRole, ColumnType, Record, Value};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
pub(crate) const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Days between the same.
pub(crate) const EPOCH_DAYS: i32 = 10_957;

/// The head of a binary COPY: signature, flags, length of the extension.
pub(crate) const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The end of a binary COPY.
pub(crate) const COPY_END: &[u8] = &[0xff, 0xff];

/// The type of a column.
pub(crate) const fn type_of(column: Column) -> Type {
    match column.ty {
        ColumnType::Text | ColumnType::Symbols | ColumnType::Timeframe | ColumnType::OptionType => {
            Type::TEXT
        }
        ColumnType::Float => Type::FLOAT8,
        ColumnType::Bool => Type::BOOL,
        ColumnType::Timestamp => Type::TIMESTAMPTZ,
        ColumnType::Date => Type::DATE,
        ColumnType::Tenant => Type::UUID,
    }
}

/// Appends the length and the bytes of a value.
pub(crate) fn put(out: &mut BytesMut, value: Value<'_>) {
    match value {
        Value::Null => out.put_i32(-1),
        Value::Text(text) => put_bytes(out, text.as_bytes()),
        Value::OptionType(ty) => put_bytes(out, ty.as_str().as_bytes()),
        Value::Float(number) => {
            out.put_i32(8);
            out.put_f64(number);
        }
        Value::Bool(flag) => {
            out.put_i32(1);
            out.put_u8(u8::from(flag));
        }
        Value::Timestamp(time) => {
            out.put_i32(8);
            out.put_i64(time.micros().saturating_sub(EPOCH_MICROS));
        }
        Value::Date(date) => {
            out.put_i32(4);
            out.put_i32(date.days().saturating_sub(EPOCH_DAYS));
        }
        Value::Tenant(tenant) => put_bytes(out, tenant.as_bytes()),
        value @ (Value::Symbols(_) | Value::Timeframe(_)) => put_display(out, value),
    }
}

/// Appends the length and the bytes of a value that came from the server.
pub(crate) fn put_raw(out: &mut BytesMut, raw: Option<&[u8]>) {
    match raw {
        Some(raw) => put_bytes(out, raw),
        None => out.put_i32(-1),
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    // A field is bounded far below 2 GiB by the limits of what is read.
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.put_slice(bytes);
}

/// A value by its text, without a text of its own in between.
fn put_display(out: &mut BytesMut, value: Value<'_>) {
    let start = out.len();
    out.put_i32(0);
    // Writing into memory cannot fail.
    let mut writer = (&mut *out).writer();
    drop(write!(writer, "{value}"));
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a row of a binary COPY of all columns and the revision.
pub(crate) fn put_row<R: Record>(out: &mut BytesMut, record: &R) {
    let columns = R::COLUMNS.len();
    out.put_i16(i16::try_from(columns + 1).unwrap_or(i16::MAX));
    for column in 0..columns {
        put(out, record.value(column));
    }
    out.put_i32(8);
    out.put_i64(record.revision());
}

/// An array parameter, encoded already.
#[derive(Debug)]
pub(crate) struct ArrayParam {
    element: Type,
    count: i32,
    elements: BytesMut,
}

impl ArrayParam {
    /// An array of `element`s with room for `rows`.
    pub(crate) fn new(element: Type, rows: usize) -> Self {
        Self {
            element,
            count: 0,
            elements: BytesMut::with_capacity(rows * 12),
        }
    }

    pub(crate) fn push(&mut self, value: Value<'_>) {
        self.count += 1;
        put(&mut self.elements, value);
    }

    /// How many elements it has.
    pub(crate) fn len(&self) -> i32 {
        self.count
    }

    /// The type of the array, for a statement that is sent with its parameters.
    pub(crate) fn ty(&self) -> Type {
        match self.element {
            Type::TEXT => Type::TEXT_ARRAY,
            Type::FLOAT8 => Type::FLOAT8_ARRAY,
            Type::BOOL => Type::BOOL_ARRAY,
            Type::TIMESTAMPTZ => Type::TIMESTAMPTZ_ARRAY,
            Type::DATE => Type::DATE_ARRAY,
            Type::UUID => Type::UUID_ARRAY,
            Type::TID => Type::TID_ARRAY,
            Type::XID => Type::XID_ARRAY,
            _ => Type::INT8_ARRAY,
        }
    }

    /// An element in the form that the protocol has it.
    pub(crate) fn push_raw(&mut self, raw: &[u8]) {
        self.count += 1;
        put_raw(&mut self.elements, Some(raw));
    }

    pub(crate) fn push_i64(&mut self, value: i64) {
        self.count += 1;
        self.elements.put_i32(8);
        self.elements.put_i64(value);
    }
}

impl ToSql for ArrayParam {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        // Dimensions, whether there may be NULLs, element type, length, lower bound.
        out.put_i32(1);
        out.put_i32(1);
        out.put_u32(self.element.oid());
        out.put_i32(self.count);
        out.put_i32(1);
        out.extend_from_slice(&self.elements);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}

/// The wanted columns of `rows` as parameters of `unnest`, the revision last.
pub(crate) fn columns_of<R: Record>(
    rows: &[&R],
    is_wanted: impl Fn(usize, &Column) -> bool,
) -> Vec<ArrayParam> {
    let mut params = arrays(rows, is_wanted);
    let mut revisions = ArrayParam::new(Type::INT8, rows.len());
    for row in rows {
        revisions.push_i64(row.revision());
    }
    params.push(revisions);
    params
}

/// The first and the last time of `rows`, which are in the order of time.
pub(crate) fn bounds_of<R: Record>(rows: &[&R]) -> ArrayParam {
    let mut bounds = ArrayParam::new(Type::TIMESTAMPTZ, 2);
    for row in rows.first().into_iter().chain(rows.last()) {
        bounds.push(Value::Timestamp(row.time()));
    }
    bounds
}

/// The keys of `rows`.
pub(crate) fn keys_of<R: Record>(rows: &[&R]) -> Vec<ArrayParam> {
    arrays(rows, |_, column| column.role == ColumnRole::Key)
}

fn arrays<R: Record>(rows: &[&R], is_wanted: impl Fn(usize, &Column) -> bool) -> Vec<ArrayParam> {
    let columns = R::COLUMNS.iter().enumerate();
    let columns = columns.filter(|(index, column)| is_wanted(*index, column));
    columns
        .map(|(index, column)| {
            let mut param = ArrayParam::new(type_of(*column), rows.len());
            for row in rows {
                param.push(row.value(index));
            }
            param
        })
        .collect()
}

/// Arrays as the parameters of a statement that is sent with them.
pub(crate) fn typed(arrays: &[ArrayParam]) -> Vec<Param<'_>> {
    let typed = arrays.iter().map(|a| (a as &(dyn ToSql + Sync), a.ty()));
    typed.collect()
}
