//! Patterns of topics and device names.

use regex::{Captures, Regex};

/// A pattern of a topic or a device name. `*` stands for anything within a level, and a last
/// level `#` for any further levels. `{name}` captures one level and `{name#}` one or more
/// levels.
///
/// Expressions of the crate `regex` match in linear time, for any name.
#[derive(Clone, Debug)]
pub(super) struct NamePattern(Regex);

/// Largest compiled size of one pattern, bytes.
const SIZE_BYTES_MAX: usize = 256 * 1024;

impl NamePattern {
    /// Parses a pattern. Its captures must have the given names.
    pub(super) fn parse(text: &str, captures: &[&str]) -> Result<Self, String> {
        let wrong = |what: &str| format!("`{text}`: {what}");
        if text.is_empty() {
            return Err(wrong("the pattern is empty"));
        }
        let mut regex = String::from("^");
        for (i, level) in text.split('/').enumerate() {
            let slash = if i == 0 { "" } else { "/" };
            match level {
                "#" if text.split('/').count() == i + 1 => {
                    // As in MQTT, `a/#` matches `a` too.
                    regex.push_str(if i == 0 { ".*" } else { "(?:/.*)?" });
                }
                "#" => return Err(wrong("`#` must be the last level")),
                "+" => regex.extend([slash, "[^/]+"]),
                _ => {
                    regex.push_str(slash);
                    push_level(&mut regex, level, captures).map_err(|what| wrong(&what))?;
                }
            }
        }
        regex.push('$');
        let built = regex::RegexBuilder::new(&regex)
            .dot_matches_new_line(true)
            .size_limit(SIZE_BYTES_MAX)
            .build();
        built.map(Self).map_err(|e| wrong(&e.to_string()))
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    pub(super) fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        self.0.captures(text)
    }

    pub(super) fn has_capture(&self, capture: &str) -> bool {
        self.0.capture_names().flatten().any(|name| name == capture)
    }
}

fn push_level(regex: &mut String, mut level: &str, captures: &[&str]) -> Result<(), String> {
    while let Some(at) = level.find(['*', '{', '}']) {
        regex.push_str(&regex::escape(&level[..at]));
        let rest = &level[at + 1..];
        level = match level.as_bytes()[at] {
            b'*' => {
                regex.push_str("[^/]*");
                rest
            }
            b'{' => {
                let (name, rest) = rest.split_once('}').ok_or("`{` has no `}`")?;
                let (name, what) = match name.strip_suffix('#') {
                    Some(name) => (name, ">.+)"),
                    None => (name, ">[^/]+)"),
                };
                if !captures.contains(&name) {
                    let known = captures.join("}, {");
                    return Err(format!("`{{{name}}}` is not one of {{{known}}}"));
                }
                regex.extend(["(?P<", name, what]);
                rest
            }
            _ => return Err("`}` has no `{`".to_owned()),
        };
    }
    regex.push_str(&regex::escape(level));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a pattern and a text against the captured zone and device; `None` if it does not
    /// match.
    fn check(pattern: &str, text: &str, expect: Option<(&str, &str)>) {
        let pattern = NamePattern::parse(pattern, &["zone", "device"]).unwrap();
        let got = pattern.captures(text).map(|found| {
            let name = |name| found.name(name).map_or("", |found| found.as_str());
            (name("zone"), name("device"))
        });
        assert_eq!(got, expect, "{pattern:?} {text}");
        assert_eq!(pattern.is_match(text), expect.is_some());
    }

    #[test]
    fn patterns_match_levels() {
        let topic = "plant/{zone}/{device}/state";
        check(topic, "plant/bay-1/probe/state", Some(("bay-1", "probe")));
        check(topic, "plant/bay-1/probe/set", None);
        check(topic, "plant/bay-1/a/b/state", None);
        check(topic, "plant//probe/state", None);
        check("x/{device#}/y", "x/a/b/y", Some(("", "a/b")));
        check("x/{device#}", "x/a", Some(("", "a")));
        check("x/{device#}/y", "x//y", None);
        check("bay-*", "bay-1", Some(("", "")));
        check("bay-*", "bay-1/x", None);
        check("{zone}-{device}", "bay-1-probe", Some(("bay-1", "probe")));
        check("a/#", "a/b/c", Some(("", "")));
        check("a/#", "a", Some(("", "")));
        check("a/#", "ab", None);
        check("#", "anything/at\nall", Some(("", "")));
        check("+/x", "a/x", Some(("", "")));
        check("+/x", "/x", None);
        // All other characters stand for themselves.
        check("a.c(1)", "a.c(1)", Some(("", "")));
        check("a.c(1)", "abc(1)", None);
    }

    #[test]
    fn bad_patterns_are_refused() {
        let refuse = |text, expect: &str| {
            let error = NamePattern::parse(text, &["zone"]).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        refuse("", "empty");
        refuse("a/#/b", "last level");
        refuse("{zone", "no `}`");
        refuse("zone}", "no `{`");
        refuse("{room}", "not one of {zone}");
        refuse("{zone}/{zone}", "duplicate");
    }
}
