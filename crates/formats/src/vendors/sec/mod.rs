//! `sec`: the company facts of the SEC's EDGAR (`companyfacts/CIK##########.json`).
//!
//! The document lists facts one by one (concept, unit, period, value, filing); records are
//! assembled from them.
//!
//! - Concepts: `us-gaap` and `ifrs-full` `Assets`, `Liabilities`; `NetIncomeLoss`, and `ProfitLoss`
//!   where no filing gives the former for the period; `EarningsPerShareBasic`,
//!   `BasicEarningsLossPerShare`. Facts of other concepts are skipped, `unmapped_concept`.
//! - A record has the values of one period, as known from the filings of one day: what the filings
//!   of that day leave out is carried forward from earlier ones, since a whole record replaces a
//!   whole record. The revision is the day of filing.
//! - Balance-sheet values stand at period `instant`; income at `FY`, `Q1` to `Q4`, `H1`, `H2` and
//!   `9M`, told by the length of the span and its place in the fiscal year. (The `fp` of a fact is
//!   that of the filing, not of the fact; it is used only where the document has no full year.)
//! - One currency: US dollars where a mapped fact has them, else the currency with the most mapped
//!   facts. The rest is skipped, `other_unit`.
//! - The symbol is that of the option, else `CIK` and the ten digits of the company's number, since
//!   the document has no ticker.

mod assemble;
mod facts;
mod period;

use std::collections::VecDeque;

use mds_core::{Fundamentals, Vendor};

use crate::decode::{Decoder, Verdicts};
use crate::detect::{Fit, Sample};
use crate::error::{OpenError, ReadError};
use crate::input::Part;
use crate::reader::Context;
use crate::registry::{Format, Openers};
use crate::verdict::Fault;

pub(crate) static FORMAT: Format = Format {
    name: "sec",
    about: "SEC EDGAR company facts (us-gaap and ifrs-full)",
    example: "mds ingest fundamentals CIK0000320193.json --symbol AAPL",
    detect,
    openers: Openers {
        fundamentals: Some(open),
        ..Openers::NONE
    },
};

fn detect(sample: &Sample<'_>) -> Fit {
    let text = &sample.text;
    let has = |key: &str| text.contains(&format!("\"{key}\""));
    let taxonomy = ["us-gaap", "ifrs-full", "dei"].into_iter().any(has);
    let facts = has("facts") && has("units") && taxonomy;
    // A company that has filed none.
    let none = text.contains("\"facts\":{}");
    if sample.first_char() == Some('{') && has("cik") && (facts || none) {
        Fit::yes("a JSON object with cik, facts and units")
    } else {
        Fit::No
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature that every opener has"
)]
fn open(context: &mut Context<'_>) -> Result<Box<dyn Decoder<Fundamentals>>, OpenError> {
    let options = context.options;
    if options.symbol.is_none() {
        context.note("the document has no ticker: the symbol is CIK and the company's number");
    }
    let vendor = options.vendor.clone();
    Ok(Box::new(CompanyFacts {
        template: Fundamentals {
            tenant_id: context.tenant(),
            vendor: vendor.unwrap_or_else(|| Vendor::new("sec")),
            symbol: options.symbol.clone().unwrap_or_default(),
            ..Fundamentals::default()
        },
        items: VecDeque::new(),
    }))
}

/// What a document comes to.
#[derive(Debug)]
enum Item {
    Record(Fundamentals),
    Invalid { fault: Fault, raw: String },
    Skipped(&'static str),
}

/// Decodes one document a part.
struct CompanyFacts {
    template: Fundamentals,
    /// What is still to be told, with lines.
    items: VecDeque<(u64, Item)>,
}

impl Decoder<Fundamentals> for CompanyFacts {
    fn begin(&mut self, part: &mut Part, notes: &mut Vec<String>) -> Result<(), ReadError> {
        let text = part.document()?;
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let document = facts::parse(&part.path, &text)?;
        let mut template = self.template.clone();
        if template.symbol.is_empty() {
            template.symbol = document.symbol.as_str().into();
        }
        self.items = assemble::assemble(document, &template, notes).into();
        Ok(())
    }

    fn fill(
        &mut self,
        _: &mut Part,
        verdicts: &mut Verdicts<'_, Fundamentals>,
        max: usize,
    ) -> Result<bool, ReadError> {
        while verdicts.out.len() < max {
            match self.items.pop_front() {
                None => return Ok(false),
                Some((line, Item::Record(record))) => verdicts.at(line, "").record(record),
                Some((line, Item::Skipped(reason))) => verdicts.at(line, "").skip(reason),
                Some((line, Item::Invalid { fault, raw })) => {
                    verdicts.at(line, &raw).invalid(fault);
                }
            }
        }
        Ok(true)
    }
}
