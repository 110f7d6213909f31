//! `value_template`: extracts a value from a payload.
//!
//! Supports a part of Jinja2 (<https://jinja.palletsprojects.com/en/stable/templates/>) and of
//! Home Assistant's additions (<https://www.home-assistant.io/docs/configuration/templating/>):
//! `value`, `value_json`, arithmetic, comparisons, `and`, `or`, `not`, `in`, tests, `a if b else
//! c`, `{% if %}`, `{% set %}`, and the filters that convert values. There are no loops and no
//! states of other entities. Anybody who may publish can send a template, so its cost must be
//! predictable. Other templates are refused by name.
//!
//! **The basis of a value** is tracked through the template. A constant of the template that is
//! used because the payload lacks a field (`value_json.x if value_json.x is defined else 0`, `|
//! default(0)`) was not measured, so it gives no reading.
//!
//! # Layout
//! - this file: a template, and its result for a payload
//! - `parse`: text → expressions
//! - `evaluate`: expressions → a value

mod evaluate;
mod parse;

use serde_json::Value;

use evaluate::{TemplateScope, TemplateValue, ValueBasis};
use parse::{TemplateExpression, TemplateNode};

/// A template that can be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ValueTemplate(Vec<TemplateNode>);

/// The result of a template for a payload.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TemplateOutcome {
    Number(f64),
    /// Not a number: a state such as `ON`, or the text of the payload.
    Text(String),
    /// The payload lacks the field that the template names, because it is of another entity on
    /// the same topic.
    Missing,
}

impl ValueTemplate {
    /// Returns the template of an entity without one: the payload itself.
    pub(super) fn pass_through() -> Self {
        Self(vec![TemplateNode::Output(TemplateExpression::Variable("value".to_owned()))])
    }

    /// Parses a template; `None` if it uses unsupported syntax.
    pub(super) fn parse(text: &str) -> Option<Self> {
        parse::parse_template(text).map(Self)
    }

    /// Evaluates the template for a payload. `json` is its JSON, if it is JSON.
    pub(super) fn evaluate(&self, text: &str, json: Option<&Value>) -> TemplateOutcome {
        let value = TemplateScope::new(text, json).render_nodes(&self.0);
        match (value.basis, value.value) {
            (ValueBasis::Absent | ValueBasis::Constant, _) => TemplateOutcome::Missing,
            (ValueBasis::Payload, value) => to_outcome(value),
        }
    }
}

fn to_outcome(value: TemplateValue) -> TemplateOutcome {
    match value {
        TemplateValue::Undefined => TemplateOutcome::Missing,
        TemplateValue::None => TemplateOutcome::Number(f64::NAN),
        TemplateValue::Bool(on) => TemplateOutcome::Number(f64::from(u8::from(on))),
        TemplateValue::Number(number) => TemplateOutcome::Number(number),
        TemplateValue::Text(text) | TemplateValue::NotJson(text) => {
            let trimmed = text.trim();
            match trimmed.parse() {
                Ok(number) => TemplateOutcome::Number(number),
                // Home Assistant itself treats these as "no value".
                Err(_) if matches!(trimmed, "" | "unknown" | "unavailable") => {
                    TemplateOutcome::Missing
                }
                Err(_) => TemplateOutcome::Text(trimmed.to_owned()),
            }
        }
        TemplateValue::Json(json) => TemplateOutcome::Text(json.to_string()),
    }
}

#[cfg(test)]
mod tests;
