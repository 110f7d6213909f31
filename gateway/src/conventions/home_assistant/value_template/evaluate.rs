//! Expressions → a value, and where it comes from.

use serde_json::Value;

use super::parse::{Binary, Expression, Function, Node, Test, Unary};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// It is in the payload, is computed of it, or was chosen by what is in it.
    Payload,
    /// It stands in the template.
    Constant,
    /// It is what it is because the payload lacks something.
    Absent,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TemplateValue {
    Undefined,
    None,
    Bool(bool),
    Number(f64),
    Text(String),
    /// A list or an object.
    Json(Value),
    /// The payload, where JSON was expected.
    NotJson(String),
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sourced {
    pub(super) value: TemplateValue,
    pub(super) basis: Basis,
}

/// The payload, and what `set` named.
#[derive(Debug)]
pub(super) struct Scope<'p> {
    text: &'p str,
    json: Option<&'p Value>,
    named: Vec<(String, Sourced)>,
}

/// Longest text that is made, bytes: each step of a template may double one.
const TEXT_BYTES_MAX: usize = 64 * 1024;

const UNDEFINED: Sourced = Sourced { value: TemplateValue::Undefined, basis: Basis::Absent };

impl Basis {
    /// Of what depends on both.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Absent, _) | (_, Self::Absent) => Self::Absent,
            (Self::Payload, _) | (_, Self::Payload) => Self::Payload,
            (Self::Constant, Self::Constant) => Self::Constant,
        }
    }
}

impl Sourced {
    fn constant(value: TemplateValue) -> Self {
        Self { value, basis: Basis::Constant }
    }

    /// What was chosen by a condition: a constant is as good as that.
    fn chosen_by(self, condition: Basis) -> Self {
        let basis = match self.basis {
            Basis::Constant => condition,
            own => own,
        };
        Self { basis, ..self }
    }

    fn map(self, change: impl FnOnce(f64) -> f64) -> Self {
        match self.value.number() {
            Some(number) => Self { value: TemplateValue::Number(change(number)), ..self },
            None => self,
        }
    }
}

impl TemplateValue {
    fn from_json(json: &Value) -> Self {
        match json {
            Value::Null => Self::None,
            Value::Bool(on) => Self::Bool(*on),
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Self::Text(text.clone()),
            other => Self::Json(other.clone()),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Bool(on) => Some(f64::from(u8::from(*on))),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn is_true(&self) -> bool {
        match self {
            Self::Undefined | Self::None | Self::NotJson(_) => false,
            Self::Bool(on) => *on,
            Self::Number(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Json(Value::Array(items)) => !items.is_empty(),
            Self::Json(Value::Object(fields)) => !fields.is_empty(),
            Self::Json(_) => true,
        }
    }

    fn is_there(&self) -> bool {
        !matches!(self, Self::Undefined | Self::NotJson(_))
    }

    /// As Python writes it.
    fn text(&self) -> String {
        match self {
            Self::Undefined => String::new(),
            Self::None => "None".to_owned(),
            Self::Bool(on) => if *on { "True" } else { "False" }.to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) | Self::NotJson(text) => text.clone(),
            Self::Json(json) => json.to_string(),
        }
    }

    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Text(_), _) | (_, Self::Text(_)) => false,
            _ => match (self.number(), other.number()) {
                (Some(a), Some(b)) => a == b,
                _ => self == other,
            },
        }
    }
}

impl<'p> Scope<'p> {
    pub(super) fn new(text: &'p str, json: Option<&'p Value>) -> Self {
        Self { text, json, named: Vec::new() }
    }

    /// What the parts give: a value by itself, or several as one text.
    pub(super) fn render(&mut self, nodes: &[Node]) -> Sourced {
        let mut all: Option<Sourced> = None;
        for node in nodes {
            let part = match node {
                Node::Text(text) => Sourced::constant(TemplateValue::Text(text.trim().to_owned())),
                Node::Output(expression) => self.value(expression),
                Node::Set(name, expression) => {
                    let value = self.value(expression);
                    self.named.push((name.clone(), value));
                    continue;
                }
                Node::If(branches, otherwise) => self.render_if(branches, otherwise),
            };
            all = Some(match all {
                None => part,
                Some(before) => {
                    let basis = before.basis.and(part.basis);
                    limited(before.value.text() + &part.value.text(), basis)
                }
            });
        }
        all.unwrap_or(Sourced::constant(TemplateValue::Text(String::new())))
    }

    fn render_if(&mut self, branches: &[(Expression, Vec<Node>)], otherwise: &[Node]) -> Sourced {
        let mut basis = Basis::Constant;
        for (condition, nodes) in branches {
            let condition = self.value(condition);
            basis = basis.and(condition.basis);
            if condition.value.is_true() {
                return self.render(nodes).chosen_by(basis);
            }
        }
        self.render(otherwise).chosen_by(basis)
    }

    fn value(&self, expression: &Expression) -> Sourced {
        match expression {
            Expression::None => Sourced { value: TemplateValue::None, basis: Basis::Absent },
            Expression::Bool(on) => Sourced::constant(TemplateValue::Bool(*on)),
            Expression::Number(number) => Sourced::constant(TemplateValue::Number(*number)),
            Expression::Text(text) => Sourced::constant(TemplateValue::Text(text.clone())),
            Expression::List(items) => self.list(items),
            Expression::Variable(name) => self.variable(name),
            Expression::Step(of, key) => step(self.value(of), &self.value(key)),
            Expression::Unary(Unary::Negative, inner) => self.value(inner).map(|number| -number),
            Expression::Unary(Unary::Not, inner) => {
                let Sourced { value, basis } = self.value(inner);
                Sourced { value: TemplateValue::Bool(!value.is_true()), basis }
            }
            Expression::Binary(operator, left, right) => self.binary(*operator, left, right),
            Expression::If { condition, then, otherwise } => {
                let condition = self.value(condition);
                let chosen = if condition.value.is_true() { then } else { otherwise };
                self.value(chosen).chosen_by(condition.basis)
            }
            Expression::Test(inner, test) => {
                let Sourced { value, basis } = self.value(inner);
                let is_so = match test {
                    Test::Defined => value.is_there(),
                    Test::Undefined => !value.is_there(),
                    Test::None => value == TemplateValue::None,
                    Test::Number => matches!(value, TemplateValue::Number(_)),
                    Test::String => matches!(value, TemplateValue::Text(_)),
                    Test::True => value == TemplateValue::Bool(true),
                    Test::False => value == TemplateValue::Bool(false),
                };
                let basis = if value.is_there() { basis } else { Basis::Absent };
                Sourced { value: TemplateValue::Bool(is_so), basis }
            }
            Expression::Call(function, arguments) => self.call(*function, arguments),
        }
    }

    fn list(&self, items: &[Expression]) -> Sourced {
        let mut basis = Basis::Constant;
        let items = items.iter().map(|item| {
            let item = self.value(item);
            basis = basis.and(item.basis);
            match item.value {
                TemplateValue::Text(text) | TemplateValue::NotJson(text) => Value::from(text),
                TemplateValue::Number(number) => Value::from(number),
                TemplateValue::Bool(on) => Value::from(on),
                TemplateValue::Json(json) => json,
                TemplateValue::Undefined | TemplateValue::None => Value::Null,
            }
        });
        let value = TemplateValue::Json(items.collect());
        Sourced { value, basis }
    }

    fn variable(&self, name: &str) -> Sourced {
        let basis = Basis::Payload;
        match (name, self.json) {
            ("value", _) => {
                Sourced { value: TemplateValue::Text(self.text.trim().to_owned()), basis }
            }
            ("value_json", Some(json)) => Sourced { value: TemplateValue::from_json(json), basis },
            ("value_json", None) => {
                Sourced { value: TemplateValue::NotJson(self.text.trim().to_owned()), basis }
            }
            _ => {
                let named = self.named.iter().rfind(|(own, _)| own == name);
                named.map_or(UNDEFINED, |(_, value)| value.clone())
            }
        }
    }

    fn binary(&self, operator: Binary, left: &Expression, right: &Expression) -> Sourced {
        let left = self.value(left);
        // As in Python, the one that decides is the value.
        match (operator, left.value.is_true()) {
            (Binary::And, false) | (Binary::Or, true) => return left,
            (Binary::And | Binary::Or, _) => {
                let right = self.value(right);
                let basis = left.basis.and(right.basis);
                // A field that is there makes up for one that is not: `a or b`.
                let is_made_up = operator == Binary::Or && right.basis == Basis::Payload;
                return Sourced { basis: if is_made_up { right.basis } else { basis }, ..right };
            }
            _ => {}
        }
        let right = self.value(right);
        let basis = left.basis.and(right.basis);
        let is_there = left.value.is_there() && right.value.is_there();
        if let Some(is_so) = compare(operator, &left.value, &right.value) {
            // A key that is not there is a field that is not.
            let is_key = operator == Binary::In
                && matches!(right.value, TemplateValue::Json(Value::Object(_)));
            let basis = if is_there && (is_so || !is_key) { basis } else { Basis::Absent };
            return Sourced { value: TemplateValue::Bool(is_so), basis };
        }
        if operator == Binary::Join {
            return limited(left.value.text() + &right.value.text(), basis);
        }
        match (left.value.number(), right.value.number()) {
            (Some(a), Some(b)) => {
                Sourced { value: TemplateValue::Number(arithmetic(operator, a, b)), basis }
            }
            // What is no number is reported as what it is.
            (None, _) => left,
            (_, None) => right,
        }
    }

    fn call(&self, function: Function, arguments: &[Expression]) -> Sourced {
        let argument = |at: usize| arguments.get(at).map(|expression| self.value(expression));
        let Some(first) = argument(0) else { return UNDEFINED };
        let second = argument(1);
        match function {
            // A default is no measured value: what is no number is reported as what it is.
            Function::Float => first.map(|number| number),
            Function::Int => first.map(f64::trunc),
            Function::Round => {
                let digits = second.and_then(|digits| digits.value.number()).unwrap_or(0.0);
                let method = argument(2).map(|method| method.value.text());
                first.map(|number| round(number, digits, method.as_deref()))
            }
            Function::Abs => first.map(f64::abs),
            Function::Multiply => {
                let by = second.and_then(|by| by.value.number()).unwrap_or(f64::NAN);
                first.map(|number| number * by)
            }
            Function::Add => {
                let by = second.and_then(|by| by.value.number()).unwrap_or(f64::NAN);
                first.map(|number| number + by)
            }
            Function::Default => {
                let takes_false = argument(2).is_some_and(|own| own.value.is_true());
                let is_used = !first.value.is_there() || (takes_false && !first.value.is_true());
                if !is_used || matches!(first.value, TemplateValue::NotJson(_)) {
                    return first;
                }
                second.unwrap_or(UNDEFINED).chosen_by(Basis::Absent)
            }
            Function::IsDefined => first,
            Function::IsNumber => Sourced {
                value: TemplateValue::Bool(first.value.number().is_some_and(f64::is_finite)),
                basis: first.basis,
            },
            Function::Bool => {
                let text = first.value.text().to_ascii_lowercase();
                let is_on = matches!(text.as_str(), "true" | "yes" | "on" | "enable" | "1");
                let value = if first.value.is_there() {
                    TemplateValue::Bool(is_on)
                } else {
                    TemplateValue::Undefined
                };
                Sourced { value, basis: first.basis }
            }
            Function::Iif => {
                let chosen = match (first.value.is_true(), second, argument(2)) {
                    (true, Some(then), _) => then,
                    (false, _, Some(otherwise)) => otherwise,
                    (is_true, _, _) => Sourced::constant(TemplateValue::Bool(is_true)),
                };
                chosen.chosen_by(first.basis)
            }
            Function::Get => {
                let key = second.unwrap_or(UNDEFINED);
                let found = step(first, &key);
                match found.value {
                    TemplateValue::Undefined => {
                        let none = Sourced { value: TemplateValue::None, basis: Basis::Absent };
                        argument(2).unwrap_or(none).chosen_by(Basis::Absent)
                    }
                    _ => found,
                }
            }
            Function::Min | Function::Max => {
                let all: Vec<Sourced> = arguments.iter().map(|own| self.value(own)).collect();
                let basis = all.iter().fold(Basis::Constant, |basis, own| basis.and(own.basis));
                let numbers = all.iter().map(|own| own.value.number());
                let pick = if function == Function::Min { f64::min } else { f64::max };
                let found = numbers.reduce(|a, b| Some(pick(a?, b?))).flatten();
                let value = found.map_or(TemplateValue::Undefined, TemplateValue::Number);
                Sourced { value, basis }
            }
            Function::Text
            | Function::Lower
            | Function::Upper
            | Function::Trim
            | Function::Replace
            | Function::Split => {
                let third = argument(2).map(|own| own.value.text());
                of_text(function, first, second.map(|own| own.value.text()), third)
            }
        }
    }
}

fn of_text(
    function: Function,
    first: Sourced,
    second: Option<String>,
    third: Option<String>,
) -> Sourced {
    if !first.value.is_there() {
        return first;
    }
    let text = first.value.text();
    let text = match function {
        Function::Lower => text.to_lowercase(),
        Function::Upper => text.to_uppercase(),
        Function::Trim => text.trim().to_owned(),
        Function::Replace => match second.filter(|old| !old.is_empty()) {
            // A payload that grows with each replacement is none.
            Some(old) => {
                let new = third.unwrap_or_default();
                if new.len() > old.len() { text } else { text.replace(&old, &new) }
            }
            None => text,
        },
        Function::Split => {
            let parts: Vec<Value> = match second.filter(|separator| !separator.is_empty()) {
                Some(separator) => text.split(&separator).map(Value::from).collect(),
                None => text.split_whitespace().map(Value::from).collect(),
            };
            return Sourced { value: TemplateValue::Json(parts.into()), basis: first.basis };
        }
        _ => text,
    };
    limited(text, first.basis)
}

/// A text that a template makes; one that is too long is none.
fn limited(text: String, basis: Basis) -> Sourced {
    match text.len() <= TEXT_BYTES_MAX {
        true => Sourced { value: TemplateValue::Text(text), basis },
        false => UNDEFINED,
    }
}

fn step(of: Sourced, key: &Sourced) -> Sourced {
    let found = match (&of.value, &key.value) {
        (TemplateValue::NotJson(_), _) => return of,
        (TemplateValue::Json(Value::Object(fields)), TemplateValue::Text(key)) => fields.get(key),
        (TemplateValue::Json(Value::Array(items)), TemplateValue::Number(index)) => {
            let index = if *index < 0.0 { items.len() as f64 + index } else { *index };
            (index >= 0.0 && index.fract() == 0.0).then(|| items.get(index as usize)).flatten()
        }
        _ => None,
    };
    let value = found.map(TemplateValue::from_json);
    value.map_or(UNDEFINED, |value| Sourced { value, basis: of.basis })
}

fn compare(operator: Binary, left: &TemplateValue, right: &TemplateValue) -> Option<bool> {
    let order = || match (left, right) {
        (TemplateValue::Text(a), TemplateValue::Text(b)) => a.partial_cmp(b),
        _ => left.number()?.partial_cmp(&right.number()?),
    };
    Some(match operator {
        Binary::Equal => left.equals(right),
        Binary::NotEqual => !left.equals(right),
        Binary::Less => order().is_some_and(std::cmp::Ordering::is_lt),
        Binary::LessOrEqual => order().is_some_and(std::cmp::Ordering::is_le),
        Binary::Greater => order().is_some_and(std::cmp::Ordering::is_gt),
        Binary::GreaterOrEqual => order().is_some_and(std::cmp::Ordering::is_ge),
        Binary::In => match right {
            TemplateValue::Text(text) => text.contains(&left.text()),
            TemplateValue::Json(Value::Object(fields)) => fields.contains_key(&left.text()),
            TemplateValue::Json(Value::Array(items)) => {
                items.iter().any(|item| TemplateValue::from_json(item).equals(left))
            }
            _ => false,
        },
        _ => return None,
    })
}

fn arithmetic(operator: Binary, a: f64, b: f64) -> f64 {
    match operator {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
        Binary::DivideWhole => (a / b).floor(),
        // The sign of the divisor, as in Python.
        Binary::Remainder => a - b * (a / b).floor(),
        _ => a.powf(b),
    }
}

/// To `digits` after the point, halves to the even digit (Python 3, `round`).
fn round(value: f64, digits: f64, method: Option<&str>) -> f64 {
    let scale = 10_f64.powi(digits.clamp(-15.0, 15.0) as i32);
    let scaled = value * scale;
    let rounded = match method {
        Some("floor") => scaled.floor(),
        Some("ceil") => scaled.ceil(),
        Some("half") => (scaled * 2.0).round_ties_even() / 2.0,
        _ => scaled.round_ties_even(),
    } / scale;
    if rounded.is_finite() { rounded } else { value }
}
