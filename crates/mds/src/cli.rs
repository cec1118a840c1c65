//! What can be typed: global options, and the list of commands.

use std::path::PathBuf;

use clap::{Args, Parser};
use mds_core::settings::SettingFlag;

use crate::commands::Command;

/// How exit codes are explained in `mds --help`.
const EXIT_CODES: &str = "\
Exit codes:
  0    everything was done
  1    it failed: the store, a file, a health check
  2    wrong usage or settings, or an input that is not recognised
  3    finished, but some rows were dead-lettered, dropped, refused, or damaged in a durable queue
  130  stopped by SIGINT (143: SIGTERM), after what was accepted was settled

Settings come from flags, then the environment (MDS_...), then .env, then mds.toml;
`mds config show` prints each of them and where it came from.";

/// Market data store: takes market data in, keeps it exactly once, gives it back.
#[derive(Debug, Parser)]
#[command(name = "mds", version, after_help = EXIT_CODES, propagate_version = false)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Where market data is kept, such as sqlite:market.db
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// Read settings from FILE instead of ./mds.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Read environment settings from FILE instead of ./.env
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// Only errors on standard error; results are printed all the same
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Tell more; repeat it for still more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Cli {
    /// The flags that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        let store = self.global.store.as_deref().map(|value| SettingFlag {
            flag: "--store",
            value,
        });
        store
            .into_iter()
            .chain(self.command.setting_flags())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
