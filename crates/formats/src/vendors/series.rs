//! What files of bars of one series have in common: vendor, symbol and span come from the options
//! or from the file name, and each row adds a time and numbers.

use mds_core::{Bar, Symbol, Timeframe, Vendor};

use crate::error::OpenError;
use crate::reader::Context;

/// What a file name says about its series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) symbol: Option<Symbol>,
    pub(super) timeframe: Option<Timeframe>,
}

/// A bar with everything that the rows of a series have in common.
///
/// Symbol and span of the options win over those of the file name; `looked` says where else they
/// were looked for. What the name gives is noted.
pub(super) fn series(
    context: &mut Context<'_>,
    vendor: &str,
    named: &Named,
    looked: &str,
) -> Result<Bar, OpenError> {
    let options = context.options;
    let symbol = options.symbol.clone().or_else(|| named.symbol.clone());
    let timeframe = options.timeframe.or(named.timeframe);
    let Some(symbol) = symbol else {
        return Err(context.missing("symbol", "--symbol", looked));
    };
    let Some(timeframe) = timeframe else {
        return Err(context.missing("time frame", "--timeframe", looked));
    };
    if options.symbol.is_none() {
        context.note(format!("symbol {symbol}: from the file name"));
    }
    if options.timeframe.is_none() {
        context.note(format!("time frame {timeframe}: from the file name"));
    }
    Ok(Bar {
        tenant_id: context.tenant(),
        vendor: options
            .vendor
            .clone()
            .unwrap_or_else(|| Vendor::new(vendor)),
        symbol,
        timeframe,
        ..Bar::default()
    })
}
