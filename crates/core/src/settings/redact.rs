//! Hides what a log, an error, a metric or a table must not show.

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Words in the name of a parameter that make its value a secret.
const SECRET_WORDS: [&str; 7] = ["pass", "pw", "secret", "token", "key", "sig", "auth"];

/// Hides passwords in a text that is, or may have been meant as, a URL or a connection string:
/// the password before `@` (for `http` and `https` the user as well, since a token is often given
/// there), and the values of parameters such as `password=` and `token=`.
///
/// In doubt it hides more than the secret, never less: an `@` in the password needs no escape.
///
/// ```
/// use mds_core::settings::redact;
///
/// assert_eq!(redact("postgres://me:s3cret@db:5432/m"), "postgres://me:***@db:5432/m");
/// assert_eq!(redact("postgres://me:p@ss/w@db/m"), "postgres://me:***@db/m");
/// assert_eq!(redact("host=db password='a b' dbname=m"), "host=db password=*** dbname=m");
/// assert_eq!(redact("https://h/hook?token=abc&x=1"), "https://h/hook?token=***&x=1");
/// assert_eq!(redact("sqlite:market.db"), "sqlite:market.db");
/// ```
pub fn redact(text: &str) -> String {
    redact_parameters(&redact_userinfo(text))
}

fn redact_userinfo(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else {
        return redact_port(text);
    };
    let (scheme, userinfo) = match before.split_once("://") {
        Some((scheme, userinfo)) => (Some(scheme), userinfo),
        None => (None, before),
    };
    let prefix = scheme.map(|s| format!("{s}://")).unwrap_or_default();
    let token_as_user =
        scheme.is_some_and(|s| ["http", "https"].iter().any(|h| s.eq_ignore_ascii_case(h)));
    match userinfo.split_once(':') {
        _ if token_as_user => format!("{prefix}{MASK}@{host}"),
        Some((user, _)) => format!("{prefix}{user}:{MASK}@{host}"),
        None => text.to_owned(),
    }
}

/// Hides what stands in the place of a port and is no number: a password whose host was forgotten.
fn redact_port(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (authority, behind) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match authority.split_once(':') {
        Some((user, port)) if !user.starts_with('[') && !starts_with_number(port) => {
            format!("{scheme}://{user}:{MASK}{behind}")
        }
        _ => text.to_owned(),
    }
}

/// Whether a number, or nothing, stands before the next host.
fn starts_with_number(port: &str) -> bool {
    let port = port.split(',').next().unwrap_or_default();
    port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Hides the value after `=` of every parameter whose name says that it is a secret.
fn redact_parameters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('=') {
        out.push_str(before);
        out.push('=');
        let name_start = before
            .rfind(['?', '&', ' ', ';', '\t', '\n'])
            .map_or(0, |i| i + 1);
        let name = before
            .get(name_start..)
            .unwrap_or(before)
            .to_ascii_lowercase();
        let end = value_end(after);
        if SECRET_WORDS.iter().any(|word| name.contains(word)) {
            out.push_str(MASK);
            rest = after.get(end..).unwrap_or("");
        } else {
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Where a parameter's value ends: at its closing quote, else before the next separator.
fn value_end(text: &str) -> usize {
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"'))
        && let Some(closing) = text.get(1..).and_then(|t| t.find(quote))
    {
        return closing + 2;
    }
    text.find(|c: char| c == '&' || c == ';' || c.is_whitespace())
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_a_password_gets_through() {
        for text in [
            "postgres://u:hunter2@h/db",
            "postgres://u:hunter2@h:5432/db?sslmode=require",
            "postgres://:hunter2@h/db",
            "postgres://u:a@hunter2@h/db",
            "postgres://u:a:hunter2@h/db",
            "postgres://u:/hunter2?x#y@h/db",
            "postgres:/u:hunter2@h/db",
            "postgres://u:hunter2",
            "postgres://u:hunter2/db",
            "postgres://h/db?user=u&pw=hunter2",
            "u:hunter2@h",
            "postgres://h/db?user=u&password=hunter2",
            "postgres://h/db?PASSWORD=hunter2&x=1",
            "postgres://h/db?sslpassword=hunter2",
            "host=h password=hunter2",
            "host=h password='x hunter2 y' dbname=d",
            "https://hunter2@h/hook",
            "https://h/hook?api_key=hunter2",
            "https://h/hook?sig=hunter2",
        ] {
            let shown = redact(text);
            assert!(!shown.contains("hunter2"), "{text} -> {shown}");
            assert!(shown.contains(MASK), "{text} -> {shown}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "sqlite:market.db",
            "abc",
            "postgres://u@h/db",
            "postgres://h:5432,h2:5433/db",
            "postgres://[::1]:5432/db",
            "a=b",
            "",
            "500",
            "héß=1",
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
