//! What has to change about one table, and what speaks against it.

use mds_core::{Record, TenantId};
use tokio_postgres::{Client, Error};

use super::Change;
use super::catalog::{self, Shape, quoted};
use super::figures::{self, Figures};
use super::texts::{self, Odd, Texts};
use super::wanted::{self, Wanted, WantedType};
use crate::postgres::sql;

/// Views that are made anew, so that they stand in nobody's way.
pub(super) const VIEWS: [&str; 2] = ["latest_prices", "data_freshness"];

/// What has to be done with one table.
#[derive(Debug, Default)]
pub(super) struct TablePlan {
    pub(super) changes: Vec<Change>,
    pub(super) notes: Vec<String>,
    pub(super) problems: Vec<String>,
}

/// Whether a table of this shape can be one of records of `R`: it has their natural key.
pub(super) fn holds<R: Record>(shape: &Shape) -> bool {
    wanted::columns::<R>()
        .iter()
        .filter(|want| want.is_key && want.default.is_none())
        .all(|want| shape.column(want.name).is_some())
}

/// A table while it is looked at.
pub(super) struct Look<'a> {
    pub(super) shape: &'a Shape,
    pub(super) wanted: Vec<Wanted>,
    /// The natural key in the order of our primary key.
    pub(super) key: Vec<&'static str>,
    pub(super) texts: Vec<Texts>,
    pub(super) figures: Figures,
    pub(super) tenant: TenantId,
    pub(super) plan: TablePlan,
}

/// Looks at the table of `R`; changes nothing.
pub(super) async fn examine<R: Record>(
    client: &Client,
    shape: &Shape,
    tenant: TenantId,
) -> Result<TablePlan, Error> {
    let mut look = Look {
        shape,
        wanted: wanted::columns::<R>(),
        key: sql::key_columns::<R>(),
        texts: Vec::new(),
        figures: Figures::default(),
        tenant,
        plan: TablePlan::default(),
    };
    if let Some(obstacle) = shape.obstacle {
        look.problem(obstacle);
        return Ok(look.plan);
    }
    look.columns_that_cannot_be();
    if !look.plan.problems.is_empty() {
        // Its rows cannot be read as ours.
        return Ok(look.plan);
    }
    if shape.is_hidden {
        look.plan.notes.push(format!(
            "{}: row security hides its rows from this role, so that they were not looked at; \
             migrating lifts it for as long as it takes",
            shape.name
        ));
    } else {
        look.rows::<R>(client).await?;
    }
    look.rules();
    look.keys();
    look.columns(client).await?;
    Ok(look.plan)
}

impl Look<'_> {
    pub(super) fn problem(&mut self, what: impl std::fmt::Display) {
        self.plan
            .problems
            .push(format!("{} {what}", self.shape.name));
    }

    pub(super) fn change(&mut self, says: impl Into<Vec<String>>, sql: String) {
        let says = says.into();
        self.plan.changes.push(Change { says, sql });
    }

    /// `ALTER TABLE` with one action, said in words.
    pub(super) fn alter(&mut self, says: &str, action: &str) {
        let table = &self.shape.name;
        let (says, sql) = (
            format!("{table}: {says}"),
            format!("ALTER TABLE {table} {action}"),
        );
        self.change([says], sql);
    }

    /// Columns that no `ALTER TABLE` of ours makes fit.
    fn columns_that_cannot_be(&mut self) {
        for column in &self.shape.columns {
            let name = &column.name;
            let want = self.wanted.iter().find(|want| want.name == name);
            match want {
                Some(want) if wanted::converted(column, want.ty).is_none() => {
                    let (is, ty) = (&column.ty, want.ty.sql());
                    self.problem(format!(
                        "has {name} as {is}, which cannot be taken for {ty}; alter it first"
                    ));
                }
                Some(_) if column.is_generated => self.problem(format!(
                    "computes {name}, which must be stored; alter it first"
                )),
                None if column.is_not_null && !column.fills_itself => self.problem(format!(
                    "has a column {name} of its own that must not be absent and has no default, \
                     so that no record could be written; give it a default or drop NOT NULL"
                )),
                _ => {}
            }
        }
    }

    /// A column in our type and spelling, as SQL on the old row.
    pub(super) fn value(&self, want: &Wanted) -> String {
        let Some(column) = self.shape.column(want.name) else {
            return want.default.unwrap_or("NULL").to_owned();
        };
        let value = wanted::converted(column, want.ty).unwrap_or_default();
        let texts = self.texts.iter().find(|t| t.column == want.name);
        let value = texts.map_or_else(|| value.clone(), |t| t.normalized(&value));
        if let Some(default) = want.default.filter(|_| !column.is_not_null) {
            return format!("coalesce({value}, {default})");
        }
        if want.ty == WantedType::Uuid && self.figures.without_tenant > 0 {
            return format!("coalesce({value}, '{}'::uuid)", self.tenant);
        }
        if self.figures.not_finite.contains(&want.name) {
            let name = quoted(want.name);
            return format!(
                "CASE WHEN {name} IN ('NaN', 'Infinity', '-Infinity') THEN NULL ELSE {value} END"
            );
        }
        value
    }

    /// What the rows hold.
    async fn rows<R: Record>(&mut self, client: &Client) -> Result<(), Error> {
        let shape = self.shape;
        self.figures = figures::figures(client, shape, &self.wanted).await?;
        self.plan.notes.append(&mut self.figures.notes);
        self.plan.problems.append(&mut self.figures.problems);
        for (index, column) in R::COLUMNS.iter().enumerate() {
            if let Some(odd) = Odd::of(column.name)
                && shape.column(column.name).is_some()
            {
                let texts = texts::texts::<R>(client, shape, index, odd).await?;
                self.plan.problems.extend(texts.problems(&shape.name));
                self.texts.push(texts);
            }
        }
        self.collisions(client).await
    }

    /// Rows that would be one record.
    async fn collisions(&mut self, client: &Client) -> Result<(), Error> {
        let is_as_it_was = self.figures.without_tenant == 0
            && self.texts.iter().all(|t| t.spellings.is_empty())
            && self.key.iter().all(|name| {
                let column = self.shape.column(name);
                column.is_none_or(|c| wanted::inexact(c).is_none())
            });
        let is_unique = |unique: &catalog::Unique| {
            let columns = &unique.columns;
            !unique.is_partial
                && !columns.is_empty()
                && columns.iter().all(|name| {
                    self.key.contains(&name.as_str())
                        && self.shape.column(name).is_some_and(|c| c.is_not_null)
                })
        };
        if is_as_it_was && self.shape.uniques.iter().any(is_unique) {
            return Ok(());
        }
        let wanted = |name: &str| self.wanted.iter().find(|want| want.name == name);
        let key: Vec<_> = self
            .key
            .iter()
            .filter_map(|name| Some((*name, self.value(wanted(name)?))))
            .collect();
        let told = figures::collisions(client, self.shape, &key, self.tenant).await?;
        self.plan.problems.extend(told);
        Ok(())
    }
}
