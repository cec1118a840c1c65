//! What every command is given: the settings, loaded once.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mds_core::settings::{
    QueueChoice, ResolvedSetting, SettingFile, SettingFlag, SettingOrigin, SettingSources,
    Settings, SettingsError,
};
use mds_core::{Kind, Timestamp};
use mds_store::{
    OpenOptions, Store, StoreError, StoreUrl, StoreUrlError, TimescaleMode, TimescaleOptions,
};

use crate::cli::GlobalArgs;
use crate::exit::Usage;
use crate::output::note;

/// The file of settings in the working directory.
const CONFIG_FILE: &str = "mds.toml";
/// The file of environment variables in the working directory.
const ENV_FILE: &str = ".env";

/// Where dead letters go that no setting sends elsewhere.
const DLQ_FOLDER: &str = ".dlq";

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// Every setting, resolved.
    pub(crate) settings: Settings,
    /// Whether only errors are told.
    pub(crate) quiet: bool,
    /// Where records wait if nobody has said so.
    pub(crate) usual_queue: QueueChoice,
}

/// A file that was read, or was not there and need not be.
struct Source {
    name: String,
    text: Option<String>,
}

impl Source {
    /// Reads `given`, or `usual` where it exists.
    fn read(given: Option<&Path>, usual: &str) -> anyhow::Result<Self> {
        let path = given.unwrap_or_else(|| Path::new(usual));
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self {
                name,
                text: Some(text),
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && given.is_none() => {
                Ok(Self { name, text: None })
            }
            Err(e) => {
                let what = format!("cannot read the settings in {name}");
                Err(anyhow::Error::new(e).context(Usage::new(what)))
            }
        }
    }

    fn file(&self) -> Option<SettingFile<'_>> {
        Some(SettingFile {
            name: &self.name,
            text: self.text.as_deref()?,
        })
    }
}

impl Context {
    /// Loads the settings from `flags`, the environment, `.env` and `mds.toml`, and prints the
    /// warnings about them.
    pub(crate) fn load(global: &GlobalArgs, flags: &[SettingFlag<'_>]) -> anyhow::Result<Self> {
        let toml = Source::read(global.config.as_deref(), CONFIG_FILE)?;
        let dotenv = Source::read(global.env_file.as_deref(), ENV_FILE)?;
        let env = environment()?;
        let sources = SettingSources {
            flags,
            env: &env,
            dotenv: dotenv.file(),
            toml: toml.file(),
        };
        let (result, warnings) = match Settings::load(&sources) {
            Ok(loaded) => (Ok(loaded.settings), loaded.warnings),
            Err(SettingsError { problems, warnings }) => (
                Err(SettingsError {
                    problems,
                    warnings: Vec::new(),
                }),
                warnings,
            ),
        };
        if !global.quiet {
            for warning in warnings {
                note(format_args!("warning: {warning}"));
            }
        }
        Ok(Self {
            settings: result?,
            quiet: global.quiet,
            usual_queue: QueueChoice::Memory,
        })
    }

    /// Where records wait.
    pub(crate) fn queue(&self) -> QueueChoice {
        let is_said = |found: &ResolvedSetting| found.origin != SettingOrigin::Default;
        if self.settings.get("queue").is_some_and(is_said) {
            self.settings.queue()
        } else {
            self.usual_queue.clone()
        }
    }

    /// The address of the store.
    pub(crate) fn store_url(&self) -> anyhow::Result<StoreUrl> {
        let url = StoreUrl::parse(self.settings.store().expose());
        url.map_err(|error| self.wrong_store(error))
    }

    /// Checks the address of the store and the files that it names, without opening it.
    pub(crate) fn check_store(&self) -> anyhow::Result<()> {
        let checked = self.store_url()?.check_files();
        checked.map_err(|error| self.wrong_store(error))
    }

    fn wrong_store(&self, error: StoreUrlError) -> anyhow::Error {
        let origin = self.settings.get("store").map(|s| s.origin.to_string());
        let what = format!(
            "store = \"{}\" ({})",
            self.settings.store(),
            origin.unwrap_or_default()
        );
        anyhow::Error::new(error).context(Usage::new(what))
    }

    /// Opens the store for reading; it must exist.
    pub(crate) async fn open_for_reading(&self) -> anyhow::Result<Store> {
        self.open(OpenOptions::read_only()).await
    }

    /// Opens the store.
    pub(crate) async fn open(&self, options: OpenOptions) -> anyhow::Result<Store> {
        let url = self.store_url()?;
        let store = Store::open(&url, self.options(options)).await;
        store.map_err(|error| opening_failed(&url, error))
    }

    /// What the settings say about opening and migrating a store.
    pub(crate) fn options(&self, options: OpenOptions) -> OpenOptions {
        let mut options = with_passwords(options);
        options.tenant_id = self.settings.tenant_id();
        let timescale = self.settings.timescale();
        options.timescale = TimescaleOptions {
            mode: match timescale.mode {
                "on" => TimescaleMode::On,
                "off" => TimescaleMode::Off,
                _ => TimescaleMode::Auto,
            },
            chunk_days: timescale.chunk_days,
            compress_after_days: timescale.compress_after_days,
            retention_days: timescale.retention_days,
        };
        options
    }

    /// The file that dead letters of `kind` go to.
    pub(crate) fn dlq_path(&self, kind: Kind) -> PathBuf {
        match self.settings.dlq_path() {
            Some(path) => path.to_path_buf(),
            None => Path::new(DLQ_FOLDER).join(format!("{kind}.ndjson")),
        }
    }

    /// Says something about the run on standard error, unless only errors are told.
    pub(crate) fn note(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            note(text);
        }
    }
}

/// Why a store could not be opened, in the words of this program where SQLite has only one for
/// everything.
pub(crate) fn opening_failed(url: &StoreUrl, error: StoreError) -> anyhow::Error {
    if !error.code().starts_with("SQLITE_CANTOPEN") {
        return error.into();
    }
    let what = if url.path().is_some_and(Path::is_file) {
        "the file is there, but cannot be opened; look at its permissions"
    } else {
        "it must be a file, or a name for one in a folder that can be written to"
    };
    anyhow::anyhow!("cannot open the store {url}: {what}")
}

/// Where the password of a server may come from if its URL has none, as for every other client of
/// PostgreSQL.
pub(crate) fn with_passwords(mut options: OpenOptions) -> OpenOptions {
    let in_home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".pgpass"));
    options.password = std::env::var("PGPASSWORD").ok();
    options.passfile = std::env::var_os("PGPASSFILE")
        .map(PathBuf::from)
        .or_else(in_home);
    options
}

/// The variables of the environment that begin with `MDS_`.
fn environment() -> anyhow::Result<Vec<(String, String)>> {
    let mut ours = Vec::new();
    for (name, value) in std::env::vars_os() {
        // A name that is not UTF-8 is not one of ours.
        let Some(name) = name
            .to_str()
            .filter(|n| n.to_ascii_uppercase().starts_with("MDS_"))
        else {
            continue;
        };
        let Ok(value) = value.into_string() else {
            let what = "is not UTF-8; set it to plain text";
            return Err(Usage::new(format!("the environment variable {name} {what}")).into());
        };
        ours.push((name.to_owned(), value));
    }
    Ok(ours)
}

/// The time now.
pub(crate) fn now() -> Timestamp {
    let elapsed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_micros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
}
