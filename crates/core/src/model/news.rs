//! Headlines.

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, ToSmolStr};
use uuid::Uuid;

use super::field::columns;
use super::{Invalid, Kind, Record, check_key, check_visible};
use crate::ids::{Symbol, TenantId, Vendor};
use crate::time::Timestamp;

/// The name space of ids that are made here; itself a `UUIDv5` of the DNS name space and
/// "news.market-data-store".
const NAMESPACE: Uuid = Uuid::from_u128(0x5d98_aecb_1c19_5377_9d80_1d30_0a84_e4d7);

/// One article or headline.
///
/// A row without an id gets a `UUIDv5` of vendor, url (or title) and time, so that the same
/// article always has the same key:
///
/// ```
/// use mds_core::{News, Record};
///
/// let mut a: News = serde_json::from_str(
///     r#"{"vendor":"x","published_at":"2024-01-01T00:00:00Z","title":"Up","symbols":["a","b"]}"#,
/// )
/// .unwrap();
/// let mut b = a.clone();
/// a.normalize();
/// b.normalize();
/// assert_eq!((a.id.len(), &a.id), (36, &b.id));
/// assert_eq!(a.symbol.unwrap().as_str(), "A");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct News {
    /// Whose record it is.
    #[serde(default)]
    pub tenant_id: TenantId,
    /// Where it came from.
    pub vendor: Vendor,
    /// When the article was published.
    pub published_at: Timestamp,
    /// The vendor's id, or one made from the article.
    #[serde(default)]
    pub id: SmolStr,
    /// The first of the symbols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Symbol>,
    /// All symbols.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symbols: Vec<Symbol>,
    /// The headline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where the article is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// -1 (bad) to 1 (good).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentiment_score: Option<f64>,
    /// Microseconds; 0 means that none was given yet.
    #[serde(default)]
    pub revision: i64,
}

impl Record for News {
    const KIND: Kind = Kind::News;

    columns! {
        time: published_at;
        key: tenant_id: TenantId, vendor: Vendor, published_at: Timestamp, id: SmolStr;
        values: symbol: Option<Symbol>, symbols: Vec<Symbol>, title: Option<String>,
            url: Option<String>, sentiment_score: Option<f64>,
    }

    fn normalize(&mut self) {
        self.vendor.normalize();
        for symbol in self.symbols.iter_mut().chain(&mut self.symbol) {
            symbol.normalize();
        }
        self.symbols.retain(|s| !s.is_empty());
        self.symbol.take_if(|s| s.is_empty());
        match (&self.symbol, self.symbols.first()) {
            (None, Some(first)) => self.symbol = Some(first.clone()),
            (Some(only), None) => self.symbols.push(only.clone()),
            _ => {}
        }
        super::unsign_zero(&mut [&mut self.sentiment_score]);
        for text in [&mut self.title, &mut self.url] {
            text.take_if(|text| text.is_empty());
        }
        let trimmed = self.id.trim();
        if trimmed.is_empty() {
            if let Some(about) = self.url.as_deref().or(self.title.as_deref()) {
                // The unit separator occurs in none of the parts.
                let name = format!("{}\u{1f}{about}\u{1f}{}", self.vendor, self.published_at);
                self.id = Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_smolstr();
            }
        } else if trimmed.len() != self.id.len() {
            self.id = SmolStr::new(trimmed);
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        check_key(self.vendor.as_str(), "published_at", self.published_at)?;
        if self.id.is_empty() {
            let rule = "news needs an id, or a url or title to make one from";
            return Err(Invalid::new("id", &self.id, "missing_key", rule));
        }
        check_visible("id", &self.id)?;
        for symbol in self.symbol.iter().chain(&self.symbols) {
            check_visible("symbols", symbol.as_str())?;
        }
        match self.sentiment_score {
            Some(score) if !(-1.0..=1.0).contains(&score) => {
                let rule = "a sentiment score must lie between -1 and 1";
                Err(Invalid::new(
                    "sentiment_score",
                    score,
                    "sentiment_out_of_range",
                    rule,
                ))
            }
            _ => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.vendor.heap_bytes()
            + if self.id.is_heap_allocated() {
                self.id.len()
            } else {
                0
            }
            + self
                .symbols
                .iter()
                .map(|s| size_of::<Symbol>() + s.heap_bytes())
                .sum::<usize>()
            + self.title.as_ref().map_or(0, String::capacity)
            + self.url.as_ref().map_or(0, String::capacity)
    }
}
