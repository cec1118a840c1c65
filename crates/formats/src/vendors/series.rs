//! What files of bars of one series have in common: vendor, symbol and span come from the options,
//! from the file name or from the first rows, and each row adds a time and numbers.
//!
//! The entries of an archive may be different series: each is opened by itself.

use mds_core::{Bar, Date, Symbol, Timeframe, Vendor};

use crate::error::OpenError;
use crate::input::Name;
use crate::reader::Context;

/// What a file name says about its series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) symbol: Option<Symbol>,
    pub(super) timeframe: Option<Timeframe>,
}

/// How a format finds out about its series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Convention {
    /// The vendor, where the options name none.
    pub(super) vendor: &'static str,
    /// Reads a file name of the vendor's own shape.
    pub(super) name: fn(&Name) -> Option<Named>,
    /// What that shape is, for people.
    pub(super) shape: &'static str,
    /// Whether the rows name the symbol, so that nothing else has to.
    pub(super) symbol_in_rows: bool,
}

/// A bar with everything that the rows of a part have in common.
#[derive(Debug)]
pub(super) struct Series {
    bar: Bar,
    convention: Convention,
    symbol_given: bool,
    timeframe_given: bool,
}

/// A key part that neither the rows nor the name of the file nor an option gives.
#[derive(Clone, Copy, Debug)]
struct Lacking {
    field: &'static str,
    flag: &'static str,
}

impl Series {
    /// The series of an input: options win over the file name, and that wins over `shown`, the
    /// span that the first rows show. The error says what to pass.
    pub(super) fn open(
        context: &mut Context<'_>,
        convention: Convention,
        shown: Option<Timeframe>,
    ) -> Result<Self, OpenError> {
        let options = context.options;
        let vendor = options.vendor.clone();
        let mut series = Self {
            bar: Bar {
                tenant_id: context.tenant(),
                vendor: vendor.unwrap_or_else(|| Vendor::new(convention.vendor)),
                symbol: options.symbol.clone().unwrap_or_default(),
                timeframe: options.timeframe.unwrap_or_default(),
                ..Bar::default()
            },
            convention,
            symbol_given: options.symbol.is_some(),
            timeframe_given: options.timeframe.is_some(),
        };
        match series.resolve(context.sample.names, shown) {
            Ok(said) => {
                series.tell(&said, context.notes);
                Ok(series)
            }
            Err(lacking) => {
                let looked = format!(
                    "the file does not say it, and its name is not of the shape {}",
                    convention.shape
                );
                Err(context.missing(lacking.field, lacking.flag, looked))
            }
        }
    }

    fn resolve(&mut self, names: &[Name], shown: Option<Timeframe>) -> Result<Named, Lacking> {
        let said = names
            .iter()
            .find_map(self.convention.name)
            .unwrap_or_default();
        if !self.symbol_given {
            let symbol = said.symbol.clone();
            if symbol.is_none() && !self.convention.symbol_in_rows {
                return Err(Lacking {
                    field: "symbol",
                    flag: "--symbol",
                });
            }
            self.bar.symbol = symbol.unwrap_or_default();
        }
        if !self.timeframe_given {
            self.bar.timeframe = said.timeframe.or(shown).ok_or(Lacking {
                field: "timeframe",
                flag: "--timeframe",
            })?;
        }
        Ok(said)
    }

    fn tell(&self, said: &Named, notes: &mut Vec<String>) {
        if !self.symbol_given && said.symbol.is_some() {
            notes.push(format!("symbol {}: from the file name", self.bar.symbol));
        }
        if !self.timeframe_given {
            let from = if said.timeframe.is_some() {
                "from the file name"
            } else {
                "from the times of the first rows"
            };
            notes.push(format!("timeframe {}: {from}", self.bar.timeframe));
        }
    }

    /// The span of the bars.
    pub(super) const fn timeframe(&self) -> Timeframe {
        self.bar.timeframe
    }

    /// Takes the symbol that the rows name, unless an option gives one.
    pub(super) fn name_symbol(&mut self, symbol: &str) {
        if !self.symbol_given {
            self.bar.symbol = Symbol::new(symbol);
        }
    }

    /// A bar of the series, still without time and numbers.
    pub(super) fn bar(&self) -> Bar {
        self.bar.clone()
    }
}

/// One day, where two dates that follow each other are less than a working week apart: bars of a
/// week or more never are.
pub(super) fn days_of(dates: impl Iterator<Item = Date>) -> Option<Timeframe> {
    let mut last: Option<Date> = None;
    let mut daily = false;
    for date in dates {
        let gap = last.map_or(0, |last| date.days().abs_diff(last.days()));
        daily |= (1..=5).contains(&gap);
        last = Some(date);
    }
    daily.then_some(Timeframe::DAY)
}
