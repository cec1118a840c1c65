//! The one table of settings, and how their values are found.
//!
//! [`TABLE`] says everything about a setting once: its name, its key in `mds.toml`, its environment
//! name, type, range, default and description. Loading, `mds config show`, the reference
//! `docs/settings.md` and the checks all read it, so that none of them can disagree.
//!
//! A value comes from the first of these that has one:
//!
//! ```text
//! flag  >  environment  >  .env  >  mds.toml  >  default
//! ```
//!
//! Nothing here reads a file or the environment: [`Settings::load`] gets texts and pairs and
//! answers with every setting, its value and its [`SettingOrigin`], or with **all** that is wrong
//! at once. A password in a URL never leaves [`SecretUrl`] except by [`SecretUrl::expose`].
//!
//! ```
//! use mds_core::settings::{Settings, SettingSources};
//!
//! let env = [("mds_coordinator_workers".to_owned(), "8".to_owned())];
//! let loaded = Settings::load(&SettingSources { env: &env, ..SettingSources::default() }).unwrap();
//! assert_eq!(loaded.settings.coordinator().coordinator_workers, 8);
//! assert_eq!(loaded.settings.coordinator().coordinator_capacity, 10_000);
//! ```

mod check;
mod dotenv;
mod error;
mod file;
mod load;
mod nearest;
mod parse;
mod redact;
mod table;
#[cfg(test)]
mod tests;
mod typed;
mod value;

pub use check::rules;
pub use error::{SettingProblem, SettingSide, SettingWarning, SettingsError};
pub use load::{
    Loaded, NAMES_READ_ELSEWHERE, ResolvedSetting, SettingFile, SettingFlag, SettingSources,
    Settings,
};
pub use parse::ValueError;
pub use redact::redact;
pub use table::{Setting, SettingDefault, SettingGroup, SettingType, TABLE, find};
pub use typed::{CoordinatorRuntimeSettings, FeedbackSettings, TimescaleSettings};
pub use value::{QueueChoice, SecretUrl, SettingOrigin, SettingValue};
