//! Reads the text of a value as its setting's type.
//!
//! Numbers and booleans are read as pydantic reads them from the environment, since `.env` files
//! that were written for it must mean the same here. What that is was tried with pydantic 2.13.4
//! and pydantic-settings 2.14.1 on the texts of the tests below:
//!
//! | type | read | refused |
//! |---|---|---|
//! | int | `5`, ` 5 `, `+5`, `007`, `1_000`, `5.0`, `5.` | empty, `5.5`, `1e3`, `0x10`, `_1`, `1__0`, `.0` |
//! | float | `1e3`, ` 2.5 `, `.5`, `5.`, `1_000.5` | empty, `0x1p3`, `_1.0` |
//! | bool | `true false 1 0 yes no on off t f y n` in any case | empty, ` true `, `2`, `1.0` |
//!
//! Infinity and NaN, which pydantic reads as floats, lie outside of every setting's range. Texts
//! (URLs, paths, choices, addresses) are trimmed, and an empty text is refused for every type: it
//! mostly comes from a variable that was meant to be filled in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::table::SettingType;
use super::value::{QueueChoice, SecretUrl, SettingValue};

/// Why a text is not a value of a setting; what is allowed stands in the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Nothing was given.
    #[error("is empty")]
    Empty,
    /// The text is of another type.
    #[error("is not {0}")]
    NotA(&'static str),
    /// The number is out of range.
    #[error("is out of range")]
    OutOfRange,
}

/// Reads `text` as a value of type `ty`.
pub(super) fn parse(ty: &SettingType, text: &str) -> Result<SettingValue, ValueError> {
    if text.trim().is_empty() {
        return Err(ValueError::Empty);
    }
    match ty {
        SettingType::Int { min, max } => {
            let number = int(text).ok_or(ValueError::NotA("a whole number"))?;
            match u64::try_from(number) {
                Ok(n) if (*min..=*max).contains(&n) => Ok(SettingValue::Int(n)),
                _ => Err(ValueError::OutOfRange),
            }
        }
        SettingType::Float { min, max } => {
            let number = float(text).ok_or(ValueError::NotA("a number"))?;
            if (*min..=*max).contains(&number) {
                Ok(SettingValue::Float(number))
            } else {
                Err(ValueError::OutOfRange)
            }
        }
        SettingType::Bool => boolean(text)
            .map(SettingValue::Bool)
            .ok_or(ValueError::NotA("true or false")),
        SettingType::Choice(words) => words
            .iter()
            .find(|w| w.eq_ignore_ascii_case(text.trim()))
            .map(|w| SettingValue::Choice(w))
            .ok_or(ValueError::NotA("one of the choices")),
        SettingType::Tenant => text
            .parse()
            .map(SettingValue::Tenant)
            .map_err(|_| ValueError::NotA("a UUID")),
        SettingType::Address => address(text.trim())
            .map(SettingValue::Address)
            .ok_or(ValueError::NotA("an address with a port")),
        SettingType::Url(schemes) => url(schemes, text.trim()),
        SettingType::Queue => queue(text.trim()),
        SettingType::Path => Ok(SettingValue::Path(PathBuf::from(text.trim()))),
    }
}

/// Removes single underscores between digits; `None` where one stands elsewhere.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let misplaced = |(i, b): (usize, &u8)| {
        *b == b'_' && (i == 0 || i + 1 == bytes.len() || bytes[i - 1] == b'_')
    };
    if bytes.iter().enumerate().any(misplaced) {
        return None;
    }
    Some(text.replace('_', ""))
}

fn int(text: &str) -> Option<i128> {
    let trimmed = text.trim();
    // A fraction of zeros is taken as none at all.
    let whole = match trimmed.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|b| b == b'0') => whole,
        Some(_) => return None,
        None => trimmed,
    };
    let digits = without_underscores(whole)?;
    match digits.parse() {
        Ok(number) => Some(number),
        // More digits than the type holds is a number all the same, and out of every range.
        Err(e) if *e.kind() == std::num::IntErrorKind::PosOverflow => Some(i128::MAX),
        Err(e) if *e.kind() == std::num::IntErrorKind::NegOverflow => Some(i128::MIN),
        Err(_) => None,
    }
}

fn float(text: &str) -> Option<f64> {
    without_underscores(text.trim())?.parse().ok()
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
        "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
        _ => None,
    }
}

/// `IP:PORT`, `localhost:PORT` or `:PORT` for every interface. Names are not looked up.
fn address(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let ip = match host {
        "" => Ipv4Addr::UNSPECIFIED,
        "localhost" => Ipv4Addr::LOCALHOST,
        _ => return None,
    };
    Some(SocketAddr::new(IpAddr::V4(ip), port))
}

fn url(schemes: &[&str], text: &str) -> Result<SettingValue, ValueError> {
    let no_url = ValueError::NotA("a URL of a known kind");
    let (scheme, rest) = text.split_once(':').ok_or(no_url.clone())?;
    let scheme = scheme.to_ascii_lowercase();
    let known = schemes.contains(&scheme.as_str());
    // A database in a file has a path after the colon, everything else a host after `//`.
    let complete = match rest.strip_prefix("//") {
        Some(host) => !host.is_empty(),
        None => scheme == "sqlite" && !rest.is_empty(),
    };
    if known && complete {
        Ok(SettingValue::Url(SecretUrl::new(text)))
    } else {
        Err(no_url)
    }
}

fn queue(text: &str) -> Result<SettingValue, ValueError> {
    match text.split_once(':') {
        None if text.eq_ignore_ascii_case("memory") => Ok(SettingValue::Queue(QueueChoice::Memory)),
        Some((scheme, dir)) if scheme.eq_ignore_ascii_case("disk") && !dir.is_empty() => {
            Ok(SettingValue::Queue(QueueChoice::Disk(dir.into())))
        }
        _ => Err(ValueError::NotA("a kind of queue")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_as_pydantic_reads_them() {
        for (text, number) in [
            ("5", 5),
            (" 5 ", 5),
            ("5\n", 5),
            ("+5", 5),
            ("-5", -5),
            ("-0", 0),
            ("007", 7),
            ("00", 0),
            ("1_000", 1_000),
            ("5.0", 5),
            ("5.00", 5),
            ("5.", 5),
            ("0.0", 0),
            ("1_000.0", 1_000),
            ("9223372036854775808", 9_223_372_036_854_775_808),
        ] {
            assert_eq!(int(text), Some(number), "{text:?}");
        }
        for text in [
            "", "5.5", "_1", "1__0", "0x10", "1e3", "+ 5", ".0", "5.0_0", "\u{665}", "5_",
        ] {
            assert_eq!(int(text), None, "{text:?}");
        }
    }

    #[test]
    fn floats_are_read_as_pydantic_reads_them() {
        for (text, number) in [
            ("1e3", 1_000.0),
            ("1E3", 1_000.0),
            ("1e+3", 1_000.0),
            (" 2.5 ", 2.5),
            (".5", 0.5),
            ("+.5", 0.5),
            ("5.", 5.0),
            ("1_000.5", 1_000.5),
            ("1_0e1_0", 1e11),
            ("1._0", 1.0),
            ("1e-400", 0.0),
            ("1e400", f64::INFINITY),
            ("iNF", f64::INFINITY),
        ] {
            assert_eq!(
                float(text).map(f64::to_bits),
                Some(number.to_bits()),
                "{text:?}"
            );
        }
        for text in ["", "0x1p3", "_1.0", "1,5", "fast"] {
            assert_eq!(float(text), None, "{text:?}");
        }
        let any = SettingType::Float {
            min: f64::MIN,
            max: f64::MAX,
        };
        assert_eq!(parse(&any, "nan"), Err(ValueError::OutOfRange));
        assert_eq!(parse(&any, "inf"), Err(ValueError::OutOfRange));
    }

    #[test]
    fn booleans_are_read_as_pydantic_reads_them() {
        for text in [
            "true", "TRUE", "tRuE", "t", "T", "y", "Y", "yes", "yES", "on", "oN", "1",
        ] {
            assert_eq!(boolean(text), Some(true), "{text:?}");
        }
        for text in ["false", "False", "f", "n", "no", "nO", "off", "oFF", "0"] {
            assert_eq!(boolean(text), Some(false), "{text:?}");
        }
        for text in ["", " true ", " 1", "2", "01", "1.0", "0.0", "enabled"] {
            assert_eq!(boolean(text), None, "{text:?}");
        }
    }

    #[test]
    fn addresses() {
        for (text, address_text) in [
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            ("[::1]:80", "[::1]:80"),
            ("localhost:9", "127.0.0.1:9"),
            (":8000", "0.0.0.0:8000"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), address_text);
        }
        for text in [
            "8000",
            "example.org:80",
            "127.0.0.1",
            "127.0.0.1:70000",
            "::1:80:x",
        ] {
            assert_eq!(address(text), None, "{text:?}");
        }
    }

    #[test]
    fn urls_need_a_known_scheme_and_something_behind_it() {
        let schemes: &[&str] = &["sqlite", "postgres"];
        for text in [
            "sqlite:a.db",
            "SQLITE:a.db",
            "sqlite:///a.db",
            "postgres://h/db",
        ] {
            assert!(url(schemes, text).is_ok(), "{text}");
        }
        for text in [
            "a.db",
            "sqlite:",
            "sqlite://",
            "postgres:h",
            "mysql://h/db",
            "postgres://",
        ] {
            assert!(url(schemes, text).is_err(), "{text}");
        }
    }

    #[test]
    fn queues_are_in_memory_or_on_the_disk() {
        assert_eq!(
            queue("memory"),
            Ok(SettingValue::Queue(QueueChoice::Memory))
        );
        assert_eq!(
            queue("disk:/var/q"),
            Ok(SettingValue::Queue(QueueChoice::Disk("/var/q".into())))
        );
        assert_eq!(queue("disk:"), Err(ValueError::NotA("a kind of queue")));
        assert_eq!(queue("nats://h"), Err(ValueError::NotA("a kind of queue")));
    }
}
