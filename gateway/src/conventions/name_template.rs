//! Names made of a topic and a payload: `{device}.{channel}`, `{/model}.{/id}`.

use serde_json::Value;

/// Literal text with placeholders in braces. A placeholder is a capture of the topic or of the
/// record's path, or a JSON pointer into the record or else into the message. Alternatives follow
/// after `|`. An empty placeholder also removes the text before it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NameTemplate(Vec<TemplatePiece>);

#[derive(Clone, Debug, PartialEq)]
enum TemplatePiece {
    Literal(String),
    Hole(Vec<HoleSource>),
}

#[derive(Clone, Debug, PartialEq)]
enum HoleSource {
    Captured(String),
    Pointer(String),
}

impl NameTemplate {
    /// Parses a template. Its captures must have the given names.
    pub(super) fn parse(text: &str, captures: &[&str]) -> Result<Self, String> {
        let wrong = |what: &str| format!("\"{text}\": {what}");
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (literal, hole) = rest.split_at(at);
            let Some(hole) = hole.strip_prefix('{') else { return Err(wrong("`}` has no `{`")) };
            let (sources, after) = hole.split_once('}').ok_or_else(|| wrong("`{` has no `}`"))?;
            if !literal.is_empty() {
                pieces.push(TemplatePiece::Literal(literal.to_owned()));
            }
            let parsed_sources = sources.split('|').map(|source| {
                if source.starts_with('/') {
                    Ok(HoleSource::Pointer(source.to_owned()))
                } else if captures.contains(&source) {
                    Ok(HoleSource::Captured(source.to_owned()))
                } else {
                    Err(wrong(&format!(
                        "`{{{source}}}` is neither a JSON pointer, as in {{/{source}}}, nor one of {{{}}}",
                        captures.join("}, {")
                    )))
                }
            });
            pieces.push(TemplatePiece::Hole(parsed_sources.collect::<Result<_, _>>()?));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(TemplatePiece::Literal(rest.to_owned()));
        }
        if pieces.is_empty() {
            return Err(wrong("expected a name, as in \"{device}\" or \"{/id}\""));
        }
        Ok(Self(pieces))
    }

    /// Whether it needs a capture of the topic or of the path of a record.
    pub(super) fn uses_capture(&self, capture: &str) -> bool {
        let is =
            |source: &HoleSource| matches!(source, HoleSource::Captured(name) if name == capture);
        self.0
            .iter()
            .any(|piece| matches!(piece, TemplatePiece::Hole(sources) if sources.iter().any(is)))
    }

    /// Renders the name; `None` if all placeholders are empty.
    pub(super) fn render_name<'v>(
        &self,
        captured: impl Fn(&str) -> Option<&'v str>,
        at: impl Fn(&str) -> Option<&'v Value>,
    ) -> Option<String> {
        let mut name = String::new();
        let mut literal = "";
        let mut has_hole = false;
        let mut is_filled = false;
        for (i, piece) in self.0.iter().enumerate() {
            match piece {
                TemplatePiece::Literal(text) if i == 0 => name.push_str(text),
                TemplatePiece::Literal(text) => literal = text,
                TemplatePiece::Hole(sources) => {
                    has_hole = true;
                    let found = sources.iter().find_map(|source| match source {
                        HoleSource::Captured(name) => captured(name).map(str::to_owned),
                        HoleSource::Pointer(pointer) => name_part(at(pointer)?),
                    });
                    if let Some(found) = found {
                        // Text between two placeholders needs both of them.
                        if is_filled {
                            name.push_str(literal);
                        }
                        name.push_str(&found);
                        is_filled = true;
                    }
                    literal = "";
                }
            }
        }
        name.push_str(literal);
        (is_filled || !has_hole).then_some(name)
    }
}

/// Returns a text or a number as a part of a name.
pub(super) fn name_part(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_come_from_topic_and_payload() {
        let document = json!({"model": "WH51", "id": 7, "channel": "", "deep": {"eui": "0a"}});
        let check = |text: &str, expect: Option<&str>| {
            let template = NameTemplate::parse(text, &["device", "zone"]).unwrap();
            let captured = |name: &str| (name == "device").then_some("gw");
            let got = template.render_name(captured, |at| document.pointer(at));
            assert_eq!(got.as_deref(), expect, "{text}");
        };
        check("{device}", Some("gw"));
        check("{/model}.{/channel}.{/id}", Some("WH51.7"));
        check("{/channel}.{/id}", Some("7"));
        check("x-{/id}", Some("x-7"));
        check("x-{/nothing}", None);
        check("{/nothing|/deep/eui}", Some("0a"));
        check("{zone|device}/{/id}", Some("gw/7"));
        check("probe", Some("probe"));
    }

    #[test]
    fn bad_templates_are_refused() {
        let refuse = |text: &str, expect: &str| {
            let error = NameTemplate::parse(text, &["device"]).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        refuse("", "expected a name");
        refuse("{device", "no `}`");
        refuse("device}", "no `{`");
        refuse("{id}", "{/id}");
    }
}
