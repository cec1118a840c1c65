//! Bars.

use serde::{Deserialize, Serialize};

use super::field::columns;
use super::{Invalid, Kind, Record, check_finite, check_key, check_not_negative, check_symbol};
use crate::ids::{Symbol, TenantId, Timeframe, Vendor};
use crate::time::Timestamp;

/// How far open and close may lie outside of low and high: vendors round each of the four for
/// itself, some through 32-bit floats (relative error 6e-8). One millionth of the price is above
/// that and below any tick.
const ROUNDING: f64 = 1e-6;

/// Open, high, low, close and volume of one span of one instrument.
///
/// ```
/// use mds_core::{Bar, Record};
///
/// let bar = Bar { high_price: Some(1.0), low_price: Some(2.0), ..Bar::default() };
/// assert_eq!(bar.validate().unwrap_err().code, "missing_key");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// Whose record it is.
    #[serde(default)]
    pub tenant_id: TenantId,
    /// Where it came from.
    pub vendor: Vendor,
    /// The instrument.
    pub symbol: Symbol,
    /// The span.
    pub timeframe: Timeframe,
    /// The start of the span.
    pub ts: Timestamp,
    /// First price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_price: Option<f64>,
    /// Highest price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_price: Option<f64>,
    /// Lowest price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_price: Option<f64>,
    /// Last price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_price: Option<f64>,
    /// Units traded; fractional for crypto currencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<f64>,
    /// Whether the span was not over when the bar was made.
    #[serde(default)]
    pub provisional: bool,
    /// Microseconds; 0 means that none was given yet.
    #[serde(default)]
    pub revision: i64,
}

impl Record for Bar {
    const KIND: Kind = Kind::Bars;

    columns! {
        time: ts;
        key: tenant_id: TenantId, vendor: Vendor, symbol: Symbol, timeframe: Timeframe, ts: Timestamp;
        values: open_price: Option<f64>, high_price: Option<f64>, low_price: Option<f64>,
            close_price: Option<f64>, volume: Option<f64>, provisional: bool,
    }

    fn is_settled(&self) -> bool {
        !self.provisional
    }

    fn mark_provisional(&mut self, known_at: Timestamp) {
        self.provisional |= self.timeframe.end_of(self.ts) > known_at;
    }

    fn normalize(&mut self) {
        self.vendor.normalize();
        self.symbol.normalize();
        super::unsign_zero(&mut [
            &mut self.open_price,
            &mut self.high_price,
            &mut self.low_price,
            &mut self.close_price,
            &mut self.volume,
        ]);
    }

    fn validate(&self) -> Result<(), Invalid> {
        check_key(self.vendor.as_str(), "ts", self.ts)?;
        check_symbol(self.symbol.as_str())?;
        check_finite("open_price", self.open_price)?;
        check_finite("high_price", self.high_price)?;
        check_finite("low_price", self.low_price)?;
        check_finite("close_price", self.close_price)?;
        check_not_negative("volume", self.volume)?;
        let slack = ROUNDING
            * [self.high_price, self.low_price]
                .into_iter()
                .flatten()
                .fold(0.0_f64, |m, p| m.max(p.abs()));
        if let (Some(high), Some(low)) = (self.high_price, self.low_price)
            && high < low
        {
            let rule = "the high cannot be below the low";
            return Err(Invalid::new("high_price", high, "high_below_low", rule));
        }
        for (field, price) in [
            ("open_price", self.open_price),
            ("close_price", self.close_price),
        ] {
            let Some(price) = price else { continue };
            let above = self.high_price.is_some_and(|high| price > high + slack);
            let below = self.low_price.is_some_and(|low| price < low - slack);
            if above || below {
                let rule = "open and close must lie between low and high";
                return Err(Invalid::new(field, price, "outside_range", rule));
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.vendor.heap_bytes() + self.symbol.heap_bytes()
    }
}
