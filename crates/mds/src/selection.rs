//! Options that choose records, the same for every command that reads or deletes some.

use clap::Args;
use mds_core::settings::SettingFlag;
use mds_core::{Kind, Symbol, Timeframe, Timestamp, Vendor};
use mds_store::Query;

use crate::context::Context;
use crate::exit::Usage;
use crate::values;

/// Which records.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which records")]
pub(crate) struct Selection {
    /// Of this instrument; may be given several times
    #[arg(long = "symbol", short = 's', value_name = "SYMBOL", value_parser = values::symbol)]
    pub(crate) symbols: Vec<Symbol>,
    /// From this vendor
    #[arg(long, value_name = "VENDOR", value_parser = values::vendor)]
    pub(crate) vendor: Option<Vendor>,
    /// Of this span, such as 1m, 1h or 1d (bars only)
    #[arg(long, value_name = "SPAN")]
    pub(crate) timeframe: Option<Timeframe>,
    /// From this time on (inclusive)
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(crate) start: Option<Timestamp>,
    /// Before this time (exclusive)
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(crate) end: Option<Timestamp>,
}

/// Whose records are read.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which records")]
pub(crate) struct Tenants {
    /// Of this tenant, instead of the one in the settings
    #[arg(long, value_name = "UUID", conflicts_with = "all_tenants")]
    pub(crate) tenant: Option<String>,
    /// Of every tenant
    #[arg(long)]
    pub(crate) all_tenants: bool,
}

impl Selection {
    /// The query for records of `kind`, without a tenant.
    ///
    /// # Errors
    ///
    /// [`Usage`] where an option does not fit the kind, or no time lies between start and end.
    pub(crate) fn query(&self, kind: Kind) -> Result<Query, Usage> {
        if self.timeframe.is_some() && kind != Kind::Bars {
            return Err(Usage::new(format!(
                "--timeframe is for bars; {kind} have no span"
            )));
        }
        if let (Some(start), Some(end)) = (self.start, self.end)
            && start >= end
        {
            return Err(Usage::new(format!(
                "no time lies between --start {start} and --end {end}; the end is exclusive"
            )));
        }
        Ok(Query {
            symbols: self.symbols.clone(),
            vendor: self.vendor.clone(),
            timeframe: self.timeframe,
            start: self.start,
            end: self.end,
            ..Query::default()
        })
    }

    /// Whether nothing restricts the records.
    pub(crate) fn is_everything(&self) -> bool {
        self.symbols.is_empty()
            && self.vendor.is_none()
            && self.timeframe.is_none()
            && self.start.is_none()
            && self.end.is_none()
    }
}

impl Tenants {
    /// Restricts a query to the tenant.
    pub(crate) fn apply(&self, mut query: Query, context: &Context) -> Query {
        query.tenant = (!self.all_tenants).then(|| context.settings.tenant_id());
        query
    }

    /// The flags that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        tenant_flag(self.tenant.as_deref())
    }
}

/// The setting that `--tenant` stands for.
pub(crate) fn tenant_flag(tenant: Option<&str>) -> Vec<SettingFlag<'_>> {
    tenant
        .into_iter()
        .map(|value| SettingFlag {
            flag: "--tenant",
            value,
        })
        .collect()
}
