//! Figures from financial statements.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::field::columns;
use super::{Invalid, Kind, Record, check_finite, check_key, check_symbol, check_visible};
use crate::ids::{Symbol, TenantId, Vendor};
use crate::time::Timestamp;

/// What a company reported for one period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fundamentals {
    /// Whose record it is.
    #[serde(default)]
    pub tenant_id: TenantId,
    /// Where it came from.
    pub vendor: Vendor,
    /// The company.
    pub symbol: Symbol,
    /// The end of the period, or the day of a balance.
    pub asof: Timestamp,
    /// `FY`, `Q1` to `Q4`, `H1`, `H2`, `TTM`, `instant`; empty where the source does not say.
    #[serde(default)]
    pub period: SmolStr,
    /// Total assets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_assets: Option<f64>,
    /// Total liabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_liabilities: Option<f64>,
    /// Net income.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_income: Option<f64>,
    /// Earnings per share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Microseconds; 0 means that none was given yet.
    #[serde(default)]
    pub revision: i64,
}

impl Record for Fundamentals {
    const KIND: Kind = Kind::Fundamentals;

    columns! {
        time: asof;
        key: tenant_id: TenantId, vendor: Vendor, symbol: Symbol, asof: Timestamp, period: SmolStr;
        values: total_assets: Option<f64>, total_liabilities: Option<f64>,
            net_income: Option<f64>, eps: Option<f64>,
    }

    fn normalize(&mut self) {
        self.vendor.normalize();
        self.symbol.normalize();
        let period = self.period.trim();
        let normal = if period.eq_ignore_ascii_case("instant") {
            SmolStr::new_static("instant")
        } else {
            SmolStr::new(period.to_ascii_uppercase())
        };
        self.period = normal;
        super::unsign_zero(&mut [
            &mut self.total_assets,
            &mut self.total_liabilities,
            &mut self.net_income,
            &mut self.eps,
        ]);
    }

    fn validate(&self) -> Result<(), Invalid> {
        check_key(self.vendor.as_str(), "asof", self.asof)?;
        check_symbol(self.symbol.as_str())?;
        check_visible("period", &self.period)?;
        check_finite("total_assets", self.total_assets)?;
        check_finite("total_liabilities", self.total_liabilities)?;
        check_finite("net_income", self.net_income)?;
        check_finite("eps", self.eps)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.vendor.heap_bytes() + self.symbol.heap_bytes()
    }
}
