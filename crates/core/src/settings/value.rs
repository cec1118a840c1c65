//! The value of a setting and where it came from.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::redact::redact;
use crate::ids::TenantId;

/// The value of a setting, of the type that the table gives it.
///
/// `Display` and `Debug` show no password.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingValue {
    /// A whole number.
    Int(u64),
    /// A number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// One of the words of the table.
    Choice(&'static str),
    /// A tenant.
    Tenant(TenantId),
    /// An address to listen on.
    Address(SocketAddr),
    /// A URL, which may hold a password.
    Url(SecretUrl),
    /// Where records wait.
    Queue(QueueChoice),
    /// The path of a file.
    Path(PathBuf),
    /// Not set, and without a default.
    Absent,
}

impl fmt::Display for SettingValue {
    /// The text that reads back equal, except that passwords are hidden; empty for `Absent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{v:?}"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Choice(v) => f.write_str(v),
            Self::Tenant(v) => write!(f, "{v}"),
            Self::Address(v) => write!(f, "{v}"),
            Self::Url(v) => write!(f, "{v}"),
            Self::Queue(v) => write!(f, "{v}"),
            Self::Path(v) => write!(f, "{}", v.display()),
            Self::Absent => Ok(()),
        }
    }
}

/// Where records wait before they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueChoice {
    /// In the memory of this process.
    Memory,
    /// In a folder on the disk.
    Disk(PathBuf),
}

impl fmt::Display for QueueChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Disk(dir) => write!(f, "disk:{}", dir.display()),
        }
    }
}

/// A URL that may hold a password, which neither `Display` nor `Debug` shows.
///
/// ```
/// use mds_core::settings::SecretUrl;
///
/// let url = SecretUrl::new("postgres://me:secret@db/market");
/// assert_eq!(url.to_string(), "postgres://me:***@db/market");
/// assert_eq!(format!("{url:?}"), "\"postgres://me:***@db/market\"");
/// assert_eq!(url.expose(), "postgres://me:secret@db/market");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Takes the URL as it is.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password, for opening a connection and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&redact(&self.0), f)
    }
}

/// Where the value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingOrigin {
    /// A command-line flag, such as `--store`.
    Flag(&'static str),
    /// An environment variable, spelt as it was found.
    Environment(String),
    /// A line of `.env` or `mds.toml`.
    File {
        /// The file, as the user named it.
        name: String,
        /// The line, from 1.
        line: usize,
    },
    /// Nothing was set.
    Default,
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Default => f.write_str("default"),
        }
    }
}
