//! `value_template`: how a value stands in a payload.
//!
//! A part of Jinja2 (<https://jinja.palletsprojects.com/en/stable/templates/>) and of what Home
//! Assistant adds to it (<https://www.home-assistant.io/docs/configuration/templating/>):
//! `value`, `value_json`, arithmetic, comparisons, `and`, `or`, `not`, `in`, tests, `a if b else
//! c`, `{% if %}`, `{% set %}`, and the filters that convert values. There are no loops and no
//! states of other entities: a template comes from whoever may publish, so what it can cost must
//! be plain. Others are refused by name.
//!
//! **Where a value comes from** is followed through the template. A number that stands in the
//! template itself, and is taken because the payload lacks what the template asks for
//! (`value_json.x if value_json.x is defined else 0`, `| default(0)`), was not measured: there
//! is no reading then.
//!
//! # Layout
//! - this file: a template, and what it says of a payload
//! - `parse`: text → expressions
//! - `evaluate`: expressions → a value

mod evaluate;
mod parse;

use serde_json::Value;

use evaluate::{TemplateScope, TemplateValue, ValueBasis};
use parse::{TemplateExpression, TemplateNode};

/// A template that can be computed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ValueTemplate(Vec<TemplateNode>);

/// What a template says of a payload.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TemplateOutcome {
    Number(f64),
    /// Not a number: a state such as `ON`, or the text of the payload.
    Text(String),
    /// What the template names is not in the payload: it is of another entity
    /// on the same topic.
    Missing,
}

impl ValueTemplate {
    /// The template of an entity without one: the payload itself.
    pub(super) fn pass_through() -> Self {
        Self(vec![TemplateNode::Output(TemplateExpression::Variable("value".to_owned()))])
    }

    /// `None` where the template uses more than is understood.
    pub(super) fn parse(text: &str) -> Option<Self> {
        parse::parse_template(text).map(Self)
    }

    /// What it says of a payload, whose JSON is `json` where it is JSON.
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
            let text = text.trim();
            match text.parse() {
                Ok(number) => TemplateOutcome::Number(number),
                // What Home Assistant itself takes for "there is no value".
                Err(_) if matches!(text, "" | "unknown" | "unavailable") => {
                    TemplateOutcome::Missing
                }
                Err(_) => TemplateOutcome::Text(text.to_owned()),
            }
        }
        TemplateValue::Json(json) => TemplateOutcome::Text(json.to_string()),
    }
}

#[cfg(test)]
mod tests;
