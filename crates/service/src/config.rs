//! Configuration in layers: the compiled-in, commented `default.toml` of a service, overridden by
//! a file, then by the environment, then by flags.
//!
//! `default.toml` contains every key, so it is the schema too. An unknown key, or a value of
//! another type, is refused with its file and line. All mistakes are reported at once.

use std::{fmt, path::Path};

use serde::de::DeserializeOwned;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

/// The sources of a service's configuration.
#[derive(Clone, Debug)]
pub struct ConfigSources<'a> {
    /// The text of the service's `default.toml`.
    pub defaults: &'a str,
    /// Tables of it whose keys the user chooses, such as `metrics`.
    pub open_tables: &'a [&'a str],
    /// The user's file, if any.
    pub file: Option<&'a Path>,
    /// Prefix of the environment variables, which are named `<PREFIX>__<TABLE>__<KEY>`.
    pub env_prefix: &'a str,
    /// The values of the flag `--set table.key=value`.
    pub set: &'a [String],
}

/// All mistakes of a configuration.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    mistakes: Vec<ConfigDiagnostic>,
}

#[derive(Debug, PartialEq, Eq)]
struct ConfigDiagnostic {
    /// The file and line, the variable or the flag.
    place: String,
    what: String,
    hint: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, ConfigDiagnostic { place, what, hint }) in self.mistakes.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{place}: {what}")?;
            if let Some(hint) = hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl ConfigError {
    /// Builds the error for a value that is invalid although its type is right.
    pub fn invalid(key: &str, what: impl fmt::Display) -> Self {
        let mistake =
            ConfigDiagnostic { place: key.to_owned(), what: what.to_string(), hint: None };
        Self { mistakes: vec![mistake] }
    }

    /// Builds the error for several invalid values, each a key and what is wrong with it.
    pub fn from_mistakes(mistakes: impl IntoIterator<Item = (String, String)>) -> Self {
        let to_diagnostic = |(place, what)| ConfigDiagnostic { place, what, hint: None };
        Self { mistakes: mistakes.into_iter().map(to_diagnostic).collect() }
    }
}

/// Loads a configuration.
///
/// # Errors
/// Returns a [`ConfigError`] with every mistake, each with its place and a hint.
///
/// # Panics
/// Panics if the compiled-in defaults are not TOML, which is a programming mistake.
///
/// ```
/// # use microclimate_service::config::{ConfigSources, load_config};
/// #[derive(serde::Deserialize)]
/// struct Settings { rest: Rest }
/// #[derive(serde::Deserialize)]
/// struct Rest { listen: std::net::SocketAddr }
///
/// let sources = ConfigSources {
///     defaults: "[rest]\nlisten = \"127.0.0.1:8080\"",
///     open_tables: &[], file: None, env_prefix: "EXAMPLE",
///     set: &["rest.listen=127.0.0.1:9090".to_owned()],
/// };
/// assert_eq!(load_config::<Settings>(&sources).unwrap().rest.listen.port(), 9090);
/// ```
pub fn load_config<T: DeserializeOwned>(sources: &ConfigSources<'_>) -> Result<T, ConfigError> {
    let mut table: Table = sources.defaults.parse().expect("the compiled-in defaults are TOML");
    let defaults = table.clone();
    let mut mistakes = Vec::new();
    if let Some(path) = sources.file {
        overlay_file(&mut table, &defaults, path, sources.open_tables, &mut mistakes);
    }
    for (place, key, text) in override_texts(sources, &mut mistakes) {
        if let Err(mistake) = overlay_text(&mut table, &defaults, &place, &key, &text, sources) {
            mistakes.push(mistake);
        }
    }
    if mistakes.is_empty() {
        return serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
            // TOML's own message repeats the path on further lines.
            let what = error.inner().to_string();
            ConfigError::invalid(&error.path().to_string(), what.lines().next().unwrap_or(&what))
        });
    }
    Err(ConfigError { mistakes })
}

fn overlay_file(
    table: &mut Table,
    defaults: &Table,
    path: &Path,
    open_tables: &[&str],
    mistakes: &mut Vec<ConfigDiagnostic>,
) {
    let place = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let what = format!("cannot be read: {error}");
            return mistakes.push(ConfigDiagnostic { place, what, hint: None });
        }
    };
    match (DeTable::parse(&text), text.parse::<Table>()) {
        (Ok(spans), Ok(overlay)) => {
            let mut walk = ConfigWalker { path, text: &text, open_tables, mistakes };
            walk.check_table("", spans.get_ref(), defaults);
            merge_tables(table, overlay);
        }
        (Err(error), _) | (_, Err(error)) => {
            let line = error.span().map_or(1, |span| line_number(&text, span.start));
            let what = error.message().to_owned();
            mistakes.push(ConfigDiagnostic { place: format!("{place}:{line}"), what, hint: None });
        }
    }
}

struct ConfigWalker<'a> {
    path: &'a Path,
    text: &'a str,
    open_tables: &'a [&'a str],
    mistakes: &'a mut Vec<ConfigDiagnostic>,
}

impl ConfigWalker<'_> {
    fn check_table(&mut self, prefix: &str, overlay: &DeTable<'_>, defaults: &Table) {
        for (key, value) in overlay {
            let full = join_key(prefix, key.get_ref());
            let place =
                format!("{}:{}", self.path.display(), line_number(self.text, key.span().start));
            if self.open_tables.contains(&full.as_str()) {
                continue;
            }
            match (defaults.get(key.get_ref().as_ref()), value.get_ref()) {
                (None, _) => self.mistakes.push(unknown_key(place, &full, key.get_ref(), defaults)),
                (Some(Value::Table(inner)), DeValue::Table(inner_overlay)) => {
                    self.check_table(&full, inner_overlay, inner);
                }
                (Some(default), found) if !is_same_type(default.type_str(), found.type_str()) => {
                    let what = format!(
                        "{full} is of type {}, expected {}",
                        found.type_str(),
                        default.type_str()
                    );
                    let hint = Some(format!("as in `{} = {default}`", key.get_ref()));
                    self.mistakes.push(ConfigDiagnostic { place, what, hint });
                }
                _ => {}
            }
        }
    }
}

/// Collects the overrides of the environment and of flags as (place, dotted key, text), in the
/// order in which they apply.
fn override_texts(
    sources: &ConfigSources<'_>,
    mistakes: &mut Vec<ConfigDiagnostic>,
) -> Vec<(String, String, String)> {
    let prefix = format!("{}__", sources.env_prefix);
    let mut texts: Vec<_> = std::env::vars()
        .filter_map(|(name, text)| {
            let key = name.strip_prefix(&prefix)?.to_lowercase().replace("__", ".");
            Some((format!("environment variable {name}"), key, text))
        })
        .collect();
    texts.sort();
    for flag in sources.set {
        match flag.split_once('=') {
            Some((key, text)) => {
                texts.push((format!("--set {key}"), key.trim().to_owned(), text.trim().to_owned()));
            }
            None => mistakes.push(ConfigDiagnostic {
                place: format!("--set {flag}"),
                what: "there is no `=`".to_owned(),
                hint: Some("as in `--set rest.listen=127.0.0.1:9090`".to_owned()),
            }),
        }
    }
    texts
}

fn overlay_text(
    table: &mut Table,
    defaults: &Table,
    place: &str,
    key: &str,
    text: &str,
    sources: &ConfigSources<'_>,
) -> Result<(), ConfigDiagnostic> {
    let levels: Vec<&str> = key.split('.').collect();
    let (last, parents) = levels.split_last().expect("split gives at least one part");
    let is_open =
        (1..=parents.len()).any(|n| sources.open_tables.contains(&parents[..n].join(".").as_str()));
    let (mut target, mut schema) = (table, Some(defaults));
    for level in parents {
        let unknown = || unknown_key(place.to_owned(), key, level, schema.unwrap_or(&Table::new()));
        let next = schema.and_then(|schema| schema.get(*level)).and_then(Value::as_table);
        if next.is_none() && !is_open {
            return Err(unknown());
        }
        target = target
            .entry(*level)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(unknown)?;
        schema = next;
    }
    let default = schema.and_then(|schema| schema.get(*last));
    let value = match default {
        None if !is_open => {
            return Err(unknown_key(place.to_owned(), key, last, schema.unwrap_or(&Table::new())));
        }
        Some(Value::String(_)) => Value::String(text.to_owned()),
        _ => parse_value(text),
    };
    match default {
        Some(default) if !is_same_type(default.type_str(), value.type_str()) => {
            Err(ConfigDiagnostic {
                place: place.to_owned(),
                what: format!(
                    "{key} is of type {}, expected {}",
                    value.type_str(),
                    default.type_str()
                ),
                hint: Some(format!("as in `{key}={default}`")),
            })
        }
        _ => {
            target.insert((*last).to_owned(), value);
            Ok(())
        }
    }
}

/// Parses `true`, `8` and `["a"]` as TOML. Any other text is a string.
fn parse_value(text: &str) -> Value {
    let read = format!("x = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("x"));
    read.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn unknown_key(place: String, full: &str, key: &str, schema: &Table) -> ConfigDiagnostic {
    let near = schema
        .keys()
        .filter(|known| strsim::jaro_winkler(known, key) > 0.8)
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let hint = if let Some(near) = near {
        format!("did you mean `{near}`?")
    } else {
        let known: Vec<&str> = schema.keys().map(String::as_str).collect();
        format!("the keys here are {}", known.join(", "))
    };
    ConfigDiagnostic { place, what: format!("unknown key `{full}`"), hint: Some(hint) }
}

fn is_same_type(default: &str, found: &str) -> bool {
    default == found || (default == "float" && found == "integer")
}

fn merge_tables(base: &mut Table, overlay: Table) {
    for (key, value) in overlay {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(overlay)) => merge_tables(base, overlay),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn join_key(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

fn line_number(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|b| *b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    const DEFAULTS: &str = "name = \"x\"\n[rest]\nport = 1\nslack_s = 0.5\n[metrics]\n";

    #[derive(Debug, Deserialize)]
    struct Settings {
        name: String,
        rest: Rest,
        metrics: Table,
    }

    #[derive(Debug, Deserialize)]
    struct Rest {
        port: u16,
        slack_s: f64,
    }

    fn run(file: &str, set: &[&str]) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own.toml");
        std::fs::write(&path, file).unwrap();
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        let sources = ConfigSources {
            defaults: DEFAULTS,
            open_tables: &["metrics"],
            file: Some(&path),
            env_prefix: "MICROCLIMATE_CONFIG_TEST",
            set: &set,
        };
        let prefix = format!("{}/", dir.path().display());
        load_config(&sources).map_err(|e| e.to_string().replace(&prefix, ""))
    }

    fn refuse(file: &str, set: &[&str], expect: &str) {
        assert_eq!(run(file, set).unwrap_err(), expect);
    }

    #[test]
    fn layers_in_order() {
        let got = run("name = \"file\"\n[rest]\nport = 2\nslack_s = 2", &["rest.port=3"]).unwrap();
        assert_eq!((got.name.as_str(), got.rest.port), ("file", 3));
        assert!((got.rest.slack_s - 2.0).abs() < f64::EPSILON);
        let got = run("[metrics.ph]\nmin = 0", &["metrics.ph.max=14", "name=7"]).unwrap();
        assert_eq!(got.metrics["ph"]["max"].as_integer(), Some(14));
        assert_eq!(got.name, "7");
    }

    #[test]
    fn mistakes_name_place_key_and_hint() {
        refuse(
            "[rest]\n\nprot = 2\n[rset]\n",
            &[],
            "own.toml:3: unknown key `rest.prot`\n  hint: did you mean `port`?\n\
             own.toml:4: unknown key `rset`\n  hint: did you mean `rest`?",
        );
        refuse(
            "[rest]\nport = \"2\"",
            &[],
            "own.toml:2: rest.port is of type string, expected integer\n  hint: as in `port = 1`",
        );
        refuse("name = ", &[], "own.toml:1: string values must be quoted, expected literal string");
        refuse(
            "",
            &["rest.prot=1", "rest"],
            "--set rest: there is no `=`\n  hint: as in `--set rest.listen=127.0.0.1:9090`\n\
             --set rest.prot: unknown key `rest.prot`\n  hint: did you mean `port`?",
        );
        refuse("", &["rest.port=70000"], "rest.port: invalid value: integer `70000`, expected u16");
    }
}
