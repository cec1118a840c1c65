//! Snapshots of option chains.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::field::columns;
use super::{Invalid, Kind, Record, check_finite, check_key, check_not_negative, check_symbol};
use crate::ids::{Symbol, TenantId, Vendor};
use crate::time::{Date, Timestamp, serde_as_text};

/// Call or put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OptionType {
    /// The right to buy.
    #[default]
    Call,
    /// The right to sell.
    Put,
}

impl OptionType {
    /// `C` or `P`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "C",
            Self::Put => "P",
        }
    }
}

impl fmt::Display for OptionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is neither C nor P.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an option type: C or P")]
pub struct OptionTypeError(String);

impl FromStr for OptionType {
    type Err = OptionTypeError;

    fn from_str(text: &str) -> Result<Self, OptionTypeError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "c" | "call" => Ok(Self::Call),
            "p" | "put" => Ok(Self::Put),
            _ => Err(OptionTypeError(text.to_owned())),
        }
    }
}

serde_as_text!(OptionType, "C or P");

/// What one option contract looked like at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionSnap {
    /// Whose record it is.
    #[serde(default)]
    pub tenant_id: TenantId,
    /// Where it came from.
    pub vendor: Vendor,
    /// The contract root as listed (`NDXP`, not `NDX`).
    pub symbol: Symbol,
    /// The day on which the contract ends.
    pub expiry: Date,
    /// Call or put.
    pub option_type: OptionType,
    /// The strike price, above 0.
    pub strike: f64,
    /// The moment of the snapshot.
    pub ts: Timestamp,
    /// Implied volatility, 0.29 for 29 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iv: Option<f64>,
    /// Delta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// Gamma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Open interest, contracts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oi: Option<f64>,
    /// Contracts traded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<f64>,
    /// Price of the underlying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot: Option<f64>,
    /// Microseconds; 0 means that none was given yet.
    #[serde(default)]
    pub revision: i64,
}

impl Record for OptionSnap {
    const KIND: Kind = Kind::Options;

    columns! {
        time: ts;
        key: tenant_id: TenantId, vendor: Vendor, symbol: Symbol, expiry: Date,
            option_type: OptionType, strike: f64, ts: Timestamp;
        values: iv: Option<f64>, delta: Option<f64>, gamma: Option<f64>, oi: Option<f64>,
            volume: Option<f64>, spot: Option<f64>,
    }

    fn normalize(&mut self) {
        self.vendor.normalize();
        self.symbol.normalize();
        super::unsign_zero(&mut [
            &mut self.iv,
            &mut self.delta,
            &mut self.gamma,
            &mut self.oi,
            &mut self.volume,
            &mut self.spot,
        ]);
    }

    fn validate(&self) -> Result<(), Invalid> {
        check_key(self.vendor.as_str(), "ts", self.ts)?;
        check_symbol(self.symbol.as_str())?;
        if !self.expiry.midnight().is_valid() {
            let rule = "a date must lie in the years 1900 to 2199";
            return Err(Invalid::new(
                "expiry",
                self.expiry,
                "time_out_of_range",
                rule,
            ));
        }
        check_finite("strike", Some(self.strike))?;
        if self.strike <= 0.0 {
            let rule = "a strike must be above 0";
            return Err(Invalid::new(
                "strike",
                self.strike,
                "strike_not_positive",
                rule,
            ));
        }
        check_finite("iv", self.iv)?;
        check_finite("delta", self.delta)?;
        check_finite("gamma", self.gamma)?;
        check_not_negative("oi", self.oi)?;
        check_not_negative("volume", self.volume)?;
        check_finite("spot", self.spot)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.vendor.heap_bytes() + self.symbol.heap_bytes()
    }
}
