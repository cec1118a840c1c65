//! How each Rust type of a field becomes a [`Value`] and is read from text; and the macro that
//! spells a record's column table out of its fields.

use smol_str::SmolStr;

use crate::ids::{Symbol, TenantId, Timeframe, Vendor};
use crate::model::{ColumnType, OptionType, Value};
use crate::time::{Date, Timestamp};

/// A type that a record's field can have.
pub(super) trait Field {
    const TYPE: ColumnType;
    /// The field as a value.
    fn value(&self) -> Value<'_>;
    /// Reads the field from text; the error is the rule that the text breaks.
    fn set_text(&mut self, text: &str) -> Result<(), &'static str>;
}

macro_rules! parsed_field {
    ($type:ty, $variant:ident, $rule:literal) => {
        impl Field for $type {
            const TYPE: ColumnType = ColumnType::$variant;

            fn value(&self) -> Value<'_> {
                Value::$variant(*self)
            }

            fn set_text(&mut self, text: &str) -> Result<(), &'static str> {
                *self = text.trim().parse().map_err(|_| $rule)?;
                Ok(())
            }
        }
    };
}

parsed_field!(
    Timestamp,
    Timestamp,
    "must be a time with an offset, such as 2024-11-01T00:00:00Z"
);
parsed_field!(Date, Date, "must be a date, such as 2024-11-01");
parsed_field!(
    Timeframe,
    Timeframe,
    "must be a time frame, such as 1m, 1h or 1d"
);
parsed_field!(OptionType, OptionType, "must be C or P");
parsed_field!(f64, Float, "must be a number");

impl Field for TenantId {
    const TYPE: ColumnType = ColumnType::Tenant;

    fn value(&self) -> Value<'_> {
        Value::Tenant(*self)
    }

    fn set_text(&mut self, text: &str) -> Result<(), &'static str> {
        *self = if text.trim().is_empty() {
            Self::DEFAULT
        } else {
            text.parse().map_err(|_| "must be a UUID")?
        };
        Ok(())
    }
}

impl Field for Option<f64> {
    const TYPE: ColumnType = ColumnType::Float;

    fn value(&self) -> Value<'_> {
        self.map_or(Value::Null, Value::Float)
    }

    fn set_text(&mut self, text: &str) -> Result<(), &'static str> {
        let trimmed = text.trim();
        *self = if trimmed.is_empty() {
            None
        } else {
            Some(trimmed.parse().map_err(|_| "must be a number")?)
        };
        Ok(())
    }
}

impl Field for bool {
    const TYPE: ColumnType = ColumnType::Bool;

    fn value(&self) -> Value<'_> {
        Value::Bool(*self)
    }

    fn set_text(&mut self, text: &str) -> Result<(), &'static str> {
        *self = match text.trim().to_ascii_lowercase().as_str() {
            "" | "false" | "0" | "f" => false,
            "true" | "1" | "t" => true,
            _ => return Err("must be true or false"),
        };
        Ok(())
    }
}

macro_rules! id_field {
    ($type:ty) => {
        impl Field for $type {
            const TYPE: ColumnType = ColumnType::Text;

            fn value(&self) -> Value<'_> {
                Value::Text(self.as_str())
            }

            fn set_text(&mut self, text: &str) -> Result<(), &'static str> {
                *self = Self::new(text);
                Ok(())
            }
        }
    };
}

id_field!(Symbol);
id_field!(Vendor);

impl Field for Option<Symbol> {
    const TYPE: ColumnType = ColumnType::Text;

    fn value(&self) -> Value<'_> {
        self.as_ref()
            .map_or(Value::Null, |s| Value::Text(s.as_str()))
    }

    fn set_text(&mut self, text: &str) -> Result<(), &'static str> {
        let symbol = Symbol::new(text);
        *self = (!symbol.is_empty()).then_some(symbol);
        Ok(())
    }
}

impl Field for Vec<Symbol> {
    const TYPE: ColumnType = ColumnType::Symbols;

    fn value(&self) -> Value<'_> {
        if self.is_empty() {
            Value::Null
        } else {
            Value::Symbols(self)
        }
    }

    fn set_text(&mut self, text: &str) -> Result<(), &'static str> {
        *self = text
            .split(',')
            .map(Symbol::new)
            .filter(|s| !s.is_empty())
            .collect();
        Ok(())
    }
}

impl Field for SmolStr {
    const TYPE: ColumnType = ColumnType::Text;

    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }

    fn set_text(&mut self, text: &str) -> Result<(), &'static str> {
        *self = Self::new(text);
        Ok(())
    }
}

impl Field for Option<String> {
    const TYPE: ColumnType = ColumnType::Text;

    fn value(&self) -> Value<'_> {
        self.as_deref().map_or(Value::Null, Value::Text)
    }

    fn set_text(&mut self, text: &str) -> Result<(), &'static str> {
        *self = (!text.is_empty()).then(|| text.to_owned());
        Ok(())
    }
}

/// The order of a key part; strikes are floats, which have no `Ord`.
pub(super) trait KeyCmp {
    fn key_cmp(&self, other: &Self) -> std::cmp::Ordering;
}

macro_rules! key_cmp_by_ord {
    ($($type:ty),+) => {
        $(impl KeyCmp for $type {
            fn key_cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.cmp(other)
            }
        })+
    };
}

key_cmp_by_ord!(
    TenantId, Vendor, Symbol, Timeframe, Timestamp, Date, OptionType, SmolStr
);

impl KeyCmp for f64 {
    fn key_cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.total_cmp(other)
    }
}

/// Writes `COLUMNS`, `value`, `set` and the accessors that only name a field.
macro_rules! columns {
    (time: $time:ident; key: $($key:ident: $key_ty:ty),+; values: $($val:ident: $val_ty:ty),+ $(,)?) => {
        const COLUMNS: &'static [$crate::model::Column] = &[
            $($crate::model::Column {
                name: stringify!($key),
                ty: <$key_ty as $crate::model::field::Field>::TYPE,
                role: $crate::model::ColumnRole::Key,
            },)+
            $($crate::model::Column {
                name: stringify!($val),
                ty: <$val_ty as $crate::model::field::Field>::TYPE,
                role: $crate::model::ColumnRole::Value,
            },)+
        ];

        fn value(&self, column: usize) -> $crate::model::Value<'_> {
            use $crate::model::field::Field;
            let mut at = 0;
            $(if column == at { return Field::value(&self.$key); } at += 1;)+
            $(if column == at { return Field::value(&self.$val); } at += 1;)+
            debug_assert!(column < at, "no column {column}");
            $crate::model::Value::Null
        }

        fn set(&mut self, column: usize, text: &str) -> Result<(), $crate::model::Invalid> {
            use $crate::model::field::Field;
            let mut at = 0;
            $(if column == at {
                return Field::set_text(&mut self.$key, text).map_err(|rule| {
                    $crate::model::Invalid::new(stringify!($key), text, "malformed", rule)
                });
            } at += 1;)+
            $(if column == at {
                return Field::set_text(&mut self.$val, text).map_err(|rule| {
                    $crate::model::Invalid::new(stringify!($val), text, "malformed", rule)
                });
            } at += 1;)+
            debug_assert!(column < at, "no column {column}");
            Ok(())
        }

        fn encode(&self, bytes: &mut Vec<u8>) {
            use $crate::model::bytes::FieldBytes;
            $(FieldBytes::put(&self.$key, bytes);)+
            $(FieldBytes::put(&self.$val, bytes);)+
            FieldBytes::put(&self.revision, bytes);
        }

        fn decode(bytes: &mut &[u8]) -> Option<Self> {
            use $crate::model::bytes::FieldBytes;
            Some(Self {
                $($key: FieldBytes::take(bytes)?,)+
                $($val: FieldBytes::take(bytes)?,)+
                revision: FieldBytes::take(bytes)?,
            })
        }

        fn tenant_id(&self) -> $crate::ids::TenantId {
            self.tenant_id
        }

        fn set_tenant_id(&mut self, tenant: $crate::ids::TenantId) {
            self.tenant_id = tenant;
        }

        fn time(&self) -> $crate::time::Timestamp {
            self.$time
        }

        fn set_time(&mut self, time: $crate::time::Timestamp) {
            self.$time = time;
        }

        fn revision(&self) -> i64 {
            self.revision
        }

        fn set_revision(&mut self, revision: i64) {
            self.revision = revision;
        }

        fn key_cmp(&self, other: &Self) -> std::cmp::Ordering {
            // Time first: batches mostly arrive in time order, and both stores keep that order.
            self.$time.cmp(&other.$time)
                $(.then_with(|| $crate::model::field::KeyCmp::key_cmp(&self.$key, &other.$key)))+
        }
    };
}
pub(super) use columns;
