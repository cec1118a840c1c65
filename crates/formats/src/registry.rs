//! The formats, one line each.
//!
//! A new vendor family is a file under `vendors/` with a `FORMAT` in it, and its line in
//! [`formats`].

use std::fmt;

use mds_core::{Bar, Fundamentals, Kind, News, OptionSnap, Record};

use crate::decode::Decoder;
use crate::detect::{Fit, Sample};
use crate::error::OpenError;
use crate::own;
use crate::reader::Context;
use crate::vendors;

/// All formats, in the order in which they are listed.
pub fn formats() -> &'static [&'static Format] {
    &FORMATS
}

static FORMATS: [&Format; 8] = [
    &own::ndjson::FORMAT,
    &own::json::FORMAT,
    &own::csv::FORMAT,
    &vendors::binance::FORMAT,
    &vendors::bitfinex::FORMAT,
    &vendors::sec::FORMAT,
    &vendors::stooq::FORMAT,
    &vendors::yahoo::FORMAT,
];

/// One format that can be read.
///
/// ```
/// use mds_core::Kind;
/// use mds_formats::{Format, formats};
///
/// let format: &'static Format = "bitfinex".parse().unwrap();
/// assert_eq!(format.kinds().collect::<Vec<_>>(), [Kind::Bars]);
/// assert!(formats().contains(&format));
/// ```
pub struct Format {
    /// The name to pass as `--format`.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// A command that reads such a file.
    pub example: &'static str,
    pub(crate) detect: fn(&Sample<'_>) -> Fit,
    pub(crate) openers: Openers,
}

/// How a format starts to decode an input of one kind.
pub(crate) type Opener<R> = fn(&mut Context<'_>) -> Result<Box<dyn Decoder<R>>, OpenError>;

/// The kinds that a format holds.
pub(crate) struct Openers {
    pub(crate) bars: Option<Opener<Bar>>,
    pub(crate) options: Option<Opener<OptionSnap>>,
    pub(crate) fundamentals: Option<Opener<Fundamentals>>,
    pub(crate) news: Option<Opener<News>>,
}

impl Openers {
    pub(crate) const NONE: Self = Self {
        bars: None,
        options: None,
        fundamentals: None,
        news: None,
    };
}

impl Format {
    /// The kinds that files of this format hold.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        [
            (Kind::Bars, self.openers.bars.is_some()),
            (Kind::Options, self.openers.options.is_some()),
            (Kind::Fundamentals, self.openers.fundamentals.is_some()),
            (Kind::News, self.openers.news.is_some()),
        ]
        .into_iter()
        .filter_map(|(kind, held)| held.then_some(kind))
    }

    pub(crate) fn holds(&self, kind: Kind) -> bool {
        self.kinds().any(|k| k == kind)
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Format").field(&self.name).finish()
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Format {}

/// The text is not the name of a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a format; the formats are {known}")]
pub struct UnknownFormat {
    /// The text.
    pub name: String,
    /// The names of all formats.
    pub known: String,
}

impl std::str::FromStr for &'static Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let known = || formats().iter().map(|f| f.name);
        formats()
            .iter()
            .copied()
            .find(|f| f.name == text)
            .ok_or_else(|| UnknownFormat {
                name: text.to_owned(),
                known: known().collect::<Vec<_>>().join(", "),
            })
    }
}

/// A kind of record that formats can hold: the four of `mds-core`.
pub trait Readable: Record + sealed::Sealed {}

impl<R: Record + sealed::Sealed> Readable for R {}

pub(crate) mod sealed {
    use mds_core::{Bar, Fundamentals, News, OptionSnap};

    use super::{Opener, Openers};

    /// Finds the opener of a kind.
    pub trait Sealed: Sized {
        #[doc(hidden)]
        #[expect(
            private_interfaces,
            reason = "sealed: nobody outside can name or call it"
        )]
        fn opener(openers: &Openers) -> Option<Opener<Self>>;
    }

    macro_rules! opener {
        ($($record:ty: $field:ident),+) => {
            $(impl Sealed for $record {
                #[expect(private_interfaces, reason = "sealed: nobody outside can name or call it")]
                fn opener(openers: &Openers) -> Option<Opener<Self>> {
                    openers.$field
                }
            })+
        };
    }

    opener!(Bar: bars, OptionSnap: options, Fundamentals: fundamentals, News: news);
}
