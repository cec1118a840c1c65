//! What a table must have for records of one kind, and how an existing column gets there.

use mds_core::{Column, ColumnRole, ColumnType, Record};

use super::catalog::{ColumnShape, quoted};

/// A column as our schema has it.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) name: &'static str,
    pub(crate) ty: WantedType,
    pub(crate) is_key: bool,
    pub(crate) is_not_null: bool,
    /// A key's texts are compared bytewise, not by the language of the database.
    pub(crate) collation: &'static str,
    /// As SQL, for a column that is added.
    pub(crate) default: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WantedType {
    Text,
    Float,
    Bool,
    BigInt,
    Timestamp,
    Date,
    Uuid,
}

impl WantedType {
    /// As SQL spells it.
    pub(crate) const fn sql(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Float => "double precision",
            Self::Bool => "boolean",
            Self::BigInt => "bigint",
            Self::Timestamp => "timestamp with time zone",
            Self::Date => "date",
            Self::Uuid => "uuid",
        }
    }
}

impl Wanted {
    /// As it stands in a statement that adds it.
    pub(crate) fn definition(&self) -> String {
        let ty = self.ty.sql();
        let not_null = if self.is_not_null { " NOT NULL" } else { "" };
        let default = self.default.map(|d| format!(" DEFAULT {d}"));
        format!(
            "{} {ty}{}{not_null}{}",
            self.name,
            self.collation,
            default.unwrap_or_default()
        )
    }
}

/// The columns of `R`, the revision last.
pub(crate) fn columns<R: Record>() -> Vec<Wanted> {
    let revision = Wanted {
        name: "revision",
        ty: WantedType::BigInt,
        is_key: false,
        is_not_null: true,
        collation: "",
        default: Some("0"),
    };
    let of = |column: &Column| {
        let is_key = column.role == ColumnRole::Key;
        Wanted {
            name: column.name,
            ty: type_of(column.ty),
            is_key,
            is_not_null: is_key || column.ty == ColumnType::Bool,
            collation: if is_key && type_of(column.ty) == WantedType::Text {
                " COLLATE \"C\""
            } else {
                ""
            },
            default: match column.name {
                "period" => Some("''"),
                _ if column.ty == ColumnType::Bool => Some("false"),
                _ => None,
            },
        }
    };
    R::COLUMNS.iter().map(of).chain([revision]).collect()
}

const fn type_of(ty: ColumnType) -> WantedType {
    match ty {
        ColumnType::Text | ColumnType::Symbols | ColumnType::Timeframe | ColumnType::OptionType => {
            WantedType::Text
        }
        ColumnType::Float => WantedType::Float,
        ColumnType::Bool => WantedType::Bool,
        ColumnType::Timestamp => WantedType::Timestamp,
        ColumnType::Date => WantedType::Date,
        ColumnType::Tenant => WantedType::Uuid,
    }
}

/// The value of an existing column in the wanted type, as SQL; `None` where the one cannot be made
/// of the other.
pub(super) fn converted(column: &ColumnShape, ty: WantedType) -> Option<String> {
    let name = quoted(&column.name);
    Some(match (ty, column.base.as_str()) {
        (WantedType::Text, "text")
        | (WantedType::Float, "float8")
        | (WantedType::Bool, "bool")
        | (WantedType::BigInt, "int8")
        | (WantedType::Timestamp, "timestamptz")
        | (WantedType::Date, "date")
        | (WantedType::Uuid, "uuid") => name,
        (WantedType::Text, "varchar" | "bpchar" | "uuid" | "int2" | "int4" | "int8" | "citext") => {
            format!("{name}::text")
        }
        (WantedType::Float, "numeric" | "int2" | "int4" | "int8") => {
            format!("{name}::double precision")
        }
        // By its text, or 0.1 would become 0.10000000149011612.
        (WantedType::Float, "float4") => format!("{name}::text::double precision"),
        (WantedType::BigInt, "int2" | "int4") => format!("{name}::bigint"),
        _ => return None,
    })
}

/// Which values of a column a double does not hold: their shortest text in the new type is another
/// number. SQL that is true for such a value; `None` where there can be none.
pub(super) fn inexact(column: &ColumnShape) -> Option<String> {
    let name = quoted(&column.name);
    let differs = format!("{name}::double precision::text::numeric <> {name}");
    match (column.base.as_str(), column.precision) {
        ("numeric", Some((digits, _))) if digits <= DIGITS => None,
        // A cheap test first: fewer digits than these are always held.
        ("numeric", Some((_, scale))) => {
            let digits = DIGITS - scale;
            Some(format!("abs({name}) >= 1e{digits}::numeric AND {differs}"))
        }
        ("numeric", None) => Some(differs),
        ("int8", _) => Some(format!(
            "abs({name}::numeric) > {EXACT_INTEGERS} AND {differs}"
        )),
        _ => None,
    }
}

/// Decimal digits that every double holds.
const DIGITS: i32 = 15;
/// Whole numbers up to here are doubles, each of them.
const EXACT_INTEGERS: i64 = 1 << 53;

#[cfg(test)]
mod tests {
    use super::*;

    fn column(base: &str, precision: Option<(i32, i32)>) -> ColumnShape {
        ColumnShape {
            name: "c".to_owned(),
            ty: base.to_owned(),
            base: base.to_owned(),
            collation: None,
            is_not_null: false,
            fills_itself: false,
            default: None,
            is_generated: false,
            precision,
        }
    }

    #[test]
    fn what_becomes_of_a_type() {
        let of = |base, ty| converted(&column(base, None), ty);
        assert_eq!(
            of("numeric", WantedType::Float).unwrap(),
            "\"c\"::double precision"
        );
        assert_eq!(of("varchar", WantedType::Text).unwrap(), "\"c\"::text");
        assert_eq!(of("timestamptz", WantedType::Timestamp).unwrap(), "\"c\"");
        // Nobody knows of which zone it is.
        assert_eq!(of("timestamp", WantedType::Timestamp), None);
        assert_eq!(of("varchar", WantedType::Uuid), None);
    }

    #[test]
    fn only_long_numbers_are_looked_at() {
        assert_eq!(inexact(&column("numeric", Some((12, 2)))), None);
        assert_eq!(
            inexact(&column("numeric", Some((20, 8)))).unwrap(),
            "abs(\"c\") >= 1e7::numeric AND \"c\"::double precision::text::numeric <> \"c\""
        );
        assert_eq!(inexact(&column("float4", None)), None);
    }
}
