//! Finds the value of every setting.

use std::collections::BTreeMap;

use super::error::{SettingProblem, SettingWarning, SettingsError};
use super::nearest::nearest;
use super::table::{self, Setting, SettingDefault, TABLE};
use super::typed::{CoordinatorRuntimeSettings, FeedbackSettings, TimescaleSettings};
use super::value::{QueueChoice, SecretUrl, SettingOrigin, SettingValue};
use super::{check, dotenv, file, parse, redact};
use crate::ids::TenantId;

/// Names that begin with `MDS_` and are read elsewhere: by the tests of this project, and by the
/// Python client that shares environments with it. They are no settings and cause no warning.
pub const NAMES_READ_ELSEWHERE: [&str; 6] = [
    "MDS_SEED",
    "MDS_LONG",
    "MDS_WRITE_MODE",
    "MDS_COPY_MIN_ROWS",
    "MDS_VALUES_MIN_ROWS",
    "MDS_VALUES_PAGE_SIZE",
];

/// Everything that may hold settings, read by somebody else.
#[derive(Clone, Copy, Debug, Default)]
pub struct SettingSources<'a> {
    /// Flags of the command line that stand for settings.
    pub flags: &'a [SettingFlag<'a>],
    /// The environment; names that do not begin with `MDS_` are passed over.
    pub env: &'a [(String, String)],
    /// The text of `.env`.
    pub dotenv: Option<SettingFile<'a>>,
    /// The text of `mds.toml`.
    pub toml: Option<SettingFile<'a>>,
}

/// A flag that was given, such as `--store sqlite:a.db`.
#[derive(Clone, Copy, Debug)]
pub struct SettingFlag<'a> {
    /// The flag with its dashes, as the table has it.
    pub flag: &'static str,
    /// Its value.
    pub value: &'a str,
}

/// A file that was read.
#[derive(Clone, Copy, Debug)]
pub struct SettingFile<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// What it holds.
    pub text: &'a str,
}

/// Settings that are all in order, and what else was noticed.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Names without effect.
    pub warnings: Vec<SettingWarning>,
}

/// A setting with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedSetting {
    /// The row of the table.
    pub setting: &'static Setting,
    /// The value.
    pub value: SettingValue,
    /// Where it came from.
    pub origin: SettingOrigin,
}

impl PartialEq for Setting {
    /// Names are unique.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The value of every setting.
///
/// `Debug` shows no password.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// One entry a row of the table, in its order.
    resolved: Vec<ResolvedSetting>,
}

/// A value as text, not read yet.
struct Given {
    text: String,
    origin: SettingOrigin,
}

/// What one source gives, by the name of the setting.
type Layer = BTreeMap<&'static str, Given>;

/// What is collected on the way.
#[derive(Default)]
struct Findings {
    problems: Vec<SettingProblem>,
    warnings: Vec<SettingWarning>,
}

impl Settings {
    /// Resolves every setting: flag, then environment, then `.env`, then `mds.toml`, then default.
    ///
    /// Only the value that counts is checked; one that another source overrides is not.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] with everything that is wrong, not only the first.
    pub fn load(sources: &SettingSources<'_>) -> Result<Loaded, SettingsError> {
        let mut findings = Findings::default();
        let layers = [
            flags(sources.flags),
            environment(sources.env, &mut findings),
            sources
                .dotenv
                .map(|f| dotenv_layer(f, &mut findings))
                .unwrap_or_default(),
            sources
                .toml
                .map(|f| toml_layer(f, &mut findings))
                .unwrap_or_default(),
        ];
        let mut wrong = Vec::new();
        let resolved = TABLE
            .iter()
            .map(|setting| {
                let given = layers.iter().find_map(|layer| layer.get(setting.name));
                resolve(setting, given).unwrap_or_else(|problem| {
                    findings.problems.push(problem);
                    wrong.push(setting.name);
                    with_default(setting)
                })
            })
            .collect();
        let mut settings = Self { resolved };
        check::derive(&mut settings.resolved);
        findings
            .problems
            .extend(check::relations(&settings, &wrong));
        let Findings { problems, warnings } = findings;
        if problems.is_empty() {
            Ok(Loaded { settings, warnings })
        } else {
            Err(SettingsError { problems, warnings })
        }
    }

    /// Every setting with its value and origin, in the order of the table.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ResolvedSetting> {
        self.resolved.iter()
    }

    /// The setting called `name`.
    pub fn get(&self, name: &str) -> Option<&ResolvedSetting> {
        self.resolved.iter().find(|r| r.setting.name == name)
    }

    /// The write coordinator's settings.
    pub fn coordinator(&self) -> CoordinatorRuntimeSettings {
        CoordinatorRuntimeSettings::of(self)
    }

    /// The settings of backpressure feedback.
    pub fn feedback(&self) -> FeedbackSettings {
        FeedbackSettings::of(self)
    }

    /// What is wanted of TimescaleDB.
    pub fn timescale(&self) -> TimescaleSettings {
        TimescaleSettings::of(self)
    }

    /// The address of the store.
    pub fn store(&self) -> SecretUrl {
        self.url(&table::STORE)
            .unwrap_or_else(|| SecretUrl::new("sqlite:market.db"))
    }

    /// Whose records are meant where none is named.
    pub fn tenant_id(&self) -> TenantId {
        match self.value(&table::TENANT_ID) {
            SettingValue::Tenant(tenant) => *tenant,
            _ => TenantId::DEFAULT,
        }
    }

    /// Where records wait.
    pub fn queue(&self) -> QueueChoice {
        match self.value(&table::QUEUE) {
            SettingValue::Queue(choice) => choice.clone(),
            _ => QueueChoice::Memory,
        }
    }

    /// Bytes of the disk that a durable queue may use.
    pub fn queue_max_bytes(&self) -> u64 {
        self.int(&table::QUEUE_MAX_BYTES)
    }

    /// When a durable queue syncs: `group` or `always`.
    pub fn queue_fsync(&self) -> &'static str {
        self.choice(&table::QUEUE_FSYNC)
    }

    /// The file of dead letters, where one was set.
    pub fn dlq_path(&self) -> Option<&std::path::Path> {
        match self.value(&table::DLQ_PATH) {
            SettingValue::Path(path) => Some(path),
            _ => None,
        }
    }

    /// The address that metrics are served on, where one was set.
    pub fn listen(&self) -> Option<std::net::SocketAddr> {
        match self.value(&table::LISTEN) {
            SettingValue::Address(address) => Some(*address),
            _ => None,
        }
    }

    pub(super) fn value(&self, row: &'static Setting) -> &SettingValue {
        self.get(row.name)
            .map_or(&SettingValue::Absent, |r| &r.value)
    }

    pub(super) fn int(&self, row: &'static Setting) -> u64 {
        match self.value(row) {
            SettingValue::Int(v) => *v,
            _ => mismatch(row, 0),
        }
    }

    /// A whole number that may be left out.
    pub(super) fn int_if_set(&self, row: &'static Setting) -> Option<u64> {
        match self.value(row) {
            SettingValue::Int(v) => Some(*v),
            _ => None,
        }
    }

    pub(super) fn float(&self, row: &'static Setting) -> f64 {
        match self.value(row) {
            SettingValue::Float(v) => *v,
            _ => mismatch(row, 0.0),
        }
    }

    pub(super) fn bool(&self, row: &'static Setting) -> bool {
        match self.value(row) {
            SettingValue::Bool(v) => *v,
            _ => mismatch(row, false),
        }
    }

    pub(super) fn choice(&self, row: &'static Setting) -> &'static str {
        match self.value(row) {
            SettingValue::Choice(v) => v,
            _ => mismatch(row, ""),
        }
    }

    /// A choice that may be absent.
    pub(super) fn word(&self, row: &'static Setting) -> Option<&'static str> {
        match self.value(row) {
            SettingValue::Choice(v) => Some(v),
            _ => None,
        }
    }

    pub(super) fn url(&self, row: &'static Setting) -> Option<SecretUrl> {
        match self.value(row) {
            SettingValue::Url(v) => Some(v.clone()),
            _ => None,
        }
    }
}

/// A getter and the table disagree about a type: a mistake of ours that tests find, since they
/// call every getter.
fn mismatch<T>(row: &Setting, fallback: T) -> T {
    debug_assert!(
        false,
        "{} is read as another type than the table's",
        row.name
    );
    fallback
}

fn resolve(
    setting: &'static Setting,
    given: Option<&Given>,
) -> Result<ResolvedSetting, SettingProblem> {
    let Some(given) = given else {
        return Ok(with_default(setting));
    };
    match parse::parse(&setting.ty, &given.text) {
        Ok(value) => Ok(ResolvedSetting {
            setting,
            value,
            origin: given.origin.clone(),
        }),
        Err(reason) => Err(SettingProblem::Value {
            setting: setting.name,
            value: redact(&given.text),
            origin: given.origin.clone(),
            reason,
            allowed: setting.ty.to_string(),
        }),
    }
}

fn with_default(setting: &'static Setting) -> ResolvedSetting {
    let value = match setting.default {
        // Every default reads as its type: a test goes through them all.
        SettingDefault::Value(text) => {
            parse::parse(&setting.ty, text).unwrap_or(SettingValue::Absent)
        }
        SettingDefault::Derived(_) | SettingDefault::Absent(_) => SettingValue::Absent,
    };
    ResolvedSetting {
        setting,
        value,
        origin: SettingOrigin::Default,
    }
}

fn flags(flags: &[SettingFlag<'_>]) -> Layer {
    let mut layer = Layer::new();
    for flag in flags {
        let Some(setting) = TABLE.iter().find(|s| s.flag == Some(flag.flag)) else {
            continue;
        };
        let mut give = |setting: &Setting, text: &str| {
            let given = Given {
                text: text.trim().to_owned(),
                origin: SettingOrigin::Flag(flag.flag),
            };
            layer.insert(setting.name, given);
        };
        match flag.value.split_once("..") {
            // A range of workers: both ends.
            Some((least, most)) if **setting == table::COORDINATOR_WORKERS => {
                give(setting, least);
                give(&table::COORDINATOR_WORKERS_MAX, most);
            }
            _ => give(setting, flag.value),
        }
    }
    layer
}

/// The setting that an environment name stands for, in any case.
fn by_env(name: &str) -> Option<&'static Setting> {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    TABLE
        .iter()
        .copied()
        .find(|s| is(s.env) || s.env_alias.is_some_and(is))
}

fn environment(env: &[(String, String)], findings: &mut Findings) -> Layer {
    let mut ours: Vec<_> = env
        .iter()
        .filter(|(name, _)| dotenv::is_ours(name))
        .collect();
    // Of `MDS_STORE` and `mds_store` the one in capitals counts, whatever the order.
    ours.sort_by(|a, b| b.0.cmp(&a.0));
    let mut named = BTreeMap::new();
    for (name, text) in ours {
        let origin = SettingOrigin::Environment(name.clone());
        named.insert(
            name.to_ascii_uppercase(),
            (name.as_str(), text.as_str(), origin),
        );
    }
    named_layer(named, "the environment", findings)
}

fn dotenv_layer(file: SettingFile<'_>, findings: &mut Findings) -> Layer {
    let (entries, malformed) = dotenv::parse(file.text);
    findings
        .problems
        .extend(malformed.into_iter().map(|m| SettingProblem::Malformed {
            file: file.name.to_owned(),
            line: m.line,
            reason: m.reason.to_owned(),
        }));
    let mut named: BTreeMap<String, (&str, &str, SettingOrigin)> = BTreeMap::new();
    for entry in &entries {
        let origin = SettingOrigin::File {
            name: file.name.to_owned(),
            line: entry.line,
        };
        let value = (entry.name.as_str(), entry.value.as_str(), origin);
        if let Some((name, _, SettingOrigin::File { line, .. })) =
            named.insert(entry.name.to_ascii_uppercase(), value)
        {
            findings.warnings.push(SettingWarning::Repeated {
                name: name.to_owned(),
                file: file.name.to_owned(),
                line,
                used: entry.line,
            });
        }
    }
    named_layer(named, file.name, findings)
}

/// Turns values by environment name (in capitals) into values by setting.
fn named_layer(
    named: BTreeMap<String, (&str, &str, SettingOrigin)>,
    place: &str,
    findings: &mut Findings,
) -> Layer {
    let mut layer = Layer::new();
    let mut first_name = BTreeMap::new();
    for (upper, (name, text, origin)) in named {
        let Some(setting) = by_env(&upper) else {
            findings.warnings.extend(unknown_env(&upper, name, origin));
            continue;
        };
        let first = *first_name.entry(setting.name).or_insert(name);
        let given = Given {
            text: text.to_owned(),
            origin,
        };
        if let Some(other) = layer.insert(setting.name, given)
            && other.text != text
        {
            findings.problems.push(SettingProblem::Ambiguous {
                first: first.to_owned(),
                second: name.to_owned(),
                place: place.to_owned(),
            });
        }
    }
    layer
}

/// The warning about a name that no setting has.
fn unknown_env(upper: &str, name: &str, origin: SettingOrigin) -> Option<SettingWarning> {
    if NAMES_READ_ELSEWHERE.contains(&upper) || upper.starts_with("MDS_TEST_") {
        return None;
    }
    let known = TABLE
        .iter()
        .flat_map(|s| [Some(s.env), s.env_alias])
        .flatten();
    let nearest = nearest(upper, known);
    Some(SettingWarning::Unknown {
        name: name.to_owned(),
        origin,
        nearest,
    })
}

fn toml_layer(file: SettingFile<'_>, findings: &mut Findings) -> Layer {
    let entries = match file::parse(file.text) {
        Ok(entries) => entries,
        Err(file::Malformed { line, reason }) => {
            let file = file.name.to_owned();
            findings
                .problems
                .push(SettingProblem::Malformed { file, line, reason });
            return Layer::new();
        }
    };
    let mut layer = Layer::new();
    for file::Entry { key, value, line } in entries {
        let origin = SettingOrigin::File {
            name: file.name.to_owned(),
            line,
        };
        let Some(setting) = TABLE.iter().find(|s| s.key == key) else {
            let nearest = nearest_key(&key);
            findings.warnings.push(SettingWarning::Unknown {
                name: key,
                origin,
                nearest,
            });
            continue;
        };
        match value {
            Some(text) => {
                layer.insert(setting.name, Given { text, origin });
            }
            None => findings.problems.push(SettingProblem::Malformed {
                file: file.name.to_owned(),
                line,
                reason: format!("{key} is a list or a date; use {}", setting.ty),
            }),
        }
    }
    layer
}

/// The key nearest to an unknown one, which may also be a setting's flat name.
fn nearest_key(key: &str) -> Option<&'static str> {
    TABLE
        .iter()
        .find(|s| s.name == key || s.env.eq_ignore_ascii_case(key))
        .map(|s| s.key)
        .or_else(|| nearest(key, TABLE.iter().map(|s| s.key)))
}
