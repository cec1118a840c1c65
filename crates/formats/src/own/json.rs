//! `json`: an array of JSON objects in our own field names, or one such object.
//!
//! The document is held in memory, its objects are parsed one by one: a bad object is an invalid
//! row with the line where it starts, and the objects before a broken or cut-off place are read.

use mds_core::Record;

use super::template::Template;
use super::{ndjson, object};
use crate::decode::{Decoder, Verdicts};
use crate::detect::{Fit, Sample};
use crate::elements::Elements;
use crate::error::{OpenError, ReadError};
use crate::input::Part;
use crate::reader::Context;
use crate::registry::{Format, Openers};

pub(crate) static FORMAT: Format = Format {
    name: "json",
    about: "an array of JSON objects in our own field names",
    example: "mds ingest bars bars.json",
    detect,
    openers: Openers {
        bars: Some(open),
        options: Some(open),
        fundamentals: Some(open),
        news: Some(open),
    },
};

fn detect(sample: &Sample<'_>) -> Fit {
    let text = sample.text.trim_ascii_start();
    let Some(inside) = text.strip_prefix('[') else {
        return Fit::No;
    };
    let mut values =
        serde_json::Deserializer::from_str(inside).into_iter::<&serde_json::value::RawValue>();
    let kinds = match values.next() {
        Some(Ok(first)) => ndjson::kinds_of(first.get()),
        _ => return Fit::No,
    };
    if kinds.is_empty() {
        return Fit::No;
    }
    Fit::Yes {
        why: "an array of JSON objects in our own field names".to_owned(),
        kinds: sample
            .kind
            .filter(|k| kinds.contains(k))
            .map_or(kinds, |k| vec![k]),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature that every opener has"
)]
fn open<R: Record>(context: &mut Context<'_>) -> Result<Box<dyn Decoder<R>>, OpenError> {
    Ok(Box::new(Json {
        template: Template::<R>::new(context.options),
        elements: Elements::default(),
    }))
}

struct Json<R> {
    template: Template<R>,
    elements: Elements,
}

impl<R: Record> Decoder<R> for Json<R> {
    fn begin(&mut self, part: &mut Part, _: &mut Vec<String>) -> Result<(), ReadError> {
        self.elements = Elements::of(part)?;
        Ok(())
    }

    fn fill(
        &mut self,
        _: &mut Part,
        verdicts: &mut Verdicts<'_, R>,
        max: usize,
    ) -> Result<bool, ReadError> {
        while verdicts.out.len() < max {
            let Some(element) = self.elements.next()? else {
                return Ok(false);
            };
            let mut out = verdicts.at(element.line, element.text);
            match object::read(element.text, &mut self.template) {
                Ok(record) => out.record(record),
                Err(fault) => out.invalid(fault),
            }
            self.template.tell(&mut out);
        }
        Ok(true)
    }
}
