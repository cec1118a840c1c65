//! How the columns of a table become ours.

use mds_core::{Timeframe, Timestamp};
use tokio_postgres::{Client, Error};

use super::catalog::{self, ColumnShape, literal, quoted};
use super::figures::rows_of;
use super::table::{Look, VIEWS};
use super::wanted::Wanted;

/// Parts of one `ALTER TABLE`, and what they do in words.
#[derive(Debug, Default)]
struct Parts {
    says: Vec<String>,
    /// Columns that are added, before anything else.
    add: Vec<String>,
    alter: Vec<String>,
    /// Columns whose type or values change.
    altered: Vec<&'static str>,
}

impl Parts {
    fn add(&mut self, table: &str, want: &Wanted) {
        let ty = want.ty.sql();
        self.says.push(format!("{table}: add {} ({ty})", want.name));
        self.add.push(format!("ADD COLUMN {}", want.definition()));
    }

    fn alter(&mut self, table: &str, want: &Wanted, column: &ColumnShape, value: &str) {
        let (name, ty) = (quoted(want.name), want.ty.sql());
        let changes_type = column.ty != ty;
        if changes_type {
            self.says
                .push(format!("{table}: {} {} becomes {ty}", want.name, column.ty));
        }
        let default = column.default.as_deref().filter(|_| changes_type);
        if default.is_some() {
            self.alter.push(format!("ALTER COLUMN {name} DROP DEFAULT"));
        }
        let collation = want.collation;
        let is_bytewise = column.collation.as_deref() == Some("C");
        let changes_collation = !collation.is_empty() && !is_bytewise;
        if changes_type || changes_collation || value != name {
            self.altered.push(want.name);
            self.alter.push(format!(
                "ALTER COLUMN {name} TYPE {ty}{collation} USING {value}"
            ));
        }
        if let Some(default) = default {
            self.alter
                .push(format!("ALTER COLUMN {name} SET DEFAULT ({default})::{ty}"));
        }
        if want.is_not_null && !column.is_not_null {
            self.alter.push(format!("ALTER COLUMN {name} SET NOT NULL"));
        } else if column.is_not_null && !want.is_not_null {
            self.says
                .push(format!("{table}: {} may be absent", want.name));
            self.alter
                .push(format!("ALTER COLUMN {name} DROP NOT NULL"));
        }
    }
}

impl Look<'_> {
    /// Columns in our types, spellings and key.
    pub(super) async fn columns(&mut self, client: &Client) -> Result<(), Error> {
        let table = self.shape.name.clone();
        let mut parts = Parts::default();
        for want in &self.wanted {
            match self.shape.column(want.name) {
                None => parts.add(&table, want),
                Some(column) => parts.alter(&table, want, column, &self.value(want)),
            }
        }
        for texts in &self.texts {
            parts.says.extend(texts.said(&table));
        }
        if self.figures.without_tenant > 0 {
            parts.says.push(format!(
                "{table}: {} without a tenant become those of {}",
                rows_of(self.figures.without_tenant),
                self.tenant
            ));
        }
        self.revision(&mut parts);
        self.symbols(&mut parts);
        let sql = |actions: &[String]| match actions {
            [] => String::new(),
            actions => format!("ALTER TABLE {table} {}", actions.join(", ")),
        };
        self.change([], sql(&parts.add));
        // In one statement, so that the rows are written once.
        self.change(parts.says, sql(&parts.alter));
        if !self.shape.uniques.iter().any(|u| self.is_our_key(u)) {
            let says = format!("the key becomes ({})", self.key.join(", "));
            let list: Vec<_> = self.key.iter().map(|k| quoted(k)).collect();
            self.alter(&says, &format!("ADD PRIMARY KEY ({})", list.join(", ")));
        }
        self.leaning(client, &parts.altered).await
    }

    /// The revision is when the row was last written, as far as the table says.
    fn revision(&self, parts: &mut Parts) {
        let table = &self.shape.name;
        let is_stamp = |name: &&str| {
            let column = self.shape.column(name);
            column.is_some_and(|c| c.base == "timestamptz")
        };
        let stamps = ["updated_at", "created_at"].into_iter().filter(is_stamp);
        let stamps: Vec<_> = stamps.collect();
        if stamps.is_empty() || self.shape.column("revision").is_some() {
            return;
        }
        let list = stamps.join(", else ");
        let stamps: Vec<_> = stamps.into_iter().map(quoted).collect();
        let stamp = format!("coalesce({})", stamps.join(", "));
        parts
            .says
            .push(format!("{table}: the revision is taken from {list}"));
        parts.alter.push(format!(
            "ALTER COLUMN \"revision\" TYPE bigint USING CASE WHEN isfinite({stamp}) THEN \
             (extract(epoch FROM least({stamp}, now())) * 1000000)::bigint ELSE 0 END"
        ));
        if let Some(spans) = self.spans() {
            parts.says.push(format!(
                "{table}: bars that were not over at their revision are provisional"
            ));
            // Not by `make_interval(secs => ...)`: TimescaleDB cannot hand a named argument on to
            // the chunks.
            parts.alter.push(format!(
                "ALTER COLUMN \"provisional\" TYPE boolean USING \
                 coalesce(\"ts\" + interval '1 second' * {spans} > {stamp}, false)"
            ));
        }
    }

    /// All symbols of a headline are the one that it has.
    fn symbols(&self, parts: &mut Parts) {
        let wants = |name: &str| self.wanted.iter().find(|w| w.name == name);
        let is_there = |name: &str| self.shape.column(name).is_some();
        if let (Some(symbol), Some(_)) = (wants("symbol"), wants("symbols"))
            && is_there("symbol")
            && !is_there("symbols")
        {
            let table = &self.shape.name;
            parts
                .says
                .push(format!("{table}: symbols holds the one symbol"));
            parts.alter.push(format!(
                "ALTER COLUMN \"symbols\" TYPE text USING {}",
                self.value(symbol)
            ));
        }
    }

    /// The seconds that a bar lasts, as SQL; `None` for other kinds.
    fn spans(&self) -> Option<String> {
        self.wanted.iter().find(|w| w.name == "provisional")?;
        let is_new = self.shape.column("provisional").is_none();
        let texts = self.texts.iter().find(|t| t.column == "timeframe")?;
        let seconds = |found: &str| {
            let timeframe: Timeframe = found.parse().ok()?;
            let end = timeframe.end_of(Timestamp::from_micros(0)).micros();
            Some(format!("WHEN {} THEN {}", literal(found), end / 1_000_000))
        };
        let whens: Vec<_> = texts.all.iter().filter_map(|t| seconds(t)).collect();
        (is_new && !whens.is_empty())
            .then(|| format!("CASE \"timeframe\"::text {} END", whens.join(" ")))
    }

    /// What else uses the columns that are altered.
    async fn leaning(&mut self, client: &Client, altered: &[&str]) -> Result<(), Error> {
        let original = format!(
            "tenant_isolation_{}",
            self.shape.name.replace("public.", "")
        );
        let mut but: Vec<String> = VIEWS.map(str::to_owned).to_vec();
        but.push(original);
        for what in catalog::leaning(client, self.shape.oid, altered, &but).await? {
            self.problem(format!(
                "has columns that must be altered and {what} uses; drop it first and make it \
                 again afterwards"
            ));
        }
        Ok(())
    }
}
