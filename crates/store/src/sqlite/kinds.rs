//! The layout of each kind.

use std::str::FromStr;

use mds_core::time::MICROS_PER_DAY;
use mds_core::{
    Bar, Date, Fundamentals, News, OptionSnap, OptionType, Symbol, Timeframe, Timestamp,
};
use rusqlite::types::Type;
use rusqlite::{Result, Row};

use super::layout::{BARS_PER_BUCKET, Binder, Layout, SeriesKey, StoredRecord};

/// An hour holds one or a few snapshots of a chain.
const OPTION_BUCKET_MICROS: i64 = MICROS_PER_DAY / 24;
/// A year holds a handful of statements.
const FUNDAMENTALS_BUCKET_MICROS: i64 = 366 * MICROS_PER_DAY;

impl StoredRecord for Bar {}
impl StoredRecord for OptionSnap {}
impl StoredRecord for Fundamentals {}
impl StoredRecord for News {}

impl Layout for Bar {
    const TABLE: &'static str = "bars_data";
    const KEY: &'static [&'static str] = &["ts"];
    const VALUES: &'static [&'static str] = &[
        "open_price",
        "high_price",
        "low_price",
        "close_price",
        "volume",
        "provisional",
    ];

    fn series(&self) -> SeriesKey {
        SeriesKey {
            tenant: self.tenant_id,
            vendor: self.vendor.clone(),
            symbol: self.symbol.clone(),
            timeframe: Some(self.timeframe),
        }
    }

    fn is_of(&self, key: &SeriesKey) -> bool {
        self.symbol == key.symbol
            && Some(self.timeframe) == key.timeframe
            && self.vendor == key.vendor
            && self.tenant_id == key.tenant
    }

    fn bucket_micros(timeframe: Option<Timeframe>) -> i64 {
        let span = timeframe
            .unwrap_or_default()
            .end_of(Timestamp::from_micros(0));
        span.micros() * BARS_PER_BUCKET
    }

    fn bind_key(&self, to: &mut Binder<'_, '_>) -> Result<()> {
        to.put(self.ts.micros())
    }

    fn bind_values(&self, to: &mut Binder<'_, '_>) -> Result<()> {
        to.put_float(self.open_price)?;
        to.put_float(self.high_price)?;
        to.put_float(self.low_price)?;
        to.put_float(self.close_price)?;
        to.put_float(self.volume)?;
        to.put(self.provisional)
    }

    fn read(series: &SeriesKey, row: &Row<'_>, from: usize) -> Result<Self> {
        Ok(Self {
            tenant_id: series.tenant,
            vendor: series.vendor.clone(),
            symbol: series.symbol.clone(),
            timeframe: series.timeframe.unwrap_or_default(),
            ts: Timestamp::from_micros(row.get(from)?),
            open_price: row.get(from + 1)?,
            high_price: row.get(from + 2)?,
            low_price: row.get(from + 3)?,
            close_price: row.get(from + 4)?,
            volume: row.get(from + 5)?,
            provisional: row.get(from + 6)?,
            revision: row.get(from + 7)?,
        })
    }
}

impl Layout for OptionSnap {
    const TABLE: &'static str = "options_snap_data";
    const KEY: &'static [&'static str] = &["ts", "expiry", "option_type", "strike"];
    const VALUES: &'static [&'static str] = &["iv", "delta", "gamma", "oi", "volume", "spot"];

    fn series(&self) -> SeriesKey {
        SeriesKey {
            tenant: self.tenant_id,
            vendor: self.vendor.clone(),
            symbol: self.symbol.clone(),
            timeframe: None,
        }
    }

    fn is_of(&self, key: &SeriesKey) -> bool {
        self.symbol == key.symbol && self.vendor == key.vendor && self.tenant_id == key.tenant
    }

    fn bucket_micros(_: Option<Timeframe>) -> i64 {
        OPTION_BUCKET_MICROS
    }

    fn bind_key(&self, to: &mut Binder<'_, '_>) -> Result<()> {
        to.put(self.ts.micros())?;
        to.put(self.expiry.days())?;
        to.put(self.option_type.as_str())?;
        to.put_float(Some(self.strike))
    }

    fn bind_values(&self, to: &mut Binder<'_, '_>) -> Result<()> {
        to.put_float(self.iv)?;
        to.put_float(self.delta)?;
        to.put_float(self.gamma)?;
        to.put_float(self.oi)?;
        to.put_float(self.volume)?;
        to.put_float(self.spot)
    }

    fn read(series: &SeriesKey, row: &Row<'_>, from: usize) -> Result<Self> {
        Ok(Self {
            tenant_id: series.tenant,
            vendor: series.vendor.clone(),
            symbol: series.symbol.clone(),
            ts: Timestamp::from_micros(row.get(from)?),
            expiry: Date::from_days(row.get(from + 1)?),
            option_type: parsed::<OptionType>(row, from + 2)?,
            strike: row.get(from + 3)?,
            iv: row.get(from + 4)?,
            delta: row.get(from + 5)?,
            gamma: row.get(from + 6)?,
            oi: row.get(from + 7)?,
            volume: row.get(from + 8)?,
            spot: row.get(from + 9)?,
            revision: row.get(from + 10)?,
        })
    }
}

impl Layout for Fundamentals {
    const TABLE: &'static str = "fundamentals_data";
    const KEY: &'static [&'static str] = &["asof", "period"];
    const VALUES: &'static [&'static str] =
        &["total_assets", "total_liabilities", "net_income", "eps"];

    fn series(&self) -> SeriesKey {
        SeriesKey {
            tenant: self.tenant_id,
            vendor: self.vendor.clone(),
            symbol: self.symbol.clone(),
            timeframe: None,
        }
    }

    fn is_of(&self, key: &SeriesKey) -> bool {
        self.symbol == key.symbol && self.vendor == key.vendor && self.tenant_id == key.tenant
    }

    fn bucket_micros(_: Option<Timeframe>) -> i64 {
        FUNDAMENTALS_BUCKET_MICROS
    }

    fn bind_key(&self, to: &mut Binder<'_, '_>) -> Result<()> {
        to.put(self.asof.micros())?;
        to.put(self.period.as_str())
    }

    fn bind_values(&self, to: &mut Binder<'_, '_>) -> Result<()> {
        to.put_float(self.total_assets)?;
        to.put_float(self.total_liabilities)?;
        to.put_float(self.net_income)?;
        to.put_float(self.eps)
    }

    fn read(series: &SeriesKey, row: &Row<'_>, from: usize) -> Result<Self> {
        Ok(Self {
            tenant_id: series.tenant,
            vendor: series.vendor.clone(),
            symbol: series.symbol.clone(),
            asof: Timestamp::from_micros(row.get(from)?),
            period: row.get_ref(from + 1)?.as_str()?.into(),
            total_assets: row.get(from + 2)?,
            total_liabilities: row.get(from + 3)?,
            net_income: row.get(from + 4)?,
            eps: row.get(from + 5)?,
            revision: row.get(from + 6)?,
        })
    }
}

impl Layout for News {
    const TABLE: &'static str = "news_data";
    const KEY: &'static [&'static str] = &["published_at", "id"];
    const VALUES: &'static [&'static str] =
        &["symbol", "symbols", "title", "url", "sentiment_score"];
    const SERIES_HAS_SYMBOL: bool = false;

    fn series(&self) -> SeriesKey {
        SeriesKey {
            tenant: self.tenant_id,
            vendor: self.vendor.clone(),
            symbol: Symbol::default(),
            timeframe: None,
        }
    }

    fn is_of(&self, key: &SeriesKey) -> bool {
        self.vendor == key.vendor && self.tenant_id == key.tenant
    }

    fn bucket_micros(_: Option<Timeframe>) -> i64 {
        MICROS_PER_DAY
    }

    fn bind_key(&self, to: &mut Binder<'_, '_>) -> Result<()> {
        to.put(self.published_at.micros())?;
        to.put(self.id.as_str())
    }

    fn bind_values(&self, to: &mut Binder<'_, '_>) -> Result<()> {
        to.put(self.symbol.as_ref().map(Symbol::as_str))?;
        let symbols: Vec<_> = self.symbols.iter().map(Symbol::as_str).collect();
        to.put((!symbols.is_empty()).then(|| symbols.join(",")))?;
        to.put(self.title.as_deref())?;
        to.put(self.url.as_deref())?;
        to.put_float(self.sentiment_score)
    }

    fn read(series: &SeriesKey, row: &Row<'_>, from: usize) -> Result<Self> {
        let symbols = row.get_ref(from + 3)?.as_str_or_null()?.unwrap_or("");
        Ok(Self {
            tenant_id: series.tenant,
            vendor: series.vendor.clone(),
            published_at: Timestamp::from_micros(row.get(from)?),
            id: row.get_ref(from + 1)?.as_str()?.into(),
            symbol: row.get_ref(from + 2)?.as_str_or_null()?.map(Symbol::new),
            symbols: symbols
                .split(',')
                .filter(|s| !s.is_empty())
                .map(Symbol::new)
                .collect(),
            title: row.get(from + 4)?,
            url: row.get(from + 5)?,
            sentiment_score: row.get(from + 6)?,
            revision: row.get(from + 7)?,
        })
    }

    fn is_about(&self, symbols: &[Symbol]) -> bool {
        symbols
            .iter()
            .any(|s| self.symbol.as_ref() == Some(s) || self.symbols.contains(s))
    }
}

/// A column that holds the text form of a value.
pub(crate) fn parsed<T>(row: &Row<'_>, column: usize) -> Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}
