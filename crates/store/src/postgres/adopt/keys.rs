//! What binds a table: unique keys, foreign keys, policies, triggers.

use super::catalog::{Unique, quoted};
use super::table::Look;

/// Unique keys of the original that take records of different tenants, vendors or periods for one.
const NARROW_KEYS: [&str; 4] = ["uq_bars", "uq_fundamentals", "uq_news", "uq_options"];
/// The trigger function of the original that stamps a changed row.
const STAMPING: &str = "update_updated_at_column";
/// What becomes of a unique key that is there.
enum Fate {
    Stays,
    Goes,
    /// It is the user's own, and would be in the way.
    Unknown,
}

impl Look<'_> {
    /// Foreign keys, policies and triggers.
    pub(super) fn rules(&mut self) {
        self.foreign_keys();
        self.policies();
        let shape = self.shape;
        for trigger in &shape.triggers {
            if trigger.function == STAMPING && shape.column("updated_at").is_none() {
                self.change(
                    [format!(
                        "{}: drop the trigger {}, which fails since there is no updated_at",
                        shape.name, trigger.name
                    )],
                    format!("DROP TRIGGER {} ON {}", quoted(&trigger.name), shape.name),
                );
            }
        }
    }

    fn foreign_keys(&mut self) {
        for key in &self.shape.foreign_keys {
            let name = &key.name;
            if key.target.rsplit('.').next() == Some("tenants") {
                let says = format!(
                    "drop the foreign key {name} to tenants, which would refuse records of a \
                     tenant that is not listed"
                );
                self.alter(&says, &format!("DROP CONSTRAINT {}", quoted(name)));
            } else {
                self.plan.notes.push(format!(
                    "{}: the foreign key {name} to {} stays; records that it refuses become dead \
                     letters",
                    self.shape.name, key.target
                ));
            }
        }
    }

    /// The name that the original gives its policy.
    pub(super) fn original_policy(&self) -> String {
        format!(
            "tenant_isolation_{}",
            self.shape.name.replace("public.", "")
        )
    }

    fn policies(&mut self) {
        let (shape, original) = (self.shape, self.original_policy());
        for policy in &shape.policies {
            if *policy == original {
                self.change(
                    [format!(
                        "{}: the policy {policy} is replaced by tenant, which lets nothing be \
                         seen where app.tenant_id is empty, instead of failing",
                        shape.name
                    )],
                    format!("DROP POLICY {} ON {}", quoted(policy), shape.name),
                );
            } else if policy == "tenant" {
                self.problem("has a policy tenant of its own; rename it first");
            }
        }
    }

    /// Unique keys that are not ours.
    pub(super) fn keys(&mut self) {
        for unique in &self.shape.uniques {
            let list = unique.columns.join(", ");
            let says = format!("drop the key {} ({list})", unique.name);
            match self.fate(unique) {
                Fate::Stays => {}
                Fate::Unknown => self.problem(format!(
                    "has a unique key {} ({list}), which would refuse different records; drop it \
                     first",
                    unique.name
                )),
                Fate::Goes if !unique.leaning.is_empty() => self.problem(format!(
                    "has the key {} ({list}), which must go, but foreign keys lean on it: {}",
                    unique.name,
                    unique.leaning.join(", ")
                )),
                Fate::Goes if unique.is_constraint => {
                    self.alter(&says, &format!("DROP CONSTRAINT {}", quoted(&unique.name)));
                }
                Fate::Goes => {
                    let says = format!("{}: {says}", self.shape.name);
                    self.change([says], format!("DROP INDEX {}", quoted(&unique.name)));
                }
            }
        }
    }

    fn fate(&self, unique: &Unique) -> Fate {
        if self.is_our_key(unique) {
            return Fate::Stays;
        }
        let has = |column: &&str| unique.columns.iter().any(|c| c == column);
        let is_within = |column: &String| self.key.contains(&column.as_str());
        if self.key.iter().all(has) {
            // Of more columns than ours it takes no two records for one; of the same, ours is
            // enough.
            let is_needed = !unique.is_primary && !unique.columns.iter().all(is_within);
            return if is_needed { Fate::Stays } else { Fate::Goes };
        }
        let mut old = self.key.iter().filter(|k| self.shape.column(k).is_some());
        let lacks_only_new = old.all(has) && unique.columns.iter().all(is_within);
        let is_handle = unique.is_primary && unique.columns == ["id"];
        if lacks_only_new || is_handle || NARROW_KEYS.contains(&unique.name.as_str()) {
            Fate::Goes
        } else {
            Fate::Unknown
        }
    }

    /// The natural key as primary key, the time first.
    pub(super) fn is_our_key(&self, unique: &Unique) -> bool {
        let is_time_first = unique.columns.first().is_some_and(|c| c == self.key[0]);
        let mut columns: Vec<&str> = unique.columns.iter().map(String::as_str).collect();
        let mut key = self.key.clone();
        key.sort_unstable();
        columns.sort_unstable();
        unique.is_primary && is_time_first && columns == key
    }
}
