//! Writes `docs/settings.md` from the table of settings.

use mds_core::settings::{Setting, SettingDefault, SettingGroup, TABLE, rules};

const HEAD: &str = "\
# Settings

This page is made from the table in `crates/core/src/settings/table.rs` by
`cargo run -p xtask -- gen-docs`; change it there.

A value comes from the first of these that has one:

1. a flag of the command line, for the settings that have one,
2. the environment (names in any case),
3. `.env` in the working directory, or the file that `--env-file` names,
4. `mds.toml` in the working directory, or the file that `--config` names,
5. the default.

`mds config show` prints every setting, its value and where that came from; `mds config check` only
checks them. Everything that is wrong is told at once. A name that begins with `MDS_`, or a key in
`mds.toml`, that no setting has is a warning with the nearest known name. Passwords in URLs are never
shown.

Numbers and truth values are read as pydantic reads them from the environment: ` 5 `, `1_000` and
`5.0` are whole numbers, `1e3` is a number, `true`, `1`, `yes`, `on`, `t` and `y` are true in any
case. An empty value is an error: leave the name out to get the default.

The same settings in the two kinds of files:

```sh
# .env
MDS_STORE=sqlite:market.db
MDS_COORDINATOR_WORKERS=8
```

```toml
# mds.toml
store = \"sqlite:market.db\"

[coordinator]
workers = 8
```

A value in `.env` may stand in single or double quotes; it may not run over several lines, and
`${NAME}` is not expanded.
";

/// The whole page.
pub(crate) fn render() -> String {
    let mut parts = vec![HEAD.to_owned(), overview()];
    for group in SettingGroup::ALL {
        parts.push(format!("\n## {}\n", group.title()));
        parts.extend(
            TABLE
                .iter()
                .filter(|s| s.group == group)
                .map(|s| describe(s)),
        );
    }
    parts.push("\n## What must hold between settings\n\n".to_owned());
    let rule = |(left, rule, right)| format!("- `{left}` is {rule} `{right}`\n");
    parts.extend(rules().into_iter().map(rule));
    parts.push("- `fb_enable_http_broadcast` needs `fb_http_endpoint`\n".to_owned());
    parts.concat()
}

fn overview() -> String {
    let row = |setting: &&Setting| {
        let (env, default, ty) = (setting.env, default_of(setting), setting.ty.name());
        format!("| `{env}` | {default} | {ty} |\n")
    };
    let rows: Vec<String> = TABLE.iter().map(row).collect();
    format!(
        "\n## Overview\n\n| environment | default | type |\n|---|---|---|\n{}",
        rows.concat()
    )
}

fn describe(setting: &Setting) -> String {
    let alias = setting
        .env_alias
        .map(|alias| format!(", also `{alias}`"))
        .unwrap_or_default();
    let flag = setting
        .flag
        .map(|flag| format!("- Flag: `{flag}`\n"))
        .unwrap_or_default();
    let unit = match setting.unit {
        "" => String::new(),
        unit => format!("- Unit: {unit}\n"),
    };
    [
        format!(
            "\n### `{}`\n\n{}\n{}\n\n",
            setting.name, setting.doc, setting.effect
        ),
        format!("- Environment: `{}`{alias}\n", setting.env),
        format!("- `mds.toml`: {}\n", toml_place(setting.key)),
        flag,
        format!("- Default: {}\n", default_of(setting)),
        format!("- Allowed: {}\n", setting.ty),
        unit,
    ]
    .concat()
}

fn toml_place(key: &str) -> String {
    match key.split_once('.') {
        Some((table, key)) => format!("`{key}` in `[{table}]`"),
        None => format!("`{key}`"),
    }
}

fn default_of(setting: &Setting) -> String {
    match setting.default {
        SettingDefault::Value(value) => format!("`{value}`"),
        SettingDefault::Derived(how) => how.to_owned(),
        SettingDefault::Absent(meaning) => format!("not set: {meaning}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_described_once() {
        let page = render();
        for setting in TABLE {
            let heading = format!("\n### `{}`\n", setting.name);
            assert_eq!(page.matches(&heading).count(), 1, "{}", setting.name);
        }
        assert!(page.contains("- Environment: `MDS_STORE`, also `MDS_DSN`\n"));
        assert!(page.contains("- `mds.toml`: `capacity` in `[coordinator]`\n"));
        assert!(page.contains("- Allowed: a whole number from 1 to 1024\n- Unit: workers\n"));
    }
}
