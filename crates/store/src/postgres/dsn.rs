//! Where a server is and how it is spoken to: the parts of a URL that the client library does not
//! know.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

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
    /// A file that it names cannot be used.
    #[error("its certificates: {reason}")]
    Certificates {
        /// What is wrong.
        reason: String,
    },
}

/// A parsed address.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    /// The lines of a file with passwords, where one is asked for.
    pub(super) passwords: Vec<String>,
}

/// How the server proves who it is, and we who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) verify: Verify,
    /// The file of the authorities that we trust; else those of the system.
    pub(crate) root_cert: Option<PathBuf>,
    /// Our own certificate, and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

impl Dsn {
    /// Checks the address; nothing is connected to.
    pub fn parse(text: &str) -> Result<Self, DsnError> {
        let dsn = Self {
            text: text.trim().to_owned(),
        };
        dsn.server().map(|_| dsn)
    }

    /// Checks the files of certificates that it names, as opening does; nothing is connected to.
    pub(crate) fn check_files(&self) -> Result<(), DsnError> {
        let Server { config, tls, .. } = self.server()?;
        if config.get_ssl_mode() == SslMode::Disable {
            return Ok(());
        }
        let checked = super::tls::config(&tls).map(|_| ());
        checked.map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let said = [Some(error.to_string()), source];
            DsnError::Certificates {
                reason: said.into_iter().flatten().collect::<Vec<_>>().join(": "),
            }
        })
    }

    pub(crate) fn server(&self) -> Result<Server, DsnError> {
        let (rest, own) = split_parameters(&self.text);
        let mut config: Config = rest
            .parse()
            .map_err(|error| self.malformed(&reason_of(&error)))?;
        let is_split = |host: &Host| matches!(host, Host::Tcp(name) if name.contains('@'));
        if config.get_hosts().iter().any(is_split) {
            return Err(self.malformed("more than one @"));
        }
        let (mode, verify) = own.security()?;
        config.ssl_mode(mode);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if !own.names("keepalives_idle") {
            config.keepalives_idle(Duration::from_secs(30));
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_interval(Duration::from_secs(10));
        }
        if config.get_keepalives_retries().is_none() {
            config.keepalives_retries(3);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(30));
        }
        if config.get_application_name().is_none() {
            config.application_name("mds");
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("localhost");
        }
        if config.get_hosts().len() > 1 && !own.names("target_session_attrs") {
            // A writer has no use for a standby.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Ok(Server {
            config,
            tls: Tls {
                verify,
                root_cert: own.root_cert.filter(|path| path.as_os_str() != SYSTEM),
                client: own.client_cert.zip(own.client_key),
            },
            passwords: Vec::new(),
        })
    }
}

impl Dsn {
    /// The error of a text that is no address, with advice where a password seems to be the reason.
    fn malformed(&self, reason: &str) -> DsnError {
        let (_, rest) = self.text.split_once("://").unwrap_or_default();
        let before_host = rest.rsplit_once('@').map_or("", |(before, _)| before);
        let reason = if before_host.contains(['@', '/', '?', '#']) {
            format!("{reason}; in a password, write %40 for @, %2F for /, %3F for ? and %23 for #")
        } else {
            reason.to_owned()
        };
        DsnError::Malformed { reason }
    }
}

impl Server {
    /// For whoever only reads, a standby is as good.
    pub(crate) fn only_reads(&mut self) {
        if self.config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite {
            self.config.target_session_attrs(TargetSessionAttrs::Any);
        }
    }
}

/// What `sslrootcert` says instead of a file.
const SYSTEM: &str = "system";

/// Parameters of a URL that are ours to understand.
#[derive(Default)]
struct OwnParameters {
    ssl_mode: Option<String>,
    root_cert: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    /// The names of all others.
    others: Vec<String>,
}

impl OwnParameters {
    /// Whether a parameter is given, though not ours to understand.
    fn names(&self, name: &str) -> bool {
        self.others.iter().any(|other| other == name)
    }

    /// What the modes of libpq mean.
    fn security(&self) -> Result<(SslMode, Verify), DsnError> {
        let wrong = |name, value: &str, allowed| {
            let value = value.to_owned();
            Err(DsnError::Parameter {
                name,
                value,
                allowed,
            })
        };
        match (&self.client_cert, &self.client_key) {
            (Some(_), None) => return wrong("sslkey", "", "files: the key of sslcert"),
            (None, Some(_)) => return wrong("sslcert", "", "files: the certificate of sslkey"),
            _ => {}
        }
        let root = self.root_cert.as_deref();
        let is_system = root.is_some_and(|path| path.as_os_str() == SYSTEM);
        Ok(match self.ssl_mode.as_deref() {
            Some("verify-full") => (SslMode::Require, Verify::Full),
            None if is_system => (SslMode::Require, Verify::Full),
            // Anybody can have a certificate that somebody on this list has signed.
            Some(value) if is_system => {
                return wrong("sslmode", value, "verify-full where sslrootcert=system");
            }
            None | Some("prefer" | "allow") => (SslMode::Prefer, Verify::Nothing),
            Some("disable") => (SslMode::Disable, Verify::Nothing),
            // As libpq: a certificate of an authority turns `require` into `verify-ca`.
            Some("require") if root.is_some() => (SslMode::Require, Verify::Authority),
            Some("require") => (SslMode::Require, Verify::Nothing),
            Some("verify-ca") => (SslMode::Require, Verify::Authority),
            Some(value) => {
                let allowed = "disable, allow, prefer, require, verify-ca, verify-full";
                return wrong("sslmode", value, allowed);
            }
        })
    }
}

/// Takes our parameters out of the URL.
fn split_parameters(text: &str) -> (String, OwnParameters) {
    let mut own = OwnParameters::default();
    let Some((address, query)) = text.split_once('?') else {
        return (text.to_owned(), own);
    };
    let mut rest = Vec::new();
    for parameter in query.split('&') {
        let file = |value: &str| Some(PathBuf::from(decode(value)));
        match parameter.split_once('=') {
            Some(("sslmode", value)) => own.ssl_mode = Some(value.to_owned()),
            Some(("sslrootcert", value)) => own.root_cert = file(value),
            Some(("sslcert", value)) => own.client_cert = file(value),
            Some(("sslkey", value)) => own.client_key = file(value),
            other => {
                own.others.extend(other.map(|(name, _)| name.to_owned()));
                rest.push(parameter);
            }
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
            ("?sslrootcert=system", SslMode::Require, Verify::Full),
        ] {
            let server = Dsn::parse(&format!("postgres://u@h/d{query}"))
                .unwrap()
                .server()
                .unwrap();
            assert_eq!(
                (server.config.get_ssl_mode(), server.tls.verify),
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
        for (query, says) in [
            (
                "sslrootcert=system&sslmode=require",
                "sslmode=require is not one of verify-full",
            ),
            (
                "sslcert=a.crt",
                "sslkey= is not one of files: the key of sslcert",
            ),
            (
                "sslkey=a.key",
                "sslcert= is not one of files: the certificate of sslkey",
            ),
        ] {
            let error = Dsn::parse(&format!("postgres://u@h/d?{query}")).unwrap_err();
            assert!(error.to_string().starts_with(says), "{error}");
        }
        let error = Dsn::parse("postgres://u:secret@h:port/d").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn of_several_hosts_a_writer_wants_the_one_that_takes_writes() {
        let wanted = |dsn: &str, reads: bool| {
            let mut server = Dsn::parse(dsn).unwrap().server().unwrap();
            if reads {
                server.only_reads();
            }
            server.config.get_target_session_attrs()
        };
        assert_eq!(wanted("postgres://a/d", false), TargetSessionAttrs::Any);
        let (two, any) = (
            "postgres://a,b/d",
            "postgres://a,b/d?target_session_attrs=any",
        );
        assert_eq!(wanted(two, false), TargetSessionAttrs::ReadWrite);
        assert_eq!(wanted(two, true), TargetSessionAttrs::Any);
        assert_eq!(wanted(any, false), TargetSessionAttrs::Any);
    }

    #[test]
    fn a_password_that_is_not_escaped_is_told_how_and_not_shown() {
        let error = Dsn::parse("postgres://u:hun@ter2@h/d")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "not a PostgreSQL URL: more than one @; in a password, write %40 for @, %2F for /, %3F \
             for ? and %23 for #; write postgres://USER@HOST:PORT/DATABASE"
        );
        for mark in ["/", "?", "#", "?x=", "%40"] {
            let dsn = format!("postgres://u:hun{mark}ter2@h/d");
            let server = Dsn::parse(&dsn).unwrap().server().unwrap();
            assert_eq!(server.config.get_hosts(), [Host::Tcp("h".to_owned())]);
        }
    }

    #[test]
    fn keepalives_are_those_of_the_url_or_else_ours() {
        let of = |query: &str| {
            let dsn = Dsn::parse(&format!("postgres://u@h/d{query}")).unwrap();
            let config = dsn.server().unwrap().config;
            let seconds = |time: Duration| time.as_secs();
            (
                seconds(config.get_keepalives_idle()),
                config.get_keepalives_interval().map(seconds),
                config.get_keepalives_retries(),
            )
        };
        assert_eq!(of(""), (30, Some(10), Some(3)));
        let query = "?keepalives_idle=7&keepalives_interval=5&keepalives_retries=2";
        assert_eq!(of(query), (7, Some(5), Some(2)));
    }

    #[test]
    fn no_form_of_an_address_shows_its_password() {
        let dsn = Dsn::parse("postgres://u:hunter2@h/d").unwrap();
        assert_eq!(dsn.to_string(), "postgres://u:***@h/d");
        assert_eq!(format!("{dsn:?}"), "\"postgres://u:***@h/d\"");
    }
}
