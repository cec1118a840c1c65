//! `ndjson`: one JSON object in our own field names a line.

use mds_core::{Kind, Record};
use serde_json::value::RawValue;

use super::object;
use super::template::Template;
use crate::decode::{ByLine, Decoder, LineDecoder, Out};
use crate::detect::{Fit, Sample};
use crate::error::OpenError;
use crate::reader::Context;
use crate::registry::{Format, Openers};
use crate::verdict::Fault;

pub(crate) static FORMAT: Format = Format {
    name: "ndjson",
    about: "one JSON object a line, in our own field names",
    example: "mds ingest bars bars.ndjson",
    detect,
    openers: Openers {
        bars: Some(open),
        options: Some(open),
        fundamentals: Some(open),
        news: Some(open),
    },
};

/// Lines that are looked at: the first may be broken.
const LOOKED_AT: usize = 20;

fn detect(sample: &Sample<'_>) -> Fit {
    if sample.first_char() != Some('{') {
        return Fit::No;
    }
    let kinds = sample
        .lines()
        .take(LOOKED_AT)
        .map(kinds_of)
        .find(|k| !k.is_empty());
    let mut kinds = kinds.unwrap_or_default();
    if let Some(asked) = sample.kind.filter(|asked| kinds.contains(asked)) {
        kinds = vec![asked];
    }
    if kinds.is_empty() {
        return Fit::No;
    }
    Fit::Yes {
        why: "lines are JSON objects in our own field names".to_owned(),
        kinds,
    }
}

/// The kinds whose fields the keys of an object are; none for anything else.
pub(super) fn kinds_of(object: &str) -> Vec<Kind> {
    let keys: std::collections::BTreeMap<&str, &RawValue> =
        serde_json::from_str(object).unwrap_or_default();
    let names: Vec<&str> = keys.into_keys().collect();
    super::kinds_with(&names)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature that every opener has"
)]
fn open<R: Record>(context: &mut Context<'_>) -> Result<Box<dyn Decoder<R>>, OpenError> {
    Ok(Box::new(ByLine(NdJson {
        template: Template::<R>::new(context.options),
    })))
}

struct NdJson<R> {
    template: Template<R>,
}

impl<R: Record> LineDecoder<R> for NdJson<R> {
    fn line(&mut self, line: &str, out: &mut Out<'_, '_, R>) -> Result<(), Fault> {
        out.record(object::read(line, &mut self.template)?);
        self.template.tell(out);
        Ok(())
    }
}
