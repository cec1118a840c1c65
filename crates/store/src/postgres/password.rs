//! The places where a password may come from.

use std::path::Path;

use tokio_postgres::config::Host;

use super::dsn::Server;

impl Server {
    /// Takes a password, or else the file of passwords (manual: "The Password File"), unless there
    /// is one in the URL.
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
        let text = passfile
            .filter(|path| is_private(path))
            .and_then(|path| std::fs::read_to_string(path).ok());
        self.passwords = text
            .iter()
            .flat_map(|t| t.lines())
            .map(str::to_owned)
            .collect();
    }

    /// The password for one of the hosts.
    pub(crate) fn password_for(&self, host: Option<&Host>, port: u16) -> Option<Vec<u8>> {
        if let Some(password) = self.config.get_password() {
            return Some(password.to_vec());
        }
        let mut lines = self.passwords.iter();
        let found = lines.find_map(|line| self.password_in(line, host, port));
        found.map(String::into_bytes)
    }

    /// The password of a line `host:port:database:user:password` that is about this host.
    fn password_in(&self, line: &str, own_host: Option<&Host>, own_port: u16) -> Option<String> {
        if line.starts_with('#') {
            return None;
        }
        let fields = split_escaped(line);
        let [host, port, database, user, password] = fields.as_slice() else {
            return None;
        };
        let own_user = self.config.get_user().unwrap_or_default();
        let own_database = self.config.get_dbname().unwrap_or(own_user);
        let is = |pattern: &String, value: &str| pattern == "*" || pattern == value;
        let host_fits = match own_host {
            Some(Host::Tcp(name)) => is(host, name),
            // A socket is known by its folder, and the usual one by the name of the machine.
            Some(Host::Unix(path)) => is(host, &path.to_string_lossy()) || host == "localhost",
            None => host == "*",
        };
        let fits = host_fits
            && is(port, &own_port.to_string())
            && is(database, own_database)
            && is(user, own_user);
        fits.then(|| password.clone())
    }
}

/// Whether nobody but its owner has any access: as libpq, we take no passwords from a file that
/// others may read, and say so.
fn is_private(path: &Path) -> bool {
    #[cfg(unix)]
    if let Ok(metadata) = std::fs::metadata(path) {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_file() && mode & 0o077 != 0 {
            tracing::warn!(
                "the password file {} is left out: others may read it (mode {mode:04o}); \
                 chmod 0600 mends that",
                path.display()
            );
            return false;
        }
    }
    true
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::super::dsn::Dsn;

    fn set_mode(file: &Path, mode: u32) {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_password_file_that_others_may_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        std::fs::write(&file, "*:*:*:*:p\n").unwrap();
        let passwords = |mode: u32| {
            set_mode(&file, mode);
            let mut server = Dsn::parse("postgres://u@h/d").unwrap().server().unwrap();
            server.take_password(None, Some(&file));
            server.passwords
        };
        assert_eq!(passwords(0o644), [""; 0]);
        assert_eq!(passwords(0o640), [""; 0]);
        assert_eq!(passwords(0o600), ["*:*:*:*:p"]);
        assert_eq!(passwords(0o400), ["*:*:*:*:p"]);
    }

    #[test]
    fn passwords_come_from_the_url_the_environment_and_the_file_in_this_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        let lines = "# comment\nother:*:*:*:no\nh:5433:d:u:p\\:q\\\\\n/run/pg:1:d:u:of the socket\n\
             *:*:*:*:last\n";
        std::fs::write(&file, lines).unwrap();
        set_mode(&file, 0o600);
        let password = |dsn: &str, env: Option<&str>| {
            let mut server = Dsn::parse(dsn).unwrap().server().unwrap();
            server.take_password(env, Some(&file));
            let config = &server.config;
            let hosts = config.get_hosts().iter().zip(config.get_ports());
            let passwords = hosts.map(|(host, port)| server.password_for(Some(host), *port));
            let text = |password: Option<Vec<u8>>| String::from_utf8(password.unwrap()).unwrap();
            passwords.map(text).collect::<Vec<_>>()
        };
        assert_eq!(password("postgres://u:url@h/d", Some("env")), ["url"]);
        assert_eq!(
            password("postgres://u:a%40b%2Fc%3Ad%25@h/d", None),
            ["a@b/c:d%"]
        );
        assert_eq!(password("postgres://u@h/d", Some("env")), ["env"]);
        assert_eq!(password("postgres://u@h:5433/d", None), ["p:q\\"]);
        assert_eq!(password("postgres://u@h/d", None), ["last"]);
        // Nobody is told the password of another.
        let both = password("postgres://u@x:5432,h:5433/d", None);
        assert_eq!(both, ["last", "p:q\\"]);
        assert_eq!(
            password("postgres:///d?user=u&port=1&host=/run/pg", None),
            ["of the socket"]
        );
    }
}
