//! One JSON object in our own field names.
//!
//! The fields are the columns of the kind and `revision` (microseconds). Numbers are read from
//! their own digits by Rust's parser, which gives the nearest f64, so that every price that was
//! written comes back exactly.

use std::borrow::Cow;
use std::fmt;

use mds_core::{ColumnType, Record};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::template::{Draft, Template};
use crate::error::JsonFault;
use crate::verdict::Fault;

/// Reads one object.
pub(super) fn read<R: Record>(text: &str, template: &mut Template<R>) -> Result<R, Fault> {
    let mut object = Object {
        draft: template.draft(),
        fault: None,
        next: 0,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = json.deserialize_map(&mut object).and_then(|()| json.end());
    match (object.fault, parsed) {
        (Some(fault), _) => Err(fault),
        (None, Err(error)) => Err(Fault::line("malformed", JsonFault::from(error).to_string())),
        (None, Ok(())) => object.draft.finish(),
    }
}

struct Object<'t, R> {
    draft: Draft<'t, R>,
    fault: Option<Fault>,
    /// The column that the next key most likely names: lines of one file have one order.
    next: usize,
}

/// What a key names.
enum Key {
    Column(usize),
    Revision,
    Unknown(String),
}

impl<'de, R: Record> Visitor<'de> for &mut Object<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed::<R>::after(self.next))? {
            let value: &RawValue = map.next_value()?;
            if let Err(fault) = self.take(&key, value.get()) {
                self.fault = Some(fault);
                return Err(A::Error::custom("the fault is kept beside"));
            }
        }
        Ok(())
    }
}

impl<R: Record> Object<'_, R> {
    fn take(&mut self, key: &Key, value: &str) -> Result<(), Fault> {
        let column = match key {
            Key::Column(column) => *column,
            Key::Revision => {
                let rule = "must be a whole number of microseconds";
                let revision = value
                    .parse()
                    .map_err(|_| Fault::new("revision", value, "malformed", rule))?;
                self.draft.set_revision(revision);
                return Ok(());
            }
            Key::Unknown(name) => {
                let names: Vec<&str> = R::COLUMNS.iter().map(|c| c.name).collect();
                let rule = format!("{} have no such field, only {}", R::KIND, names.join(", "));
                return Err(Fault::new(name.clone(), value, "unknown_field", rule));
            }
        };
        self.next = column + 1;
        let name = R::COLUMNS[column].name;
        if self.draft.has(column) {
            let rule = "a field may stand only once in a line";
            return Err(Fault::new(name, value, "duplicate_field", rule));
        }
        if value == "null" {
            return Ok(());
        }
        match text_of(R::COLUMNS[column].ty, value) {
            Ok(text) => self.draft.set(column, &text),
            Err(rule) => Err(Fault::new(name, value, "malformed", rule)),
        }
    }
}

/// The text of a JSON value, as a record takes it; the error is the rule that the value breaks.
fn text_of(ty: ColumnType, value: &str) -> Result<Cow<'_, str>, &'static str> {
    match ty {
        ColumnType::Float if value.starts_with(['"', '[', '{', 't', 'f']) => {
            Err("must be a number")
        }
        ColumnType::Bool if !matches!(value, "true" | "false") => Err("must be true or false"),
        ColumnType::Float | ColumnType::Bool => Ok(value.into()),
        ColumnType::Symbols => {
            let symbols: Vec<String> =
                serde_json::from_str(value).map_err(|_| "must be a list of symbols")?;
            Ok(symbols.join(",").into())
        }
        _ => match value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
            None => Err("must be a text in quotes"),
            Some(inner) if memchr::memchr(b'\\', inner.as_bytes()).is_none() => Ok(inner.into()),
            Some(_) => {
                let text: Result<String, _> = serde_json::from_str(value);
                Ok(text
                    .map_err(|_| "must be a text of valid characters")?
                    .into())
            }
        },
    }
}

/// Reads a key as the column that it names.
struct KeySeed<R> {
    likely: usize,
    record: std::marker::PhantomData<R>,
}

impl<R> KeySeed<R> {
    const fn after(likely: usize) -> Self {
        Self {
            likely,
            record: std::marker::PhantomData,
        }
    }
}

impl<'de, R: Record> DeserializeSeed<'de> for KeySeed<R> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<R: Record> Visitor<'_> for KeySeed<R> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Key, E> {
        if R::COLUMNS.get(self.likely).is_some_and(|c| c.name == name) {
            return Ok(Key::Column(self.likely));
        }
        Ok(match R::column(name) {
            Some(column) => Key::Column(column),
            None if name == "revision" => Key::Revision,
            None => Key::Unknown(name.to_owned()),
        })
    }
}
