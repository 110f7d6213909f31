//! The usual forms of `value_template`: `{{ value }}`, `{{ value_json.x }}`,
//! with `| float`, `| round(1)` and arithmetic.
//!
//! A part of Jinja2's expressions
//! (<https://jinja.palletsprojects.com/en/stable/templates/#expressions>), and
//! no engine for all of them: a template comes from whoever may publish, so
//! what it can cost must be plain. Others are refused by name.

use serde_json::Value;

/// Longest template, bytes.
const BYTES_MAX: usize = 1024;
/// Parentheses and signs within each other.
const DEPTH_MAX: usize = 16;

/// A template that can be computed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ValueTemplate(Expression);

#[derive(Clone, Debug, PartialEq)]
enum Expression {
    /// The payload as text.
    Value,
    /// A place in the payload's JSON.
    Json(Vec<Step>),
    Number(f64),
    Round(Box<Expression>, i32),
    /// Towards zero, as Python's `int`.
    Int(Box<Expression>),
    Abs(Box<Expression>),
    Negative(Box<Expression>),
    Arithmetic(Box<Expression>, char, Box<Expression>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

/// What a template says of a payload.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Number(f64),
    /// Not a number: a state such as `ON`, or the text of the payload.
    Text(String),
    /// What the template names is not in the payload: it is of another entity
    /// on the same topic.
    Missing,
}

impl ValueTemplate {
    /// The template of an entity without one: the payload itself.
    pub(super) const PLAIN: Self = Self(Expression::Value);

    /// `None` where the template is not one of the usual forms.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
        // `{{-` takes away the space outside, of which there is none.
        let inner = inner.strip_prefix('-').unwrap_or(inner);
        let inner = inner.strip_suffix('-').unwrap_or(inner);
        if inner.len() > BYTES_MAX || inner.contains("{{") || inner.contains("}}") {
            return None;
        }
        let mut parser = Parser { rest: inner, depth: 0 };
        let expression = parser.sum()?;
        parser.rest.trim().is_empty().then_some(Self(expression))
    }

    /// What it says of a payload, whose JSON is `json` where it is JSON.
    pub(super) fn eval(&self, text: &str, json: Option<&Value>) -> Outcome {
        self.0.eval(text, json)
    }
}

impl Expression {
    fn eval(&self, text: &str, json: Option<&Value>) -> Outcome {
        match self {
            Self::Value => of_text(text),
            Self::Json(steps) => {
                let Some(json) = json else { return Outcome::Text(text.trim().to_owned()) };
                let found = steps.iter().try_fold(json, |at, step| match (step, at) {
                    (Step::Key(key), Value::Object(fields)) => fields.get(key),
                    (Step::Index(index), Value::Array(items)) => items.get(*index),
                    _ => None,
                });
                found.map_or(Outcome::Missing, of_json)
            }
            Self::Number(number) => Outcome::Number(*number),
            Self::Round(inner, digits) => inner.eval(text, json).map(|x| round(x, *digits)),
            Self::Int(inner) => inner.eval(text, json).map(f64::trunc),
            Self::Abs(inner) => inner.eval(text, json).map(f64::abs),
            Self::Negative(inner) => inner.eval(text, json).map(|x| -x),
            Self::Arithmetic(left, operator, right) => {
                match (left.eval(text, json), right.eval(text, json)) {
                    (Outcome::Number(a), Outcome::Number(b)) => Outcome::Number(match operator {
                        '+' => a + b,
                        '-' => a - b,
                        '*' => a * b,
                        _ => a / b,
                    }),
                    (Outcome::Number(_), other) | (other, _) => other,
                }
            }
        }
    }
}

impl Outcome {
    fn map(self, change: impl Fn(f64) -> f64) -> Self {
        match self {
            Self::Number(number) => Self::Number(change(number)),
            other => other,
        }
    }
}

fn of_text(text: &str) -> Outcome {
    let text = text.trim();
    match text.parse() {
        Ok(number) => Outcome::Number(number),
        Err(_) => Outcome::Text(text.to_owned()),
    }
}

fn of_json(value: &Value) -> Outcome {
    match value {
        Value::Number(number) => Outcome::Number(number.as_f64().unwrap_or(f64::NAN)),
        Value::Bool(on) => Outcome::Number(f64::from(u8::from(*on))),
        Value::Null => Outcome::Number(f64::NAN),
        Value::String(text) => of_text(text),
        other => Outcome::Text(other.to_string()),
    }
}

/// To `digits` after the point, halves to the even digit (Python 3, `round`).
fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    let rounded = (value * scale).round_ties_even() / scale;
    if rounded.is_finite() { rounded } else { value }
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Parser<'t> {
    /// Takes a character that stands next, if it does.
    fn eat(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'t str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn word(&mut self) -> &'t str {
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    fn sum(&mut self) -> Option<Expression> {
        self.chain(['+', '-'], Self::product)
    }

    fn product(&mut self) -> Option<Expression> {
        self.chain(['*', '/'], Self::filtered)
    }

    fn chain(
        &mut self,
        operators: [char; 2],
        next: impl Fn(&mut Self) -> Option<Expression>,
    ) -> Option<Expression> {
        let mut left = next(self)?;
        let mut length = 0;
        while let Some(operator) = operators.into_iter().find(|c| self.eat(*c)) {
            // A chain nests to the left as deep as it is long.
            length += 1;
            if length > DEPTH_MAX {
                return None;
            }
            left = Expression::Arithmetic(Box::new(left), operator, Box::new(next(self)?));
        }
        Some(left)
    }

    /// A filter binds closer than arithmetic.
    fn filtered(&mut self) -> Option<Expression> {
        let mut inner = self.primary()?;
        let mut length = 0;
        while self.eat('|') {
            length += 1;
            if length > DEPTH_MAX {
                return None;
            }
            let (name, argument) = (self.word(), self.argument()?);
            inner = match (name, argument) {
                // A default, `float(0)`, is not a measured value: without it
                // the text is reported as what it is.
                ("float" | "default", _) | ("is_defined", None) => inner,
                ("int", _) => Expression::Int(Box::new(inner)),
                ("abs", None) => Expression::Abs(Box::new(inner)),
                ("round", digits) => {
                    let digits = digits.unwrap_or(0.0);
                    if digits.fract() != 0.0 || digits.abs() > 15.0 {
                        return None;
                    }
                    Expression::Round(Box::new(inner), digits as i32)
                }
                _ => return None,
            };
        }
        Some(inner)
    }

    /// `(2)`, or nothing; the outer `None` is anything else in parentheses.
    #[allow(clippy::option_option)]
    fn argument(&mut self) -> Option<Option<f64>> {
        if !self.eat('(') {
            return Some(None);
        }
        if self.eat(')') {
            return Some(None);
        }
        let is_negative = self.eat('-');
        let number = self.number()?;
        self.eat(')').then_some(Some(if is_negative { -number } else { number }))
    }

    fn number(&mut self) -> Option<f64> {
        self.take_while(|c| c.is_ascii_digit() || c == '.').parse().ok()
    }

    fn primary(&mut self) -> Option<Expression> {
        if self.depth >= DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        let primary = if self.eat('(') {
            let inner = self.sum()?;
            self.eat(')').then_some(inner)
        } else if self.eat('-') {
            self.primary().map(|inner| Expression::Negative(Box::new(inner)))
        } else if self.rest.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            self.number().map(Expression::Number)
        } else {
            match self.word() {
                "value" => Some(Expression::Value),
                "value_json" => self.steps().map(Expression::Json),
                "float" if self.rest.trim_start().starts_with('(') => self.primary(),
                _ => None,
            }
        };
        self.depth -= 1;
        primary
    }

    /// `.key`, `['key']`, `[0]`, any number of them.
    fn steps(&mut self) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        loop {
            if self.eat('.') {
                let key = self.word();
                if key.is_empty() {
                    return None;
                }
                steps.push(Step::Key(key.to_owned()));
            } else if self.eat('[') {
                let quote = ['\'', '"'].into_iter().find(|quote| self.eat(*quote));
                steps.push(if let Some(quote) = quote {
                    let (key, rest) = self.rest.split_once(quote)?;
                    self.rest = rest;
                    if key.contains('\\') {
                        return None;
                    }
                    Step::Key(key.to_owned())
                } else {
                    Step::Index(self.word().parse().ok()?)
                });
                if !self.eat(']') {
                    return None;
                }
            } else {
                return Some(steps);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Template, payload → number.
    fn check(template: &str, payload: &str, expect: Option<f64>) {
        let json = serde_json::from_str(payload).ok();
        let template = ValueTemplate::parse(template).unwrap_or_else(|| panic!("{template}"));
        let got = match template.eval(payload, json.as_ref()) {
            Outcome::Number(number) => Some(number),
            Outcome::Text(_) | Outcome::Missing => None,
        };
        assert_eq!(got, expect, "{template:?} {payload}");
    }

    #[test]
    fn templates() {
        check("{{ value }}", "21.5", Some(21.5));
        check("{{value|float}}", " 21.5\n", Some(21.5));
        check("{{ value_json.temperature }}", r#"{"temperature": 23.20}"#, Some(23.2));
        check("{{ value_json['a b'].c[1] }}", r#"{"a b": {"c": [1, 2]}}"#, Some(2.0));
        check(r#"{{ value_json["x"] | float(0) | round(1) }}"#, r#"{"x": "1.25"}"#, Some(1.2));
        check("{{ value_json.x | round }}", r#"{"x": 2.5}"#, Some(2.0));
        check("{{ value_json.x | int }}", r#"{"x": -2.7}"#, Some(-2.0));
        check("{{ (value | float * 1.8 + 32) | round(1) }}", "21.5", Some(70.7));
        check("{{ value_json.raw / 10 }}", r#"{"raw": 215}"#, Some(21.5));
        check(
            "{{ (value_json.raw | float / 1023 * 100) | round(0) }}",
            r#"{"raw": 512}"#,
            Some(50.0),
        );
        check("{{- value_json.x -}}", r#"{"x": true}"#, Some(1.0));
        check("{{ 100 - value | float }}", "30", Some(70.0));
        check("{{ -value_json.x | abs }}", r#"{"x": 3}"#, Some(3.0));
        check("{{ value_json.x | is_defined }}", r#"{"x": 3}"#, Some(3.0));
        check("{{ value_json.x | is_defined }}", r#"{"y": 3}"#, None);
        check("{{ float(value) * 2 }}", "3", Some(6.0));
        check("{{ value_json.y }}", r#"{"x": 3}"#, None);
        check("{{ value_json.x * 2 }}", r#"{"x": "ON"}"#, None);
        check("{{ value_json }}", "7", Some(7.0));
    }

    #[test]
    fn refusals() {
        let refuse =
            |template: &str| assert_eq!(ValueTemplate::parse(template), None, "{template}");
        refuse("");
        refuse("value");
        refuse("{{ value");
        refuse("{{ value }} °C");
        refuse("{{ value }}{{ value }}");
        refuse("{% if value == 'ON' %}1{% else %}0{% endif %}");
        refuse("{{ value_json.x if value_json.x is defined else 0 }}");
        refuse("{{ states('sensor.x') }}");
        refuse("{{ value | timestamp_custom('%H') }}");
        refuse("{{ value | round(1.5) }}");
        refuse("{{ value_json. }}");
        refuse("{{ value_json['x' }}");
        refuse("{{ (value }}");
        refuse(&format!("{{{{ {}value }}}}", "(".repeat(2_000)));
        refuse(&format!("{{{{ {}value }}}}", "-".repeat(500)));
        refuse(&format!("{{{{ value{} }}}}", "*1".repeat(500)));
    }
}
