//! `mds config`.

use crate::run::{Place, golden};

#[test]
fn show_prints_every_setting_with_its_origin() {
    let place = Place::new();
    golden(
        "config-show-defaults.txt",
        &place.run(&["config", "show"]).code(0).stdout,
    );

    place.write(
        "mds.toml",
        "store = 'sqlite:toml.db'\n[coordinator]\nbatch_size = 100\n",
    );
    place.write(".env", "# ours\nMDS_COORDINATOR_CAPACITY=500\nOTHER=1\n");
    let env = [
        ("MDS_STORE", "postgres://me:hunter2@db/market"),
        ("mds_coordinator_workers", "8"),
        (
            "MDS_FB_HTTP_ENDPOINT",
            "https://hunter2@hook/x?token=hunter2",
        ),
    ];
    let outcome = place.run_with_env(&["config", "show"], &env).code(0);
    assert!(!outcome.stdout.contains("hunter2"));
    assert_eq!(outcome.stderr, "");
    golden("config-show-origins.txt", &outcome.stdout);

    let flag = place
        .run_with_env(&["config", "show", "--store", "sqlite:f.db"], &env)
        .code(0);
    let line = flag
        .stdout
        .lines()
        .find(|l| l.starts_with("store "))
        .unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["store", "sqlite:f.db", "flag", "--store"]
    );
}

#[test]
fn show_as_json_has_types() {
    let outcome = Place::new()
        .run_with_env(&["config", "show", "--json"], &[("MDS_RETRY_JITTER", "no")])
        .code(0);
    let all: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let entry = |name: &str| {
        all.as_array()
            .unwrap()
            .iter()
            .find(|e| e["name"] == name)
            .cloned()
            .unwrap()
    };
    assert_eq!(entry("coordinator_capacity")["value"], 10_000);
    assert_eq!(entry("retry_jitter")["value"], false);
    assert_eq!(
        entry("retry_jitter")["origin"],
        "environment MDS_RETRY_JITTER"
    );
    assert_eq!(entry("retry_jitter")["key"], "retry.jitter");
    assert_eq!(entry("listen")["value"], serde_json::Value::Null);
}

#[test]
fn check_tells_all_that_is_wrong_at_once() {
    let place = Place::new();
    let fine = place.run(&["config", "check"]).code(0);
    assert_eq!(fine.stdout, "");
    assert!(fine.stderr.starts_with("all "), "{}", fine.stderr);

    let env = [
        ("MDS_COORDINATOR_WORKERS", "many"),
        ("MDS_COORDINATOR_WORKER", "4"),
    ];
    place.write(".env", "MDS_STORE=mysql://me:hunter2@h/db\n");
    let wrong = place.run_with_env(&["config", "check"], &env).code(2);
    assert_eq!(wrong.stdout, "");
    assert_eq!(
        wrong.stderr,
        "warning: MDS_COORDINATOR_WORKER (environment MDS_COORDINATOR_WORKER) is not a setting \
         and has no effect; did you mean MDS_COORDINATOR_WORKERS?\n\
         error: 2 settings are wrong:\n  \
         store = \"mysql://me:***@h/db\" (.env:1) is not a URL of a known kind; use sqlite:PATH \
         or postgres://HOST/... or postgresql://HOST/...\n  \
         coordinator_workers = \"many\" (environment MDS_COORDINATOR_WORKERS) is not a whole \
         number; use a whole number from 1 to 1024\n"
    );
}

#[test]
fn check_reads_the_certificates_that_the_store_names() {
    let place = Place::new();
    let check = |parameters: &str, code| {
        let url = format!("postgres://h/d?{parameters}");
        place
            .run_with_env(&["config", "check"], &[("MDS_STORE", &url)])
            .code(code)
            .stderr
    };
    let told = check("sslmode=verify-full&sslrootcert=absent.pem", 2);
    assert!(
        told.contains("(environment MDS_STORE): its certificates: cannot read absent.pem: "),
        "{told}"
    );
    place.write("empty.pem", "");
    let told = check("sslmode=verify-full&sslrootcert=empty.pem", 2);
    assert!(
        told.contains("there is no certificate in empty.pem, which sslrootcert names"),
        "{told}"
    );
    check("sslmode=disable&sslrootcert=absent.pem", 0);
}

#[test]
fn quiet_leaves_out_warnings() {
    let outcome = Place::new()
        .run_with_env(&["config", "check", "-q"], &[("MDS_NONSENSE", "1")])
        .code(0);
    assert_eq!(outcome.stderr, "");
}

#[test]
fn files_can_be_named_and_must_then_exist() {
    let place = Place::new();
    place.write("my.toml", "queue = 'memory'\n");
    let outcome = place
        .run(&["--config", "my.toml", "config", "show"])
        .code(0);
    assert!(outcome.stdout.contains("my.toml:1"), "{}", outcome.stdout);

    for flag in ["--config", "--env-file"] {
        let outcome = place.run(&["config", "show", flag, "missing"]).code(2);
        assert_eq!(
            outcome.stderr,
            "error: cannot read the settings in missing: No such file or directory (os error 2)\n"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;

    let place = Place::new();
    let output = place
        .command(&["config", "show"])
        .env("MDS_DLQ_PATH", std::ffi::OsStr::from_bytes(b"a\xffb"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("MDS_DLQ_PATH is not UTF-8"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_reader_that_closes_the_pipe_ends_the_command_quietly() {
    let place = Place::new();
    let mut child = place
        .command(&["config", "show"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn check_looks_into_the_address_of_the_store() {
    let place = Place::new();
    let check = |url: &str| place.run_with_env(&["config", "check"], &[("MDS_STORE", url)]);
    check("postgres://me@h/d?connect_timeout=3").code(0);
    check("postgres://me@h/d?connect_timeoot=3").code(2).errors(&[
        "store = \"postgres://me@h/d?connect_timeoot=3\" (environment MDS_STORE): not a PostgreSQL \
         URL: unknown option `connect_timeoot`; write postgres://USER@HOST:PORT/DATABASE",
    ]);
}
