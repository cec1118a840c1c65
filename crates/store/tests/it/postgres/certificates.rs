//! Certificates for a server, made by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::{Cluster, is_root};

/// An authority, and what it has signed.
pub(crate) struct Authority {
    /// Its certificate.
    pub(crate) cert: PathBuf,
    key: PathBuf,
}

/// Whether certificates can be made here.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn can_be_made() -> bool {
    let found = Command::new("openssl").arg("version").output();
    let can = found.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: openssl is not on this machine");
    }
    can
}

fn openssl(folder: &Path, args: &str) {
    let mut command = Command::new("openssl");
    let output = command
        .args(args.split(' '))
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args}: {said}");
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

impl Authority {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let file = |end: &str| folder.join(format!("{name}.{end}"));
        openssl(
            folder,
            &format!("req -x509 {KEY} -keyout {name}.key -out {name}.crt -days 2 -subj /CN={name}"),
        );
        Self {
            cert: file("crt"),
            key: file("key"),
        }
    }

    /// Signs a certificate of `name`, for these hosts; `days` may be gone already.
    pub(crate) fn sign(&self, folder: &Path, name: &str, hosts: &str, days: i32) {
        openssl(
            folder,
            &format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"),
        );
        fs::write(folder.join("hosts"), format!("subjectAltName={hosts}\n")).unwrap();
        let (cert, key) = (self.cert.display(), self.key.display());
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA {cert} -CAkey {key} -CAcreateserial -out {name}.crt \
                 -days {days} -extfile hosts"
            ),
        );
    }
}

impl Cluster {
    /// Gives the server a certificate, and switches TLS on.
    pub(crate) fn secure(&self, authority: &Authority, hosts: &str, days: i32) {
        let data = self.folder().join("data");
        authority.sign(&data, "server", hosts, days);
        fs::copy(&authority.cert, data.join("ca.crt")).unwrap();
        for name in ["server.key", "server.crt", "ca.crt"] {
            let file = data.join(name);
            let mode = Command::new("chmod").arg("600").arg(&file).status();
            assert!(mode.unwrap().success());
            if is_root() {
                let owner = Command::new("chown").arg("postgres").arg(&file).status();
                assert!(owner.unwrap().success());
            }
        }
        self.configure(&["ssl = on", "ssl_ca_file = 'ca.crt'"]);
    }
}
