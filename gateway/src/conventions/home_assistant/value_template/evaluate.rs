//! Expressions → a value, and its basis.

use serde_json::Value;

use super::parse::{
    BinaryOperator, TemplateExpression, TemplateFunction, TemplateNode, TemplateTest, UnaryOperator,
};

/// The basis of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueBasis {
    /// It is in the payload, computed from it, or chosen by its content.
    Payload,
    /// It is a constant of the template.
    Constant,
    /// It exists because the payload lacks something.
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

/// A value with its basis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SourcedValue {
    pub(super) value: TemplateValue,
    pub(super) basis: ValueBasis,
}

/// The payload, and the variables that `set` named.
#[derive(Debug)]
pub(super) struct TemplateScope<'p> {
    text: &'p str,
    json: Option<&'p Value>,
    named: Vec<(String, SourcedValue)>,
}

/// Longest text that is built, bytes. Each step of a template may double a text.
const TEXT_BYTES_MAX: usize = 64 * 1024;

const UNDEFINED: SourcedValue =
    SourcedValue { value: TemplateValue::Undefined, basis: ValueBasis::Absent };

impl ValueBasis {
    /// Returns the basis of a value that depends on both.
    fn combine_with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Absent, _) | (_, Self::Absent) => Self::Absent,
            (Self::Payload, _) | (_, Self::Payload) => Self::Payload,
            (Self::Constant, Self::Constant) => Self::Constant,
        }
    }
}

impl SourcedValue {
    fn from_constant(value: TemplateValue) -> Self {
        Self { value, basis: ValueBasis::Constant }
    }

    /// Adds the basis of a condition that chose this value. A chosen constant counts like the
    /// condition.
    fn with_condition(self, condition: ValueBasis) -> Self {
        let basis = match self.basis {
            ValueBasis::Constant => condition,
            basis => basis,
        };
        Self { basis, ..self }
    }

    fn map_number(self, change: impl FnOnce(f64) -> f64) -> Self {
        match self.value.to_number() {
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

    fn to_number(&self) -> Option<f64> {
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

    fn is_present(&self) -> bool {
        !matches!(self, Self::Undefined | Self::NotJson(_))
    }

    /// Formats the value as Python writes it.
    fn to_text(&self) -> String {
        match self {
            Self::Undefined => String::new(),
            Self::None => "None".to_owned(),
            Self::Bool(on) => if *on { "True" } else { "False" }.to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) | Self::NotJson(text) => text.clone(),
            Self::Json(json) => json.to_string(),
        }
    }

    fn is_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Text(_), _) | (_, Self::Text(_)) => false,
            _ => match (self.to_number(), other.to_number()) {
                (Some(a), Some(b)) => a == b,
                _ => self == other,
            },
        }
    }
}

impl<'p> TemplateScope<'p> {
    pub(super) fn new(text: &'p str, json: Option<&'p Value>) -> Self {
        Self { text, json, named: Vec::new() }
    }

    /// Renders the nodes: a value by itself, or several as one text.
    pub(super) fn render_nodes(&mut self, nodes: &[TemplateNode]) -> SourcedValue {
        let mut all: Option<SourcedValue> = None;
        for node in nodes {
            let part = match node {
                TemplateNode::Text(text) => {
                    SourcedValue::from_constant(TemplateValue::Text(text.trim().to_owned()))
                }
                TemplateNode::Output(expression) => self.evaluate(expression),
                TemplateNode::Set(name, expression) => {
                    let value = self.evaluate(expression);
                    self.named.push((name.clone(), value));
                    continue;
                }
                TemplateNode::If(branches, otherwise) => self.render_if(branches, otherwise),
            };
            all = Some(match all {
                None => part,
                Some(before) => {
                    let basis = before.basis.combine_with(part.basis);
                    limit_text(before.value.to_text() + &part.value.to_text(), basis)
                }
            });
        }
        all.unwrap_or(SourcedValue::from_constant(TemplateValue::Text(String::new())))
    }

    fn render_if(
        &mut self,
        branches: &[(TemplateExpression, Vec<TemplateNode>)],
        otherwise: &[TemplateNode],
    ) -> SourcedValue {
        let mut basis = ValueBasis::Constant;
        for (condition, nodes) in branches {
            let condition = self.evaluate(condition);
            basis = basis.combine_with(condition.basis);
            if condition.value.is_true() {
                return self.render_nodes(nodes).with_condition(basis);
            }
        }
        self.render_nodes(otherwise).with_condition(basis)
    }

    fn evaluate(&self, expression: &TemplateExpression) -> SourcedValue {
        match expression {
            TemplateExpression::None => {
                SourcedValue { value: TemplateValue::None, basis: ValueBasis::Absent }
            }
            TemplateExpression::Bool(on) => SourcedValue::from_constant(TemplateValue::Bool(*on)),
            TemplateExpression::Number(number) => {
                SourcedValue::from_constant(TemplateValue::Number(*number))
            }
            TemplateExpression::Text(text) => {
                SourcedValue::from_constant(TemplateValue::Text(text.clone()))
            }
            TemplateExpression::List(items) => self.evaluate_list(items),
            TemplateExpression::Variable(name) => self.lookup_variable(name),
            TemplateExpression::Step(target, key) => {
                lookup_key(self.evaluate(target), &self.evaluate(key))
            }
            TemplateExpression::Unary(UnaryOperator::Negative, inner) => {
                self.evaluate(inner).map_number(|number| -number)
            }
            TemplateExpression::Unary(UnaryOperator::Not, inner) => {
                let SourcedValue { value, basis } = self.evaluate(inner);
                SourcedValue { value: TemplateValue::Bool(!value.is_true()), basis }
            }
            TemplateExpression::Binary(operator, left, right) => {
                self.evaluate_binary(*operator, left, right)
            }
            TemplateExpression::If { condition, then, otherwise } => {
                let condition = self.evaluate(condition);
                let chosen = if condition.value.is_true() { then } else { otherwise };
                self.evaluate(chosen).with_condition(condition.basis)
            }
            TemplateExpression::Test(inner, test) => {
                let SourcedValue { value, basis } = self.evaluate(inner);
                let is_so = match test {
                    TemplateTest::Defined => value.is_present(),
                    TemplateTest::Undefined => !value.is_present(),
                    TemplateTest::None => value == TemplateValue::None,
                    TemplateTest::Number => matches!(value, TemplateValue::Number(_)),
                    TemplateTest::String => matches!(value, TemplateValue::Text(_)),
                    TemplateTest::True => value == TemplateValue::Bool(true),
                    TemplateTest::False => value == TemplateValue::Bool(false),
                };
                let basis = if value.is_present() { basis } else { ValueBasis::Absent };
                SourcedValue { value: TemplateValue::Bool(is_so), basis }
            }
            TemplateExpression::Call(function, arguments) => {
                self.call_function(*function, arguments)
            }
        }
    }

    fn evaluate_list(&self, items: &[TemplateExpression]) -> SourcedValue {
        let mut basis = ValueBasis::Constant;
        let evaluated = items.iter().map(|item| {
            let item = self.evaluate(item);
            basis = basis.combine_with(item.basis);
            match item.value {
                TemplateValue::Text(text) | TemplateValue::NotJson(text) => Value::from(text),
                TemplateValue::Number(number) => Value::from(number),
                TemplateValue::Bool(on) => Value::from(on),
                TemplateValue::Json(json) => json,
                TemplateValue::Undefined | TemplateValue::None => Value::Null,
            }
        });
        let value = TemplateValue::Json(evaluated.collect());
        SourcedValue { value, basis }
    }

    fn lookup_variable(&self, name: &str) -> SourcedValue {
        let basis = ValueBasis::Payload;
        match (name, self.json) {
            ("value", _) => {
                SourcedValue { value: TemplateValue::Text(self.text.trim().to_owned()), basis }
            }
            ("value_json", Some(json)) => {
                SourcedValue { value: TemplateValue::from_json(json), basis }
            }
            ("value_json", None) => {
                SourcedValue { value: TemplateValue::NotJson(self.text.trim().to_owned()), basis }
            }
            _ => {
                let named = self.named.iter().rfind(|(known, _)| known == name);
                named.map_or(UNDEFINED, |(_, value)| value.clone())
            }
        }
    }

    fn evaluate_binary(
        &self,
        operator: BinaryOperator,
        left: &TemplateExpression,
        right: &TemplateExpression,
    ) -> SourcedValue {
        let left = self.evaluate(left);
        // As in Python, the deciding operand is the result.
        match (operator, left.value.is_true()) {
            (BinaryOperator::And, false) | (BinaryOperator::Or, true) => return left,
            (BinaryOperator::And | BinaryOperator::Or, _) => {
                let right = self.evaluate(right);
                let basis = left.basis.combine_with(right.basis);
                // A present field replaces an absent one: `a or b`.
                let is_made_up =
                    operator == BinaryOperator::Or && right.basis == ValueBasis::Payload;
                return SourcedValue {
                    basis: if is_made_up { right.basis } else { basis },
                    ..right
                };
            }
            _ => {}
        }
        let right = self.evaluate(right);
        let basis = left.basis.combine_with(right.basis);
        let is_there = left.value.is_present() && right.value.is_present();
        if let Some(is_so) = compare_values(operator, &left.value, &right.value) {
            // An absent key is an absent field.
            let is_key = operator == BinaryOperator::In
                && matches!(right.value, TemplateValue::Json(Value::Object(_)));
            let basis = if is_there && (is_so || !is_key) { basis } else { ValueBasis::Absent };
            return SourcedValue { value: TemplateValue::Bool(is_so), basis };
        }
        if operator == BinaryOperator::Join {
            return limit_text(left.value.to_text() + &right.value.to_text(), basis);
        }
        match (left.value.to_number(), right.value.to_number()) {
            (Some(a), Some(b)) => SourcedValue {
                value: TemplateValue::Number(apply_arithmetic(operator, a, b)),
                basis,
            },
            // A value that is not a number is reported unchanged.
            (None, _) => left,
            (_, None) => right,
        }
    }

    fn call_function(
        &self,
        function: TemplateFunction,
        arguments: &[TemplateExpression],
    ) -> SourcedValue {
        let argument = |at: usize| arguments.get(at).map(|expression| self.evaluate(expression));
        let Some(first) = argument(0) else { return UNDEFINED };
        let second = argument(1);
        match function {
            // A default is not a measured value. A value that is not a number is reported
            // unchanged.
            TemplateFunction::Float => first.map_number(|number| number),
            TemplateFunction::Int => first.map_number(f64::trunc),
            TemplateFunction::Round => {
                let digits = second.and_then(|digits| digits.value.to_number()).unwrap_or(0.0);
                let method = argument(2).map(|method| method.value.to_text());
                first.map_number(|number| round_half_even(number, digits, method.as_deref()))
            }
            TemplateFunction::Abs => first.map_number(f64::abs),
            TemplateFunction::Multiply => {
                let by = second.and_then(|by| by.value.to_number()).unwrap_or(f64::NAN);
                first.map_number(|number| number * by)
            }
            TemplateFunction::Add => {
                let by = second.and_then(|by| by.value.to_number()).unwrap_or(f64::NAN);
                first.map_number(|number| number + by)
            }
            TemplateFunction::Default => {
                let takes_false = argument(2).is_some_and(|sourced| sourced.value.is_true());
                let is_used = !first.value.is_present() || (takes_false && !first.value.is_true());
                if !is_used || matches!(first.value, TemplateValue::NotJson(_)) {
                    return first;
                }
                second.unwrap_or(UNDEFINED).with_condition(ValueBasis::Absent)
            }
            TemplateFunction::IsDefined => first,
            TemplateFunction::IsNumber => SourcedValue {
                value: TemplateValue::Bool(first.value.to_number().is_some_and(f64::is_finite)),
                basis: first.basis,
            },
            TemplateFunction::Bool => {
                let text = first.value.to_text().to_ascii_lowercase();
                let is_on = matches!(text.as_str(), "true" | "yes" | "on" | "enable" | "1");
                let value = if first.value.is_present() {
                    TemplateValue::Bool(is_on)
                } else {
                    TemplateValue::Undefined
                };
                SourcedValue { value, basis: first.basis }
            }
            TemplateFunction::Iif => {
                let chosen = match (first.value.is_true(), second, argument(2)) {
                    (true, Some(then), _) => then,
                    (false, _, Some(otherwise)) => otherwise,
                    (is_true, _, _) => SourcedValue::from_constant(TemplateValue::Bool(is_true)),
                };
                chosen.with_condition(first.basis)
            }
            TemplateFunction::Get => {
                let key = second.unwrap_or(UNDEFINED);
                let found = lookup_key(first, &key);
                match found.value {
                    TemplateValue::Undefined => {
                        let none =
                            SourcedValue { value: TemplateValue::None, basis: ValueBasis::Absent };
                        argument(2).unwrap_or(none).with_condition(ValueBasis::Absent)
                    }
                    _ => found,
                }
            }
            TemplateFunction::Min | TemplateFunction::Max => {
                let all: Vec<SourcedValue> =
                    arguments.iter().map(|expression| self.evaluate(expression)).collect();
                let basis = all
                    .iter()
                    .fold(ValueBasis::Constant, |basis, sourced| basis.combine_with(sourced.basis));
                let numbers = all.iter().map(|sourced| sourced.value.to_number());
                let pick = if function == TemplateFunction::Min { f64::min } else { f64::max };
                let found = numbers.reduce(|a, b| Some(pick(a?, b?))).flatten();
                let value = found.map_or(TemplateValue::Undefined, TemplateValue::Number);
                SourcedValue { value, basis }
            }
            TemplateFunction::Text
            | TemplateFunction::Lower
            | TemplateFunction::Upper
            | TemplateFunction::Trim
            | TemplateFunction::Replace
            | TemplateFunction::Split => {
                let third = argument(2).map(|sourced| sourced.value.to_text());
                call_text_method(
                    function,
                    first,
                    second.map(|sourced| sourced.value.to_text()),
                    third,
                )
            }
        }
    }
}

fn call_text_method(
    function: TemplateFunction,
    first: SourcedValue,
    second: Option<String>,
    third: Option<String>,
) -> SourcedValue {
    if !first.value.is_present() {
        return first;
    }
    let text = first.value.to_text();
    let text = match function {
        TemplateFunction::Lower => text.to_lowercase(),
        TemplateFunction::Upper => text.to_uppercase(),
        TemplateFunction::Trim => text.trim().to_owned(),
        TemplateFunction::Replace => match second.filter(|old| !old.is_empty()) {
            // A payload that grows with each replacement is refused.
            Some(old) => {
                let new = third.unwrap_or_default();
                if new.len() > old.len() { text } else { text.replace(&old, &new) }
            }
            None => text,
        },
        TemplateFunction::Split => {
            let parts: Vec<Value> = match second.filter(|separator| !separator.is_empty()) {
                Some(separator) => text.split(&separator).map(Value::from).collect(),
                None => text.split_whitespace().map(Value::from).collect(),
            };
            return SourcedValue { value: TemplateValue::Json(parts.into()), basis: first.basis };
        }
        _ => text,
    };
    limit_text(text, first.basis)
}

/// Returns a text that a template builds, or an undefined value if it is too long.
fn limit_text(text: String, basis: ValueBasis) -> SourcedValue {
    match text.len() <= TEXT_BYTES_MAX {
        true => SourcedValue { value: TemplateValue::Text(text), basis },
        false => UNDEFINED,
    }
}

fn lookup_key(target: SourcedValue, key: &SourcedValue) -> SourcedValue {
    let found = match (&target.value, &key.value) {
        (TemplateValue::NotJson(_), _) => return target,
        (TemplateValue::Json(Value::Object(fields)), TemplateValue::Text(key)) => fields.get(key),
        (TemplateValue::Json(Value::Array(items)), TemplateValue::Number(index)) => {
            let index = if *index < 0.0 { items.len() as f64 + index } else { *index };
            (index >= 0.0 && index.fract() == 0.0).then(|| items.get(index as usize)).flatten()
        }
        _ => None,
    };
    let value = found.map(TemplateValue::from_json);
    value.map_or(UNDEFINED, |value| SourcedValue { value, basis: target.basis })
}

fn compare_values(
    operator: BinaryOperator,
    left: &TemplateValue,
    right: &TemplateValue,
) -> Option<bool> {
    let order = || match (left, right) {
        (TemplateValue::Text(a), TemplateValue::Text(b)) => a.partial_cmp(b),
        _ => left.to_number()?.partial_cmp(&right.to_number()?),
    };
    Some(match operator {
        BinaryOperator::Equal => left.is_equal(right),
        BinaryOperator::NotEqual => !left.is_equal(right),
        BinaryOperator::Less => order().is_some_and(std::cmp::Ordering::is_lt),
        BinaryOperator::LessOrEqual => order().is_some_and(std::cmp::Ordering::is_le),
        BinaryOperator::Greater => order().is_some_and(std::cmp::Ordering::is_gt),
        BinaryOperator::GreaterOrEqual => order().is_some_and(std::cmp::Ordering::is_ge),
        BinaryOperator::In => match right {
            TemplateValue::Text(text) => text.contains(&left.to_text()),
            TemplateValue::Json(Value::Object(fields)) => fields.contains_key(&left.to_text()),
            TemplateValue::Json(Value::Array(items)) => {
                items.iter().any(|item| TemplateValue::from_json(item).is_equal(left))
            }
            _ => false,
        },
        _ => return None,
    })
}

fn apply_arithmetic(operator: BinaryOperator, a: f64, b: f64) -> f64 {
    match operator {
        BinaryOperator::Add => a + b,
        BinaryOperator::Subtract => a - b,
        BinaryOperator::Multiply => a * b,
        BinaryOperator::Divide => a / b,
        BinaryOperator::DivideWhole => (a / b).floor(),
        // The remainder has the sign of the divisor, as in Python.
        BinaryOperator::Remainder => a - b * (a / b).floor(),
        _ => a.powf(b),
    }
}

/// Rounds to `digits` decimals, halves to the even digit (Python 3, `round`).
fn round_half_even(value: f64, digits: f64, method: Option<&str>) -> f64 {
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
