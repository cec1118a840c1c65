//! What is wrong with settings, all of it at once.

use std::fmt;

use super::parse::ValueError;
use super::value::SettingOrigin;

/// One thing that is wrong.
///
/// Values stand here with their passwords hidden already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingProblem {
    /// A value that its setting does not take.
    #[error("{setting} = {value:?} ({origin}) {reason}; use {allowed}")]
    Value {
        /// The setting.
        setting: &'static str,
        /// The text that was given.
        value: String,
        /// Where it was given.
        origin: SettingOrigin,
        /// Why it is refused.
        reason: ValueError,
        /// What is allowed.
        allowed: String,
    },
    /// Two values that do not go together.
    #[error("{left} must be {rule} {right}")]
    Relation {
        /// The one setting.
        left: Box<SettingSide>,
        /// What must hold between them, such as "at most".
        rule: &'static str,
        /// The other setting.
        right: Box<SettingSide>,
    },
    /// One setting needs another.
    #[error("{setting} = true ({origin}) needs {needs}; set {needs_env} too")]
    Needs {
        /// The setting that was switched on.
        setting: &'static str,
        /// Where.
        origin: SettingOrigin,
        /// The setting that is missing.
        needs: &'static str,
        /// Its environment name.
        needs_env: &'static str,
    },
    /// Two names of one setting, in one place, with different values.
    #[error("{first} and {second} in {place} are the same setting with different values; keep one")]
    Ambiguous {
        /// The one name.
        first: String,
        /// The other name.
        second: String,
        /// `the environment` or the file.
        place: String,
    },
    /// A line of `.env` or `mds.toml` that cannot be read.
    #[error("{file}:{line}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// One side of a [`SettingProblem::Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingSide {
    /// The setting.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// Where that was given.
    pub origin: SettingOrigin,
}

impl fmt::Display for SettingSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.setting, self.value, self.origin)
    }
}

/// Everything that is wrong with the settings, and the warnings that may explain it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// What is wrong; never empty.
    pub problems: Vec<SettingProblem>,
    /// Unknown names, one of which may be a misspelt one.
    pub warnings: Vec<SettingWarning>,
}

impl fmt::Display for SettingsError {
    /// One line for one problem, else a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => write!(f, "{only}"),
            many => {
                write!(f, "{} settings are wrong:", many.len())?;
                many.iter()
                    .try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for SettingsError {}

/// Something that has no effect and was probably meant to have one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingWarning {
    /// A name that begins like ours, or a key in our file, that no setting has.
    Unknown {
        /// The name.
        name: String,
        /// Where it was found.
        origin: SettingOrigin,
        /// The known name nearest to it.
        nearest: Option<&'static str>,
    },
    /// A name that the same file sets again further down.
    Repeated {
        /// The name.
        name: String,
        /// The file.
        file: String,
        /// The line without effect.
        line: usize,
        /// The line that counts.
        used: usize,
    },
}

impl fmt::Display for SettingWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown {
                name,
                origin,
                nearest,
            } => {
                write!(f, "{name} ({origin}) is not a setting and has no effect")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest}?"),
                    None => Ok(()),
                }
            }
            Self::Repeated {
                name,
                file,
                line,
                used,
            } => {
                write!(
                    f,
                    "{name} ({file}:{line}) has no effect: line {used} sets it again"
                )
            }
        }
    }
}
