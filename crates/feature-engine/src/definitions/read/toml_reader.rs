use std::collections::HashMap;

use telemetry::SmolStr;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::definitions::diagnostic::{DefinitionDiagnostic, suggest_name};

/// Longest name of a metric or feature that definitions may add.
const NAME_MAX: usize = 63;

/// A value of the file, with its path.
#[derive(Clone, Debug)]
pub(super) struct TomlNode<'n> {
    /// Path, as in `joins.vpd_kpa.inputs`. An item of a list has the list's path and its index.
    pub(super) path: String,
    /// Last part of the path.
    pub(super) key: SmolStr,
    value: &'n Spanned<DeValue<'n>>,
}

/// Reads values from the file, collects mistakes, and remembers the line of each value.
#[derive(Debug)]
pub(super) struct TomlReader<'r> {
    file: &'r str,
    text: &'r str,
    lines: HashMap<String, usize>,
    mistakes: Vec<DefinitionDiagnostic>,
}

impl<'r> TomlReader<'r> {
    pub(super) fn new(file: &'r str, text: &'r str) -> Self {
        Self { file, text, lines: HashMap::new(), mistakes: Vec::new() }
    }

    /// Parses the whole file; `None` if it is not TOML.
    pub(super) fn parse_root(&mut self) -> Option<Spanned<DeValue<'r>>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let line = error.span().map(|span| self.line_number(span.start));
            self.push(line, format!("not TOML: {}", error.message()), None);
        }
        let span = table.span();
        errors.is_empty().then(|| Spanned::new(span, DeValue::Table(table.into_inner())))
    }

    /// Returns the values of a table. With `keys`, reports other keys.
    pub(super) fn read_table<'n>(
        &mut self,
        value: &'n Spanned<DeValue<'n>>,
        path: &str,
        keys: Option<&[&str]>,
    ) -> Vec<TomlNode<'n>> {
        let DeValue::Table(table) = value.get_ref() else {
            self.report_wrong_type(value, path, "table");
            return Vec::new();
        };
        let mut nodes = Vec::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let line = self.line_number(key.span().start);
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            match keys {
                Some(keys) if !keys.contains(&name) => {
                    let hint = suggest_name(name, keys);
                    self.push(Some(line), format!("unknown key `{path}`"), hint);
                }
                _ => {
                    self.lines.insert(path.clone(), line);
                    nodes.push(TomlNode { path, key: name.into(), value });
                }
            }
        }
        nodes
    }

    pub(super) fn read_fields<'n>(
        &mut self,
        node: &TomlNode<'n>,
        keys: &[&str],
    ) -> Vec<TomlNode<'n>> {
        self.read_table(node.value, &node.path, Some(keys))
    }

    /// Returns the values of a table whose keys the user chooses.
    pub(super) fn read_entries<'n>(&mut self, node: &TomlNode<'n>) -> Vec<TomlNode<'n>> {
        self.read_table(node.value, &node.path, None)
    }

    /// Returns the values of a list; `None` if it is not a list.
    pub(super) fn read_items<'n>(&mut self, node: &TomlNode<'n>) -> Option<Vec<TomlNode<'n>>> {
        let DeValue::Array(array) = node.value.get_ref() else {
            self.report_wrong_type(node.value, &node.path, "list");
            return None;
        };
        let mut nodes = Vec::new();
        for (i, value) in array.iter().enumerate() {
            let path = format!("{}.{i}", node.path);
            self.lines.insert(path.clone(), self.line_number(value.span().start));
            nodes.push(TomlNode { path, key: i.to_string().into(), value });
        }
        Some(nodes)
    }

    pub(super) fn read_string(&mut self, node: &TomlNode<'_>) -> Option<String> {
        let found = node.value.get_ref().as_str().map(str::to_owned);
        self.expect_type(found, node, "string")
    }

    pub(super) fn read_bool(&mut self, node: &TomlNode<'_>) -> Option<bool> {
        self.expect_type(node.value.get_ref().as_bool(), node, "true or false")
    }

    /// Reads a finite number, with or without a decimal point.
    pub(super) fn read_number(&mut self, node: &TomlNode<'_>) -> Option<f64> {
        let value = node.value.get_ref();
        let float = value.as_float().map(|float| float.as_str().replace('_', ""));
        let integer = value.as_integer().map(|integer| integer.to_string().replace('_', ""));
        let number = float.or(integer).and_then(|text| text.parse::<f64>().ok());
        self.expect_type(number.filter(|number| number.is_finite()), node, "finite number")
    }

    /// Reads the key as a name that the user gives to something.
    pub(super) fn read_name(&mut self, node: &TomlNode<'_>) -> Option<SmolStr> {
        let name = &node.key;
        let is_good = name.len() <= NAME_MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !is_good {
            let hint = format!("a–z, 0–9 and _, a letter first, at most {NAME_MAX} of them");
            self.report_at(&node.path, format!("`{name}` is not a valid name"), Some(hint));
        }
        is_good.then(|| name.clone())
    }

    /// Reads one of the known names.
    pub(super) fn read_one_of<T: Copy>(
        &mut self,
        node: &TomlNode<'_>,
        what: &str,
        known: &[(&str, T)],
    ) -> Option<T> {
        let name = self.read_string(node)?;
        let found =
            known.iter().find(|(known_name, _)| *known_name == name).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(known_name, _)| *known_name).collect();
            let hint = suggest_name(&name, &names);
            self.report_at(&node.path, format!("`{name}` is not a known {what}"), hint);
        }
        found
    }

    /// Reports a mistake at a path that was read.
    pub(super) fn report_at(&mut self, path: &str, what: impl Into<String>, hint: Option<String>) {
        // For a path that the file only implies, the nearest table that it names.
        let mut known = path;
        while !known.is_empty() && !self.lines.contains_key(known) {
            known = known.rsplit_once('.').map_or("", |(parent, _)| parent);
        }
        self.push(self.lines.get(known).copied(), what.into(), hint);
    }

    pub(super) fn has_no_mistakes(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Returns all mistakes, in the order of the file.
    pub(super) fn into_mistakes(mut self) -> Vec<DefinitionDiagnostic> {
        self.mistakes.sort_by_key(|mistake| mistake.line);
        self.mistakes
    }

    fn expect_type<T>(
        &mut self,
        found: Option<T>,
        node: &TomlNode<'_>,
        expected: &str,
    ) -> Option<T> {
        if found.is_none() {
            self.report_wrong_type(node.value, &node.path, expected);
        }
        found
    }

    fn report_wrong_type(&mut self, value: &Spanned<DeValue<'_>>, path: &str, expected: &str) {
        let found = match value.get_ref() {
            DeValue::Float(float) => float.as_str().to_owned(),
            other => format!("a value of type {}", other.type_str()),
        };
        let line = self.line_number(value.span().start);
        self.push(Some(line), format!("{path} is {found}, expected {expected}"), None);
    }

    fn push(&mut self, line: Option<usize>, what: String, hint: Option<String>) {
        self.mistakes.push(DefinitionDiagnostic { file: self.file.to_owned(), line, what, hint });
    }

    fn line_number(&self, byte: usize) -> usize {
        self.text.bytes().take(byte).filter(|b| *b == b'\n').count() + 1
    }
}
