//! `mds delete`: removes records.

use mds_core::settings::SettingFlag;
use mds_core::{Kind, Symbol, TenantId};
use mds_store::{OpenOptions, Query};

use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::runtime::block_on;
use crate::selection::{Selection, tenant_flag};
use crate::values::{self, with_record};

const EXAMPLES: &str = "\
Examples:
  mds delete bars --symbol BTCUSDT --vendor binance --end 2024-01-01
  mds delete news --vendor benzinga --yes
  mds delete options --all --yes

Says how many records it will delete and asks; where nobody can answer, it needs --yes.
The end is exclusive. Times are written as 2024-11-01 (midnight UTC) or 2024-11-01T09:30:00-05:00.
Records that are ingested again after this come back.";

/// Arguments of `mds delete`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The kind of record
    #[arg(value_name = "KIND", value_parser = values::kind_parser())]
    kind: Kind,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    selection: Selection,
    /// Of this tenant, instead of the one in the settings
    #[arg(long, value_name = "UUID", help_heading = "Which records")]
    tenant: Option<String>,
    /// Every record of the kind and the tenant
    #[arg(long, help_heading = "Which records")]
    all: bool,
}

impl Args {
    /// The flags that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        tenant_flag(self.tenant.as_deref())
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    match (args.selection.is_everything(), args.all) {
        (true, false) => {
            let what = format!(
                "say which {} to delete, such as --symbol SPY, or --all",
                args.kind
            );
            return Err(Usage::new(what).into());
        }
        (false, true) => {
            return Err(
                Usage::new("--all deletes everything; leave it out to delete a part").into(),
            );
        }
        _ => {}
    }
    let query = Query {
        tenant: Some(context.settings.tenant_id()),
        ..args.selection.query(args.kind)?
    };
    block_on(async { with_record!(args.kind, R => delete::<R>(args, query, context).await) })
}

async fn delete<R: mds_store::StoredRecord>(
    args: &Args,
    query: Query,
    context: &Context,
) -> anyhow::Result<Exit> {
    let options = OpenOptions {
        create: false,
        // Where there are no tables there is nothing to delete.
        migrate: false,
        ..OpenOptions::default()
    };
    let store = context.open(options).await?;
    let count = store.count::<R>(query.clone()).await?;
    let described = describe(args.kind, &query);
    if count == 0 {
        context.note(format_args!("there are no {described}"));
        return Ok(Exit::Success);
    }
    let question = format!(
        "this deletes {count} {described} from {}",
        context.settings.store()
    );
    if !confirm(&question, args.yes)? {
        context.note("nothing was deleted");
        return Ok(Exit::Success);
    }
    let deleted = store.delete::<R>(query).await?;
    store.close().await;
    context.note(format_args!("deleted {deleted} {described}"));
    Ok(Exit::Success)
}

/// The records that a query selects, in words.
fn describe(kind: Kind, query: &Query) -> String {
    let timeframe = query.timeframe.map(|timeframe| timeframe.to_string());
    let symbols: Vec<&str> = query.symbols.iter().map(Symbol::as_str).collect();
    let symbols = (!symbols.is_empty()).then(|| format!("of {}", symbols.join(", ")));
    let vendor = query.vendor.as_ref().map(|vendor| format!("by {vendor}"));
    let start = query.start.map(|start| format!("from {start}"));
    let end = query.end.map(|end| format!("before {end}"));
    let tenant = query.tenant.filter(|tenant| *tenant != TenantId::DEFAULT);
    let tenant = tenant.map(|tenant| format!("of tenant {tenant}"));
    let parts = [
        timeframe,
        Some(kind.to_string()),
        symbols,
        vendor,
        start,
        end,
        tenant,
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
