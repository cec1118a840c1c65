//! `mds latest`: the last price of each instrument.

use std::io::Write as _;

use anyhow::Context as _;
use mds_core::settings::SettingFlag;
use mds_core::{Symbol, Timeframe, Vendor};
use mds_store::{LatestPrice, Query};

use crate::commands::query::Form;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Out, table};
use crate::runtime::block_on;
use crate::selection::Tenants;
use crate::values;

const EXAMPLES: &str = "\
Examples:
  mds latest
  mds latest BTCUSDT ETHUSDT --vendor binance
  mds latest SPY --output ndjson

The price is the close of the bar with the latest start that has a close.";

/// Arguments of `mds latest`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only these instruments
    #[arg(value_name = "SYMBOL", value_parser = values::symbol)]
    symbols: Vec<Symbol>,
    /// Only from this vendor
    #[arg(long, value_name = "VENDOR", value_parser = values::vendor)]
    vendor: Option<Vendor>,
    /// Only bars of this span
    #[arg(long, value_name = "SPAN")]
    timeframe: Option<Timeframe>,
    /// The form of the output
    #[arg(long, short, value_enum, default_value_t = Form::Table, value_name = "FORM")]
    output: Form,
    #[command(flatten)]
    tenants: Tenants,
}

impl Args {
    /// The flags that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        self.tenants.setting_flags()
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let query = Query {
        symbols: args.symbols.clone(),
        vendor: args.vendor.clone(),
        timeframe: args.timeframe,
        ..args.tenants.apply(Query::default(), context)
    };
    let prices = block_on(async {
        let store = context.open_for_reading().await?;
        let prices = store.latest(query).await?;
        store.close().await;
        anyhow::Ok(prices)
    })?;
    let mut out = Out::stdout();
    match args.output.row_format() {
        None if prices.is_empty() => {}
        None => out.table(&table_of(&prices, args.tenants.all_tenants))?,
        Some(format) => {
            let text = mds_server::write_prices(format, &prices);
            let written = text.and_then(|text| out.write_all(&text));
            written.context("cannot write to standard output")?;
        }
    }
    out.finish()?;
    tell_missing(&args.symbols, &prices, context);
    Ok(Exit::Success)
}

fn table_of(prices: &[LatestPrice], with_tenant: bool) -> comfy_table::Table {
    let tenant = with_tenant.then_some("tenant_id");
    let columns: Vec<&str> = tenant
        .into_iter()
        .chain(["vendor", "symbol", ">price", "price_timestamp"])
        .collect();
    let mut rows = table(&columns);
    for p in prices {
        let values = [
            p.vendor.to_string(),
            p.symbol.to_string(),
            p.price.to_string(),
            p.price_timestamp.to_string(),
        ];
        let tenant = with_tenant.then(|| p.tenant_id.to_string());
        rows.add_row(tenant.into_iter().chain(values));
    }
    rows
}

fn tell_missing(wanted: &[Symbol], prices: &[LatestPrice], context: &Context) {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|symbol| prices.iter().all(|p| p.symbol != **symbol))
        .map(Symbol::as_str)
        .collect();
    if !missing.is_empty() {
        context.note(format_args!("no price of {}", missing.join(", ")));
    } else if prices.is_empty() {
        context.note("no prices");
    }
}
