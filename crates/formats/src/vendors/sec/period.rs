//! Which period of a fiscal year a span is.

use mds_core::Date;

use super::facts::Fact;

/// Days of a quarter: from 12 weeks to 17 (retailers have such), of a half, of nine months, of a
/// year (52 or 53 weeks).
const QUARTER: std::ops::RangeInclusive<i32> = 75..=125;
const HALF: std::ops::RangeInclusive<i32> = 160..=200;
const NINE_MONTHS: std::ops::RangeInclusive<i32> = 245..=290;
const YEAR: std::ops::RangeInclusive<i32> = 350..=380;

/// How far the start of a fiscal year may move between years of 52 and 53 weeks.
const DRIFT: i32 = 20;

/// Where the fiscal years of a company start.
#[derive(Debug)]
pub(super) struct FiscalYears {
    starts: Vec<Date>,
}

impl FiscalYears {
    /// The starts of all spans of a year's length.
    pub(super) fn of(facts: &[Fact]) -> Self {
        let year = |fact: &Fact| {
            let start = fact.start?;
            YEAR.contains(&days(start, fact.end)).then_some(start)
        };
        let mut starts: Vec<Date> = facts.iter().filter_map(year).collect();
        starts.sort_unstable();
        starts.dedup();
        Self { starts }
    }

    /// The period of a fact; `None` where it has no name.
    pub(super) fn period(&self, fact: &Fact) -> Option<&'static str> {
        let Some(start) = fact.start else {
            return fact.figure.is_balance().then_some("instant");
        };
        if fact.figure.is_balance() {
            return None;
        }
        let length = days(start, fact.end);
        let filing = fact.filing_period.as_deref();
        if YEAR.contains(&length) {
            return Some("FY");
        }
        if QUARTER.contains(&length) {
            return match self.days_into_year(start).map(|d| (d + 45) / 91) {
                Some(0) => Some("Q1"),
                Some(1) => Some("Q2"),
                Some(2) => Some("Q3"),
                Some(3) => Some("Q4"),
                Some(_) => None,
                None => ["Q1", "Q2", "Q3", "Q4"]
                    .into_iter()
                    .find(|q| filing == Some(q)),
            };
        }
        if HALF.contains(&length) {
            return match self.days_into_year(start) {
                Some(0..=45) => Some("H1"),
                Some(140..=230) => Some("H2"),
                Some(_) => None,
                None => (filing == Some("Q2")).then_some("H1"),
            };
        }
        if NINE_MONTHS.contains(&length) {
            return match self.days_into_year(start) {
                Some(0..=45) => Some("9M"),
                Some(_) => None,
                None => (filing == Some("Q3")).then_some("9M"),
            };
        }
        None
    }

    /// Days from the start of the fiscal year to `start`; `None` where no year is known.
    fn days_into_year(&self, start: Date) -> Option<i32> {
        let before = self
            .starts
            .iter()
            .rev()
            .find(|s| s.days() <= start.days() + DRIFT);
        let anchor = before.or(self.starts.first())?;
        let into = (start.days() - anchor.days()).rem_euclid(365);
        Some(if into > 365 - DRIFT { 0 } else { into })
    }
}

/// Days of a span, both ends included.
fn days(start: Date, end: Date) -> i32 {
    end.days().saturating_sub(start.days()).saturating_add(1)
}
