//! From the document to facts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mds_core::Date;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Item;
use crate::error::{JsonFault, ReadError};
use crate::values::{date, number};
use crate::verdict::Fault;

/// What a concept tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    Assets,
    Liabilities,
    NetIncome,
    Eps,
}

impl Figure {
    /// Whether it is the state of one day, not the sum over a span.
    pub(super) const fn is_balance(self) -> bool {
        matches!(self, Self::Assets | Self::Liabilities)
    }

    const fn field(self) -> &'static str {
        match self {
            Self::Assets => "total_assets",
            Self::Liabilities => "total_liabilities",
            Self::NetIncome => "net_income",
            Self::Eps => "eps",
        }
    }
}

/// Taxonomy, concept, what it tells, and its rank: of two concepts for one period the lower counts.
const CONCEPTS: [(&str, &str, Figure, u8); 9] = [
    ("us-gaap", "Assets", Figure::Assets, 0),
    ("us-gaap", "Liabilities", Figure::Liabilities, 0),
    ("us-gaap", "NetIncomeLoss", Figure::NetIncome, 0),
    ("us-gaap", "ProfitLoss", Figure::NetIncome, 1),
    ("us-gaap", "EarningsPerShareBasic", Figure::Eps, 0),
    ("ifrs-full", "Assets", Figure::Assets, 0),
    ("ifrs-full", "Liabilities", Figure::Liabilities, 0),
    ("ifrs-full", "ProfitLoss", Figure::NetIncome, 0),
    ("ifrs-full", "BasicEarningsLossPerShare", Figure::Eps, 0),
];

/// A fact of a concept that is mapped.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) figure: Figure,
    pub(super) rank: u8,
    /// `USD`; for earnings per share the currency before `/shares`.
    pub(super) currency: String,
    pub(super) start: Option<Date>,
    pub(super) end: Date,
    pub(super) value: f64,
    pub(super) filed: Date,
    /// The filing: its number grows within a filer's year.
    pub(super) accession: String,
    /// The fiscal period of the filing.
    pub(super) filing_period: Option<String>,
    pub(super) line: u64,
}

/// What a document holds.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) symbol: String,
    pub(super) facts: Vec<Fact>,
    /// Facts that are invalid or of other concepts.
    pub(super) items: Vec<(u64, Item)>,
}

#[derive(Deserialize)]
struct RawDocument<'a> {
    #[serde(borrow)]
    cik: &'a RawValue,
    #[serde(borrow)]
    facts: BTreeMap<Cow<'a, str>, BTreeMap<Cow<'a, str>, RawConcept<'a>>>,
}

#[derive(Deserialize)]
struct RawConcept<'a> {
    #[serde(borrow)]
    units: BTreeMap<Cow<'a, str>, Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct RawFact<'a> {
    #[serde(borrow)]
    start: Option<Cow<'a, str>>,
    #[serde(borrow)]
    end: Cow<'a, str>,
    #[serde(borrow)]
    val: &'a RawValue,
    #[serde(borrow)]
    accn: Cow<'a, str>,
    #[serde(borrow)]
    fp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    filed: Cow<'a, str>,
}

/// Reads the document at `path`.
pub(super) fn parse(path: &str, text: &str) -> Result<Document, ReadError> {
    let raw: RawDocument<'_> = serde_json::from_str(text).map_err(|source| ReadError::Json {
        path: path.to_owned(),
        line: source.line() as u64,
        source: source.into(),
    })?;
    let digits = raw.cik.get().trim_matches('"');
    let cik: u64 = digits.parse().map_err(|_| ReadError::Malformed {
        path: path.to_owned(),
        line: 1,
        reason: format!("cik is {digits:?}, not a number"),
    })?;
    let lines = LineTable::new(text);
    let mut document = Document {
        symbol: format!("CIK{cik:010}"),
        facts: Vec::new(),
        items: Vec::new(),
    };
    for (taxonomy, concepts) in &raw.facts {
        for (concept, RawConcept { units }) in concepts {
            let own = CONCEPTS
                .iter()
                .find(|(t, c, ..)| t == taxonomy && c == concept);
            for (unit, fact) in units
                .iter()
                .flat_map(|(u, facts)| facts.iter().map(move |f| (u, f)))
            {
                let line = lines.line_of(fact.get());
                let Some(&(_, _, figure, rank)) = own else {
                    document
                        .items
                        .push((line, Item::Skipped("unmapped_concept")));
                    continue;
                };
                match read_fact(fact.get(), figure, rank, unit, line) {
                    Ok(fact) => document.facts.push(fact),
                    Err(fault) => {
                        let raw = fact.get().to_owned();
                        document.items.push((line, Item::Invalid { fault, raw }));
                    }
                }
            }
        }
    }
    Ok(document)
}

fn read_fact(text: &str, figure: Figure, rank: u8, unit: &str, line: u64) -> Result<Fact, Fault> {
    let raw: RawFact<'_> = serde_json::from_str(text).map_err(|error| {
        Fault::line(
            "malformed",
            format!("a fact must be whole: {}", JsonFault::from(error)),
        )
    })?;
    Ok(Fact {
        figure,
        rank,
        currency: unit.strip_suffix("/shares").unwrap_or(unit).to_owned(),
        start: raw
            .start
            .as_deref()
            .map(|start| date("start", start))
            .transpose()?,
        end: date("asof", &raw.end)?,
        value: number(figure.field(), raw.val.get())?,
        filed: date("filed", &raw.filed)?,
        accession: raw.accn.into_owned(),
        filing_period: raw.fp.map(Cow::into_owned),
        line,
    })
}

/// Finds the line of a piece of the text.
struct LineTable<'a> {
    text: &'a str,
    ends: Vec<usize>,
}

impl<'a> LineTable<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            ends: memchr::memchr_iter(b'\n', text.as_bytes()).collect(),
        }
    }

    /// The line, from 1, where `piece`, which borrows from the text, starts.
    fn line_of(&self, piece: &str) -> u64 {
        let at = piece
            .as_ptr()
            .addr()
            .saturating_sub(self.text.as_ptr().addr());
        1 + self.ends.partition_point(|&end| end < at) as u64
    }
}
