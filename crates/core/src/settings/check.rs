//! Values that follow from others, and values that must fit together.

use super::error::{SettingProblem, SettingSide};
use super::load::{ResolvedSetting, Settings};
use super::table::{self, Setting};
use super::value::SettingValue;

/// What must hold between two numbers.
#[derive(Clone, Copy)]
enum Rule {
    AtMost,
    Below,
}

impl Rule {
    const fn words(self) -> &'static str {
        match self {
            Self::AtMost => "at most",
            Self::Below => "below",
        }
    }
}

/// What must hold, each with the names of both sides in the error.
static RELATIONS: [(&Setting, Rule, &Setting); 4] = [
    (
        &table::COORDINATOR_LOW_WATERMARK,
        Rule::Below,
        &table::COORDINATOR_HIGH_WATERMARK,
    ),
    (
        &table::COORDINATOR_HIGH_WATERMARK,
        Rule::AtMost,
        &table::COORDINATOR_CAPACITY,
    ),
    (
        &table::COORDINATOR_WORKERS,
        Rule::AtMost,
        &table::COORDINATOR_WORKERS_MAX,
    ),
    (
        &table::RETRY_INITIAL_BACKOFF_MS,
        Rule::AtMost,
        &table::RETRY_MAX_BACKOFF_MS,
    ),
];

/// What must hold between settings, in words: `a is at most b`.
///
/// ```
/// let rules = mds_core::settings::rules();
/// assert_eq!(rules[2], ("coordinator_workers", "at most", "coordinator_workers_max"));
/// ```
pub fn rules() -> Vec<(&'static str, &'static str, &'static str)> {
    RELATIONS
        .iter()
        .map(|(left, rule, right)| (left.name, rule.words(), right.name))
        .collect()
}

/// Fills in the values that follow from others, so that a value nobody gave breaks no rule.
pub(super) fn derive(resolved: &mut [ResolvedSetting]) {
    let int = |resolved: &[ResolvedSetting], row: &Setting| {
        resolved
            .iter()
            .find(|r| r.setting.name == row.name)
            .map_or(0, |r| match r.value {
                SettingValue::Int(v) => v,
                _ => 0,
            })
    };
    let mut fill = |row: &Setting, value: &dyn Fn(&[ResolvedSetting]) -> u64| {
        let computed = value(resolved);
        let absent = resolved
            .iter_mut()
            .find(|r| r.setting.name == row.name && r.value == SettingValue::Absent);
        if let Some(entry) = absent {
            entry.value = SettingValue::Int(computed);
        }
    };
    fill(&table::COORDINATOR_WORKERS_MAX, &|r| {
        int(r, &table::COORDINATOR_WORKERS)
    });
    fill(&table::COORDINATOR_HIGH_WATERMARK, &|r| {
        (int(r, &table::COORDINATOR_CAPACITY) * 4 / 5).max(1)
    });
    fill(&table::COORDINATOR_LOW_WATERMARK, &|r| {
        let high = int(r, &table::COORDINATOR_HIGH_WATERMARK);
        (int(r, &table::COORDINATOR_CAPACITY) / 2).min(high.saturating_sub(1))
    });
}

/// The rules that are broken; those of a setting in `wrong` cannot be judged and are left out.
pub(super) fn relations(settings: &Settings, wrong: &[&str]) -> Vec<SettingProblem> {
    let mut problems = Vec::new();
    for (left, rule, right) in RELATIONS {
        if wrong.contains(&left.name) || wrong.contains(&right.name) {
            continue;
        }
        let holds = match rule {
            Rule::AtMost => settings.int(left) <= settings.int(right),
            Rule::Below => settings.int(left) < settings.int(right),
        };
        if holds {
            continue;
        }
        if let (Some(l), Some(r)) = (settings.get(left.name), settings.get(right.name)) {
            problems.push(SettingProblem::Relation {
                left: Box::new(side(l)),
                rule: rule.words(),
                right: Box::new(side(r)),
            });
        }
    }
    let broadcast = &table::FB_ENABLE_HTTP_BROADCAST;
    let endpoint = &table::FB_HTTP_ENDPOINT;
    if settings.bool(broadcast)
        && settings.url(endpoint).is_none()
        && !wrong.contains(&endpoint.name)
        && let Some(resolved) = settings.get(broadcast.name)
    {
        problems.push(SettingProblem::Needs {
            setting: broadcast.name,
            origin: resolved.origin.clone(),
            needs: endpoint.name,
            needs_env: endpoint.env,
        });
    }
    problems
}

fn side(resolved: &ResolvedSetting) -> SettingSide {
    SettingSide {
        setting: resolved.setting.name,
        value: resolved.value.to_string(),
        origin: resolved.origin.clone(),
    }
}
