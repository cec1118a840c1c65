//! Where a store is: `sqlite:PATH` or `postgres://...`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Dsn, DsnError};

/// The address of a store.
///
/// ```
/// use mds_store::StoreUrl;
///
/// assert_eq!(StoreUrl::parse("sqlite:market.db").unwrap().to_string(), "sqlite:market.db");
/// let server = StoreUrl::parse("postgres://u:secret@h/db").unwrap();
/// assert_eq!(server.to_string(), "postgres://u:***@h/db");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// A SQLite database in a file.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(Dsn),
}

/// Why a text is not the address of a store. No message shows a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// The address of a server has something wrong with it.
    #[error(transparent)]
    Address(#[from] DsnError),
    /// No back end has this scheme.
    #[error(
        "{scheme:?} is not a kind of store; use sqlite:PATH or postgres://..., such as sqlite:market.db"
    )]
    UnknownScheme {
        /// What stood before the colon.
        scheme: String,
    },
    /// There is no scheme.
    #[error("a store needs a scheme; write sqlite:PATH, such as sqlite:market.db")]
    NoScheme,
    /// `sqlite:` without a path.
    #[error("sqlite: needs the path of a file, such as sqlite:market.db")]
    NoPath,
    /// A database in memory would lose what it acknowledged.
    #[error("sqlite::memory: keeps nothing; use the path of a file, such as sqlite:market.db")]
    InMemory,
}

impl StoreUrl {
    /// Parses an address; see [`StoreUrlError`] for what is refused.
    pub fn parse(text: &str) -> Result<Self, StoreUrlError> {
        let Some((scheme, rest)) = text.trim().split_once(':') else {
            return Err(StoreUrlError::NoScheme);
        };
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => {
                // `sqlite:///absolute` and `sqlite://relative` are what other tools write.
                let path = rest.strip_prefix("//").unwrap_or(rest);
                match path {
                    "" => Err(StoreUrlError::NoPath),
                    ":memory:" => Err(StoreUrlError::InMemory),
                    path => Ok(Self::Sqlite(PathBuf::from(path))),
                }
            }
            "postgres" | "postgresql" => Ok(Self::Postgres(Dsn::parse(text)?)),
            _ => Err(StoreUrlError::UnknownScheme {
                scheme: scheme.to_owned(),
            }),
        }
    }

    /// The file of an embedded store; `None` for a server.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// Checks the files of certificates that the address names; nothing is connected to.
    pub fn check_files(&self) -> Result<(), StoreUrlError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(dsn) => Ok(dsn.check_files()?),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        Self::parse(text)
    }
}

impl fmt::Display for StoreUrl {
    /// The address without any password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(dsn) => write!(f, "{dsn}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_what_is_refused() {
        for (text, path) in [
            ("sqlite:market.db", "market.db"),
            ("sqlite:/var/lib/m.db", "/var/lib/m.db"),
            ("sqlite:///var/lib/m.db", "/var/lib/m.db"),
            (" SQLite:a b.db ", "a b.db"),
        ] {
            assert_eq!(StoreUrl::parse(text), Ok(StoreUrl::Sqlite(path.into())));
        }
        for (text, error) in [
            ("market.db", StoreUrlError::NoScheme),
            ("sqlite:", StoreUrlError::NoPath),
            ("sqlite::memory:", StoreUrlError::InMemory),
            ("sqlite://:memory:", StoreUrlError::InMemory),
            (
                "mysql://h/db",
                StoreUrlError::UnknownScheme {
                    scheme: "mysql".to_owned(),
                },
            ),
        ] {
            assert_eq!(StoreUrl::parse(text), Err(error), "{text}");
        }
    }
}
