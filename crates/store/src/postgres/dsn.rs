//! Where a server is and how it is spoken to: the parts of a URL that the client library does not
//! know, and the places where a password may come from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// The address of a server, with everything in it; shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    text: String,
}

/// What a certificate must prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Nothing: the connection is encrypted, and who answers is not checked.
    Nothing,
    /// An authority that we trust vouches for it, whatever its name.
    Authority,
    /// And it bears the name of the host.
    Full,
}

/// Why a text is not the address of a server. No message shows a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DsnError {
    /// The client library does not understand it.
    #[error("not a PostgreSQL URL: {reason}; write postgres://USER@HOST:PORT/DATABASE")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// A parameter has a value that it cannot have.
    #[error("{name}={value} is not one of {allowed}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

/// A parsed address.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) verify: Verify,
    pub(crate) root_cert: Option<PathBuf>,
}

impl Dsn {
    /// Checks the address; nothing is connected to.
    pub fn parse(text: &str) -> Result<Self, DsnError> {
        let dsn = Self {
            text: text.trim().to_owned(),
        };
        dsn.server().map(|_| dsn)
    }

    pub(crate) fn server(&self) -> Result<Server, DsnError> {
        let (rest, own) = split_parameters(&self.text);
        let mut config: Config = rest.parse().map_err(|error| DsnError::Malformed {
            reason: reason_of(&error),
        })?;
        let (mode, verify) = match own.ssl_mode.as_deref() {
            None | Some("prefer" | "allow") => (SslMode::Prefer, Verify::Nothing),
            Some("disable") => (SslMode::Disable, Verify::Nothing),
            // As libpq: a certificate of an authority turns `require` into `verify-ca`.
            Some("require") if own.root_cert.is_some() => (SslMode::Require, Verify::Authority),
            Some("require") => (SslMode::Require, Verify::Nothing),
            Some("verify-ca") => (SslMode::Require, Verify::Authority),
            Some("verify-full") => (SslMode::Require, Verify::Full),
            Some(value) => {
                return Err(DsnError::Parameter {
                    name: "sslmode",
                    value: value.to_owned(),
                    allowed: "disable, allow, prefer, require, verify-ca, verify-full",
                });
            }
        };
        config.ssl_mode(mode);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        config
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3);
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(30));
        }
        if config.get_application_name().is_none() {
            config.application_name("mds");
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("localhost");
        }
        Ok(Server {
            config,
            verify,
            root_cert: own.root_cert,
        })
    }
}

impl Server {
    /// Takes a password from a `.pgpass` file (manual: "The Password File"), unless there is one.
    pub(crate) fn take_password(
        &mut self,
        from_environment: Option<&str>,
        passfile: Option<&Path>,
    ) {
        if self.config.get_password().is_some() {
            return;
        }
        if let Some(password) = from_environment {
            self.config.password(password);
            return;
        }
        // A file that is not there, or not readable, has no password for us.
        let Some(text) = passfile.and_then(|path| std::fs::read_to_string(path).ok()) else {
            return;
        };
        let found = text.lines().find_map(|line| self.password_in(line));
        if let Some(password) = found {
            self.config.password(password);
        }
    }

    /// The password of a line `host:port:database:user:password` that is about this server.
    fn password_in(&self, line: &str) -> Option<String> {
        if line.starts_with('#') {
            return None;
        }
        let fields = split_escaped(line);
        let [host, port, database, user, password] = fields.as_slice() else {
            return None;
        };
        let config = &self.config;
        let own_user = config.get_user().map_or_else(String::new, str::to_owned);
        let own_database = config.get_dbname().unwrap_or(&own_user).to_owned();
        let is = |pattern: &String, value: &str| pattern == "*" || pattern == value;
        let mut servers = config.get_hosts().iter().enumerate();
        let host_fits = servers.any(|(index, own)| {
            let ports = config.get_ports();
            let own_port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            let name = match own {
                Host::Tcp(name) => name.clone(),
                Host::Unix(_) => "localhost".to_owned(),
            };
            is(host, &name) && is(port, &own_port.to_string())
        });
        (host_fits && is(database, &own_database) && is(user, &own_user)).then(|| password.clone())
    }
}

/// Splits at colons that no backslash stands before.
fn split_escaped(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => field.extend(chars.next()),
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

/// Parameters of a URL that are ours to understand.
#[derive(Default)]
struct OwnParameters {
    ssl_mode: Option<String>,
    root_cert: Option<PathBuf>,
}

/// Takes our parameters out of the URL.
fn split_parameters(text: &str) -> (String, OwnParameters) {
    let mut own = OwnParameters::default();
    let Some((address, query)) = text.split_once('?') else {
        return (text.to_owned(), own);
    };
    let mut rest = Vec::new();
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", value)) => own.ssl_mode = Some(value.to_owned()),
            Some(("sslrootcert", value)) => own.root_cert = Some(PathBuf::from(decode(value))),
            _ => rest.push(parameter),
        }
    }
    if rest.is_empty() {
        return (address.to_owned(), own);
    }
    (format!("{address}?{}", rest.join("&")), own)
}

/// Undoes the `%2F` of URLs; what is no such escape stays.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten();
        if let Some(byte) = escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn reason_of(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    // The library's text names the part that is wrong, never its value.
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mds_core::settings::redact(&self.text))
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_tls_are_those_of_libpq() {
        for (query, mode, verify) in [
            ("", SslMode::Prefer, Verify::Nothing),
            ("?sslmode=disable", SslMode::Disable, Verify::Nothing),
            ("?sslmode=require", SslMode::Require, Verify::Nothing),
            (
                "?sslmode=require&sslrootcert=%2Fa%20b",
                SslMode::Require,
                Verify::Authority,
            ),
            (
                "?connect_timeout=3&sslmode=verify-ca",
                SslMode::Require,
                Verify::Authority,
            ),
            ("?sslmode=verify-full", SslMode::Require, Verify::Full),
        ] {
            let server = Dsn::parse(&format!("postgres://u@h/d{query}"))
                .unwrap()
                .server()
                .unwrap();
            assert_eq!(
                (server.config.get_ssl_mode(), server.verify),
                (mode, verify),
                "{query}"
            );
        }
        let error = Dsn::parse("postgres://u:secret@h/d?sslmode=maybe").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("sslmode=maybe is not one of disable")
        );
        let error = Dsn::parse("postgres://u:secret@h:port/d").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn passwords_come_from_the_url_the_environment_and_the_file_in_this_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        let lines = "# comment\nother:*:*:*:no\nh:5433:d:u:p\\:q\\\\\n*:*:*:*:last\n";
        std::fs::write(&file, lines).unwrap();
        let password = |dsn: &str, env: Option<&str>| {
            let mut server = Dsn::parse(dsn).unwrap().server().unwrap();
            server.take_password(env, Some(&file));
            String::from_utf8(server.config.get_password().unwrap().to_vec()).unwrap()
        };
        assert_eq!(password("postgres://u:url@h/d", Some("env")), "url");
        assert_eq!(password("postgres://u@h/d", Some("env")), "env");
        assert_eq!(password("postgres://u@h:5433/d", None), "p:q\\");
        assert_eq!(password("postgres://u@h/d", None), "last");
        assert_eq!(password("postgres://u@x:5432,h:5433/d", None), "p:q\\");
    }

    #[test]
    fn no_form_of_an_address_shows_its_password() {
        let dsn = Dsn::parse("postgres://u:hunter2@h/d").unwrap();
        assert_eq!(dsn.to_string(), "postgres://u:***@h/d");
        assert_eq!(format!("{dsn:?}"), "\"postgres://u:***@h/d\"");
    }
}
