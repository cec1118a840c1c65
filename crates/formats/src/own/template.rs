//! Building records column by column.
//!
//! A [`Template`] knows what the options give and which key parts a row has to bring. It remembers
//! the texts of the columns that repeat from row to row (tenant, vendor, symbol, time frame) beside
//! their parsed values, so that a run of rows of one series parses them once.

use mds_core::{Column, ColumnRole, ColumnType, Record, Timeframe, Value};

use crate::decode::Out;
use crate::options::Options;
use crate::values;
use crate::verdict::Fault;

/// What rows of one input have in common.
#[derive(Debug)]
pub(crate) struct Template<R> {
    /// A record with the values of the options and those of `texts`.
    base: R,
    /// The text behind each repeating column of `base`; empty for the other columns.
    texts: Vec<String>,
    /// What the options give, as text; empty where they do not.
    given: Vec<String>,
    repeating: u32,
    /// Key parts that each row must bring.
    required: u32,
    /// Whether a time had digits that are not kept, and whether that was told.
    cut: bool,
    told: bool,
}

/// The note about digits that are not kept.
const CUT: &str = "times are kept to the microsecond: what some have beyond it is left out";

/// One record in the making.
#[derive(Debug)]
pub(crate) struct Draft<'t, R> {
    template: &'t mut Template<R>,
    record: R,
    seen: u32,
}

impl<R: Record> Template<R> {
    pub(crate) fn new(options: &Options) -> Self {
        let given: Vec<String> = R::COLUMNS.iter().map(|c| given(c, options)).collect();
        let mut base = R::default();
        let mut repeating = 0;
        let mut required = 0;
        for (index, column) in R::COLUMNS.iter().enumerate() {
            if repeats(column) {
                repeating |= 1 << index;
            }
            if given[index].is_empty() {
                required |= u32::from(is_required(column)) << index;
            } else {
                // The texts come from parsed options, so that they read back.
                base.set(index, &given[index]).unwrap_or_default();
            }
        }
        Self {
            base,
            texts: given.clone(),
            given,
            repeating,
            required,
            cut: false,
            told: false,
        }
    }

    /// The key parts that a row must bring itself.
    pub(crate) fn required(&self) -> impl Iterator<Item = &'static Column> {
        let required = self.required;
        R::COLUMNS
            .iter()
            .enumerate()
            .filter_map(move |(index, column)| (required >> index & 1 == 1).then_some(column))
    }

    /// Starts on a record.
    pub(crate) fn draft(&mut self) -> Draft<'_, R> {
        Draft {
            record: self.base.clone(),
            template: self,
            seen: 0,
        }
    }
}

impl<R: Record> Draft<'_, R> {
    /// Whether the column was set already.
    pub(crate) const fn has(&self, column: usize) -> bool {
        self.seen >> column & 1 == 1
    }

    /// Sets a column from text; the empty text leaves it absent.
    pub(crate) fn set(&mut self, column: usize, text: &str) -> Result<(), Fault> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        self.seen |= 1 << column;
        if self.template.repeating >> column & 1 == 0 {
            return self.set_own(column, text);
        }
        if self.template.texts[column] == text {
            return Ok(());
        }
        self.record.set(column, text)?;
        self.template.remember(column, text);
        Ok(())
    }

    /// Sets a column whose value is the row's own. What it cannot be is told with the text of the
    /// input, which the value no longer has.
    fn set_own(&mut self, column: usize, text: &str) -> Result<(), Fault> {
        let Column { name, ty, .. } = R::COLUMNS[column];
        match ty {
            ColumnType::Float => {
                let set = self.record.set(column, text);
                set.map_err(|_| values::no_number(name, text))?;
                match self.record.value(column) {
                    Value::Float(number) if !number.is_finite() => {
                        Err(values::not_finite(name, text))
                    }
                    _ => Ok(()),
                }
            }
            ColumnType::Timestamp => {
                self.record.set(column, text)?;
                values::check_instant(name, text, self.record.time())?;
                self.template.cut |= values::has_nanos(text);
                Ok(())
            }
            _ => Ok(self.record.set(column, text)?),
        }
    }

    /// Sets the time of the natural key; `cut` where the text has digits that are not kept.
    pub(crate) fn set_time(&mut self, column: usize, time: mds_core::Timestamp, cut: bool) {
        self.seen |= 1 << column;
        self.record.set_time(time);
        self.template.cut |= cut;
    }

    /// The span of the record: its own, else that of the options. `column` is where it is.
    pub(crate) fn timeframe(&self, column: usize) -> Option<Timeframe> {
        if !self.has(column) {
            return self.template.given[column].parse().ok();
        }
        match self.record.value(column) {
            Value::Timeframe(span) => Some(span),
            _ => None,
        }
    }

    /// Sets the revision.
    pub(crate) fn set_revision(&mut self, revision: i64) {
        self.record.set_revision(revision);
    }

    /// The record, if no key part is missing.
    pub(crate) fn finish(mut self) -> Result<R, Fault> {
        let missing = self.template.required & !self.seen;
        if missing != 0 {
            let column = &R::COLUMNS[missing.trailing_zeros() as usize];
            return Err(Fault::missing(column.name));
        }
        let mut absent = self.template.repeating & !self.seen;
        while absent != 0 {
            let column = absent.trailing_zeros() as usize;
            absent &= absent - 1;
            if self.template.texts[column] != self.template.given[column] {
                let text = self.template.given[column].clone();
                self.record.set(column, &text)?;
                self.template.remember(column, &text);
            }
        }
        Ok(self.record)
    }
}

impl<R: Record> Template<R> {
    /// Tells what is to be said about the rows so far.
    pub(crate) fn tell(&mut self, out: &mut Out<'_, '_, R>) {
        if self.cut && !self.told {
            self.told = true;
            out.note(CUT);
        }
    }

    /// Keeps the value of a text that was just parsed with success.
    fn remember(&mut self, column: usize, text: &str) {
        if self.base.set(column, text).is_ok() {
            self.texts[column].clear();
            self.texts[column].push_str(text);
        }
    }
}

/// What the options give for a column, as text.
fn given(column: &Column, options: &Options) -> String {
    let text = match column.name {
        "tenant_id" => return options.tenant.unwrap_or_default().to_string(),
        "vendor" => options.vendor.as_ref().map(ToString::to_string),
        "symbol" => options.symbol.as_ref().map(ToString::to_string),
        "timeframe" => options.timeframe.as_ref().map(ToString::to_string),
        "published_at" => options.published_at.as_ref().map(ToString::to_string),
        _ => None,
    };
    text.unwrap_or_default()
}

/// Whether rows that follow each other mostly have the same value.
fn repeats(column: &Column) -> bool {
    matches!(column.ty, ColumnType::Tenant | ColumnType::Timeframe)
        || matches!(column.name, "vendor" | "symbol")
}

/// Whether there is no default for a column: `period` may be empty, and an id can be made.
fn is_required(column: &Column) -> bool {
    column.role == ColumnRole::Key && !matches!(column.name, "tenant_id" | "period" | "id")
}
