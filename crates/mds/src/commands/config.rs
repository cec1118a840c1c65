//! `mds config show` and `mds config check`.

use clap::Subcommand;
use mds_core::settings::{ResolvedSetting, SettingDefault, SettingOrigin, SettingValue};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Out, table};

const SHOW_EXAMPLES: &str = "\
Examples:
  mds config show
  mds config show --json
  MDS_COORDINATOR_WORKERS=8 mds config show

Passwords are never shown.";

const CHECK_EXAMPLES: &str = "\
Examples:
  mds config check
  mds config check --config production.toml --env-file production.env

Exit code 0: all settings are in order; 2: some are not, and standard error says which.";

/// Arguments of `mds config`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  mds config show\n  mds config check --config mds.toml")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print every setting, its value and where that came from
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Print one JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Check every setting, and do nothing else
    #[command(after_help = CHECK_EXAMPLES)]
    Check,
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    match args.what {
        What::Show { json: false } => show(context)?,
        What::Show { json: true } => show_json(context)?,
        // Loading the settings has checked all but what is inside of an address.
        What::Check => {
            context.check_store()?;
            let set = context
                .settings
                .iter()
                .filter(|s| s.origin != SettingOrigin::Default)
                .count();
            let total = context.settings.iter().len();
            context.note(format_args!(
                "all {total} settings are in order, {set} of them set, the others by default"
            ));
        }
    }
    Ok(Exit::Success)
}

fn show(context: &Context) -> anyhow::Result<()> {
    let mut rows = table(&["setting", "value", "origin"]);
    for resolved in context.settings.iter() {
        let value = match (&resolved.value, resolved.setting.default) {
            (SettingValue::Absent, SettingDefault::Absent(meaning)) => format!("({meaning})"),
            (value, _) => value.to_string(),
        };
        rows.add_row([resolved.setting.name, &value, &resolved.origin.to_string()]);
    }
    let mut out = Out::stdout();
    out.table(&rows)?;
    out.finish()
}

fn show_json(context: &Context) -> anyhow::Result<()> {
    let entry = |resolved: &ResolvedSetting| {
        json!({
            "name": resolved.setting.name,
            "env": resolved.setting.env,
            "key": resolved.setting.key,
            "value": json_value(&resolved.value),
            "origin": resolved.origin.to_string(),
        })
    };
    let mut out = Out::stdout();
    out.json(&context.settings.iter().map(entry).collect())?;
    out.finish()
}

/// Numbers and truth values as such, absent values as null, everything else as text.
fn json_value(value: &SettingValue) -> Value {
    match value {
        SettingValue::Int(v) => Value::from(*v),
        SettingValue::Float(v) => Value::from(*v),
        SettingValue::Bool(v) => Value::from(*v),
        SettingValue::Absent => Value::Null,
        other => Value::from(other.to_string()),
    }
}
