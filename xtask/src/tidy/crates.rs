//! Which crate may depend on which.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{Finding, TextFile};

/// The crates of the workspace that each crate may depend on, beyond its tests.
///
/// A store never sees the coordinator; the coordinator never sees a database or market data.
const ALLOWED: [(&str, &[&str]); 8] = [
    ("mds-core", &[]),
    ("mds-wal", &[]),
    ("mds-coordinator", &["mds-core", "mds-wal"]),
    ("mds-store", &["mds-core"]),
    ("mds-formats", &["mds-core"]),
    (
        "mds-server",
        &["mds-core", "mds-coordinator", "mds-formats", "mds-store"],
    ),
    (
        "mds",
        &[
            "mds-core",
            "mds-coordinator",
            "mds-wal",
            "mds-store",
            "mds-formats",
            "mds-server",
        ],
    ),
    ("xtask", &["mds-core"]),
];

/// A crate and the crates that it depends on.
struct Package {
    name: String,
    manifest: String,
    dependencies: Vec<String>,
}

/// Everything found in the manifests.
pub(super) fn check(root: &Path, files: &[TextFile]) -> anyhow::Result<Vec<Finding>> {
    let packages = packages(root)?;
    let mut findings: Vec<Finding> = packages.iter().flat_map(direction).collect();
    for package in &packages {
        let manifest = files.iter().find(|f| f.path == package.manifest);
        if !manifest.is_some_and(|f| f.text.contains("[lints]\nworkspace = true")) {
            let message = "does not inherit the lints; add [lints] workspace = true";
            findings.push(Finding::new(&package.manifest, 0, message));
        }
    }
    Ok(findings)
}

fn direction(package: &Package) -> Vec<Finding> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
        let message = format!(
            "{} is not in the table of directions; add it to xtask/src/tidy/crates.rs",
            package.name
        );
        return vec![Finding::new(&package.manifest, 0, message)];
    };
    let is_ours = |name: &&String| ALLOWED.iter().any(|(ours, _)| ours == name);
    let wrong = package.dependencies.iter().filter(is_ours);
    wrong
        .filter(|name| !allowed.contains(&name.as_str()))
        .map(|name| {
            let message = format!("{} must not depend on {name}", package.name);
            Finding::new(&package.manifest, 0, message)
        })
        .collect()
}

/// The crates of the workspace, as Cargo understands them.
fn packages(root: &Path) -> anyhow::Result<Vec<Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .context("cannot read the answer of cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    Ok(packages
        .iter()
        .map(|package| package_of(root, package))
        .collect())
}

fn package_of(root: &Path, package: &Value) -> Package {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let path = text(&package["manifest_path"]);
    let relative = Path::new(&path)
        .strip_prefix(root)
        .unwrap_or(Path::new(&path));
    let dependencies = package["dependencies"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    Package {
        name: text(&package["name"]),
        manifest: relative.to_string_lossy().replace('\\', "/"),
        dependencies: dependencies
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| text(&dependency["name"]))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(name: &str, dependencies: &[&str]) -> Vec<String> {
        let package = Package {
            name: name.to_owned(),
            manifest: "Cargo.toml".to_owned(),
            dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
        };
        direction(&package).into_iter().map(|f| f.message).collect()
    }

    #[test]
    fn the_direction_is_checked() {
        assert_eq!(messages("mds-store", &["mds-core", "serde"]), [""; 0]);
        assert_eq!(
            messages("mds-store", &["mds-coordinator"]),
            ["mds-store must not depend on mds-coordinator"]
        );
        assert_eq!(
            messages("mds-coordinator", &["mds-formats", "mds-core"]),
            ["mds-coordinator must not depend on mds-formats"]
        );
        assert!(messages("mds-new", &[])[0].contains("is not in the table of directions"));
    }
}
