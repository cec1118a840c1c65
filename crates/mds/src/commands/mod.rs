//! The commands: one file each, with its arguments and a `run(args, &Context) -> Result<Exit>`.
//!
//! A new command is a file here, a variant of [`Command`] and an arm in [`Command::run`]; if some
//! of its flags stand for settings, also an arm in [`Command::setting_flags`].

mod config;

use clap::Subcommand;
use mds_core::settings::SettingFlag;

use crate::context::Context;
use crate::exit::Exit;

/// What `mds` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show or check the settings
    Config(config::Args),
}

impl Command {
    /// The flags of the command that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        match self {
            Self::Config(_) => Vec::new(),
        }
    }

    /// Does it.
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Config(args) => config::run(&args, context),
        }
    }
}
