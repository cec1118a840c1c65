//! From facts to records.

use std::collections::BTreeMap;

use mds_core::{Date, Fundamentals};
use smol_str::SmolStr;

use super::Item;
use super::facts::{Document, Fact, Figure};
use super::period::FiscalYears;

/// Assembles the records of a document; the answer is everything that is to be told, by line.
pub(super) fn assemble(
    document: Document,
    template: &Fundamentals,
    notes: &mut Vec<String>,
) -> Vec<(u64, Item)> {
    let Document {
        facts, mut items, ..
    } = document;
    let years = FiscalYears::of(&facts);
    let currency = currency_of(&facts);
    if let Some(currency) = &currency {
        notes.push(format!("{}: values in {currency}", template.symbol));
    }
    let mut periods: BTreeMap<(Date, &'static str), Vec<Fact>> = BTreeMap::new();
    for fact in facts {
        if Some(&fact.currency) != currency.as_ref() {
            items.push((fact.line, Item::Skipped("other_unit")));
        } else if let Some(period) = years.period(&fact) {
            periods.entry((fact.end, period)).or_default().push(fact);
        } else {
            items.push((fact.line, Item::Skipped("other_period")));
        }
    }
    for ((end, period), facts) in periods {
        let record = Fundamentals {
            asof: end.midnight(),
            period: SmolStr::new_static(period),
            ..template.clone()
        };
        of_period(record, facts, &mut items);
    }
    items
}

/// US dollars where there are any, else the currency of most facts (of several the first by name).
fn currency_of(facts: &[Fact]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for fact in facts {
        *counts.entry(&fact.currency).or_default() += 1;
    }
    if counts.contains_key("USD") {
        return Some("USD".to_owned());
    }
    let most = counts.iter().rev().max_by_key(|(_, count)| **count)?;
    Some((*most.0).to_owned())
}

/// The records of one period: one for each day of filing, each with all that was known then.
fn of_period(mut record: Fundamentals, facts: Vec<Fact>, items: &mut Vec<(u64, Item)>) {
    let mut ranks: BTreeMap<Figure, u8> = BTreeMap::new();
    for fact in &facts {
        let rank = ranks.entry(fact.figure).or_insert(fact.rank);
        *rank = fact.rank.min(*rank);
    }
    let mut filings: BTreeMap<Date, Vec<Fact>> = BTreeMap::new();
    for fact in facts {
        if ranks.get(&fact.figure) == Some(&fact.rank) {
            filings.entry(fact.filed).or_default().push(fact);
        } else {
            items.push((fact.line, Item::Skipped("other_concept")));
        }
    }
    for (filed, mut facts) in filings {
        // Of two filings of one day the later number wins.
        facts.sort_by(|a, b| a.accession.cmp(&b.accession));
        let line = facts.iter().map(|fact| fact.line).min().unwrap_or_default();
        for fact in &facts {
            *figure_of(&mut record, fact.figure) = Some(fact.value);
        }
        record.revision = filed.midnight().micros();
        items.push((line, Item::Record(record.clone())));
    }
}

fn figure_of(record: &mut Fundamentals, figure: Figure) -> &mut Option<f64> {
    match figure {
        Figure::Assets => &mut record.total_assets,
        Figure::Liabilities => &mut record.total_liabilities,
        Figure::NetIncome => &mut record.net_income,
        Figure::Eps => &mut record.eps,
    }
}
