//! The table of tenants: the original calls `id` what we call `tenant_id`, and by our name a word
//! for people.

use super::Change;
use super::catalog::{Shape, quoted};
use super::table::TablePlan;

/// Looks at the table; changes nothing.
pub(super) fn examine(shape: &Shape) -> TablePlan {
    let mut plan = TablePlan::default();
    if let Some(obstacle) = shape.obstacle {
        plan.problems.push(format!("{} {obstacle}", shape.name));
        return plan;
    }
    let base = |name: &str| shape.column(name).map(|c| c.base.as_str());
    let id = match (base("tenant_id"), base("id")) {
        (Some("uuid"), _) => "tenant_id",
        (Some("varchar" | "text"), Some("uuid")) if base("slug").is_none() => {
            rename(shape, &mut plan);
            "id"
        }
        _ => {
            plan.problems.push(format!(
                "{} has no UUID by the name of tenant_id, nor one by id beside a text; rename it \
                 if it is not one of tenants",
                shape.name
            ));
            return plan;
        }
    };
    let is_key = |u: &&super::catalog::Unique| u.columns == [id] && !u.is_partial;
    if shape.uniques.iter().find(is_key).is_none() {
        push(
            &mut plan,
            shape,
            "add a key on tenant_id",
            "ADD UNIQUE (\"tenant_id\")",
        );
    }
    if shape.column("first_seen").is_none() {
        let add = "ADD COLUMN first_seen timestamptz NOT NULL DEFAULT now()";
        push(
            &mut plan,
            shape,
            "add first_seen (timestamp with time zone)",
            add,
        );
        if base("created_at") == Some("timestamptz") {
            let from = "ALTER COLUMN first_seen TYPE timestamptz \
                 USING coalesce(\"created_at\", \"first_seen\")";
            push(
                &mut plan,
                shape,
                "first_seen is taken from created_at",
                from,
            );
        }
    }
    for column in &shape.columns {
        let name = column.name.as_str();
        let is_ours = [id, "tenant_id", "first_seen"].contains(&name);
        if column.is_not_null && !column.fills_itself && !is_ours {
            let action = format!("ALTER COLUMN {} DROP NOT NULL", quoted(name));
            push(&mut plan, shape, &format!("{name} may be absent"), &action);
        }
    }
    plan
}

fn rename(shape: &Shape, plan: &mut TablePlan) {
    let says = "tenant_id, a word for people, is called slug from now on, and may be absent";
    push(plan, shape, says, "RENAME COLUMN \"tenant_id\" TO \"slug\"");
    let says = "id is called tenant_id, as in every other table";
    push(plan, shape, says, "RENAME COLUMN \"id\" TO \"tenant_id\"");
    plan.changes.push(Change {
        says: Vec::new(),
        sql: format!(
            "ALTER TABLE {} ALTER COLUMN \"slug\" DROP NOT NULL",
            shape.name
        ),
    });
}

fn push(plan: &mut TablePlan, shape: &Shape, says: &str, action: &str) {
    plan.changes.push(Change {
        says: vec![format!("{}: {says}", shape.name)],
        sql: format!("ALTER TABLE {} {action}", shape.name),
    });
}
