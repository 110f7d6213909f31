//! Text → expressions.

/// Longest template, bytes.
const BYTES_MAX: usize = 1024;
/// Largest nesting depth of expressions and statements.
const DEPTH_MAX: usize = 16;
/// Largest number of operators, filters and steps in a row.
const CHAIN_MAX: usize = 32;

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TemplateNode {
    Text(String),
    /// `{{ … }}`
    Output(TemplateExpression),
    /// `{% set name = … %}`
    Set(String, TemplateExpression),
    /// `{% if … %}`, `{% elif … %}`: conditions with their nodes; and the nodes of `{% else %}`.
    If(Vec<(TemplateExpression, Vec<TemplateNode>)>, Vec<TemplateNode>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TemplateExpression {
    None,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<TemplateExpression>),
    /// `value`, `value_json`, or a variable that a `set` named.
    Variable(String),
    /// `a.b`, `a['b']`, `a[0]`
    Step(Box<TemplateExpression>, Box<TemplateExpression>),
    Unary(UnaryOperator, Box<TemplateExpression>),
    Binary(BinaryOperator, Box<TemplateExpression>, Box<TemplateExpression>),
    /// `a if b else c`
    If {
        condition: Box<TemplateExpression>,
        then: Box<TemplateExpression>,
        otherwise: Box<TemplateExpression>,
    },
    /// `a is defined`
    Test(Box<TemplateExpression>, TemplateTest),
    /// `a | name(…)`, `name(a, …)`, `a.name(…)`
    Call(TemplateFunction, Vec<TemplateExpression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnaryOperator {
    Negative,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BinaryOperator {
    Or,
    And,
    In,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Join,
    Add,
    Subtract,
    Multiply,
    Divide,
    DivideWhole,
    Remainder,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplateTest {
    Defined,
    Undefined,
    None,
    Number,
    String,
    True,
    False,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplateFunction {
    Float,
    Int,
    Bool,
    Round,
    Abs,
    Default,
    IsDefined,
    IsNumber,
    Text,
    Lower,
    Upper,
    Trim,
    Replace,
    Split,
    Get,
    Multiply,
    Add,
    Min,
    Max,
    Iif,
}

impl TemplateFunction {
    /// Finds a filter by its name, with the number of its further arguments.
    fn find_filter(name: &str) -> Option<(Self, usize)> {
        Some(match name {
            "float" => (Self::Float, 1),
            "int" => (Self::Int, 2),
            "bool" => (Self::Bool, 1),
            "round" => (Self::Round, 3),
            "abs" => (Self::Abs, 0),
            "default" | "d" => (Self::Default, 2),
            "is_defined" => (Self::IsDefined, 0),
            "is_number" => (Self::IsNumber, 0),
            "string" => (Self::Text, 0),
            "lower" => (Self::Lower, 0),
            "upper" => (Self::Upper, 0),
            "trim" => (Self::Trim, 0),
            "replace" => (Self::Replace, 2),
            "multiply" => (Self::Multiply, 2),
            "add" => (Self::Add, 2),
            "iif" => (Self::Iif, 3),
            _ => return None,
        })
    }

    /// Finds a global function by its name.
    fn find_global(name: &str) -> Option<(Self, usize)> {
        match name {
            "float" | "int" | "bool" | "is_number" | "iif" => {
                Self::find_filter(name).map(|(function, more)| (function, more + 1))
            }
            "min" => Some((Self::Min, CHAIN_MAX)),
            "max" => Some((Self::Max, CHAIN_MAX)),
            _ => None,
        }
    }

    /// Finds a method of Python's texts and dictionaries.
    fn find_method(name: &str) -> Option<(Self, usize)> {
        match name {
            "get" => Some((Self::Get, 2)),
            "split" => Some((Self::Split, 1)),
            "strip" => Some((Self::Trim, 0)),
            "lower" | "upper" | "replace" => Self::find_filter(name),
            _ => None,
        }
    }
}

/// Parses the nodes of a template; `None` if it uses unsupported syntax.
pub(super) fn parse_template(text: &str) -> Option<Vec<TemplateNode>> {
    if text.len() > BYTES_MAX {
        return None;
    }
    let mut parser = TemplateParser { rest: text.trim(), depth: 0 };
    let (nodes, end) = parser.parse_nodes()?;
    (end == BlockEnd::Template && nodes.iter().any(|node| !matches!(node, TemplateNode::Text(_))))
        .then_some(nodes)
}

/// The end of a list of nodes.
#[derive(Debug, PartialEq)]
enum BlockEnd {
    Template,
    Elif(TemplateExpression),
    Else,
    OfIf,
}

struct TemplateParser<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> TemplateParser<'t> {
    fn parse_nodes(&mut self) -> Option<(Vec<TemplateNode>, BlockEnd)> {
        self.parse_deeper(|parser| {
            let mut nodes = Vec::new();
            loop {
                let next = ["{{", "{%", "{#"].into_iter().filter_map(|open| parser.rest.find(open));
                let (text, rest) = parser.rest.split_at(next.min().unwrap_or(parser.rest.len()));
                if !text.trim().is_empty() {
                    nodes.push(TemplateNode::Text(text.to_owned()));
                }
                parser.rest = rest;
                if parser.take_open("{{") {
                    let expression = parser.parse_conditional()?;
                    parser.take_close("}}").then_some(())?;
                    nodes.push(TemplateNode::Output(expression));
                } else if parser.take_open("{%") {
                    match parser.parse_statement()? {
                        Ok(node) => nodes.push(node),
                        Err(end) => return Some((nodes, end)),
                    }
                } else if parser.take_text("{#") {
                    parser.rest = parser.rest.split_once("#}")?.1;
                } else {
                    return Some((nodes, BlockEnd::Template));
                }
            }
        })
    }

    fn parse_statement(&mut self) -> Option<Result<TemplateNode, BlockEnd>> {
        let statement = match self.read_word() {
            "if" => return self.parse_if().map(Ok),
            "set" => {
                let name = self.read_word();
                let is_name = !name.is_empty() && !matches!(name, "value" | "value_json");
                (is_name && self.take_text("=")).then_some(())?;
                Ok(TemplateNode::Set(name.to_owned(), self.parse_conditional()?))
            }
            "elif" => Err(BlockEnd::Elif(self.parse_conditional()?)),
            "else" => Err(BlockEnd::Else),
            "endif" => Err(BlockEnd::OfIf),
            _ => return None,
        };
        self.take_close("%}").then_some(statement)
    }

    fn parse_if(&mut self) -> Option<TemplateNode> {
        let mut condition = self.parse_conditional()?;
        self.take_close("%}").then_some(())?;
        let mut branches = Vec::new();
        loop {
            let (nodes, end) = self.parse_nodes()?;
            branches.push((condition, nodes));
            match end {
                BlockEnd::Elif(next) => condition = next,
                BlockEnd::OfIf => return Some(TemplateNode::If(branches, Vec::new())),
                BlockEnd::Else => {
                    let (otherwise, end) = self.parse_nodes()?;
                    return (end == BlockEnd::OfIf)
                        .then_some(TemplateNode::If(branches, otherwise));
                }
                BlockEnd::Template => return None,
            }
        }
    }

    /// Takes an opening delimiter. `{{-` removes the space before it, which is irrelevant here.
    fn take_open(&mut self, open: &str) -> bool {
        let is_open = self.take_text(open);
        if is_open {
            self.rest = self.rest.strip_prefix('-').unwrap_or(self.rest);
        }
        is_open
    }

    fn take_close(&mut self, close: &str) -> bool {
        self.rest = self.rest.trim_start();
        if let Some(rest) = self.rest.strip_prefix('-')
            && rest.starts_with(close)
        {
            self.rest = rest;
        }
        self.take_text(close)
    }

    fn parse_deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth >= DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Parses `a if b else c`. Without `else` the result may be undefined.
    fn parse_conditional(&mut self) -> Option<TemplateExpression> {
        self.parse_deeper(|parser| {
            let then = parser.parse_or()?;
            if !parser.take_word("if") {
                return Some(then);
            }
            let condition = Box::new(parser.parse_or()?);
            let otherwise = match parser.take_word("else") {
                true => parser.parse_conditional()?,
                false => TemplateExpression::Variable(String::new()),
            };
            Some(TemplateExpression::If {
                condition,
                then: Box::new(then),
                otherwise: Box::new(otherwise),
            })
        })
    }

    fn parse_or(&mut self) -> Option<TemplateExpression> {
        self.parse_chain(Self::parse_and, |parser| {
            parser.take_word("or").then_some(BinaryOperator::Or)
        })
    }

    fn parse_and(&mut self) -> Option<TemplateExpression> {
        self.parse_chain(Self::parse_not, |parser| {
            parser.take_word("and").then_some(BinaryOperator::And)
        })
    }

    fn parse_not(&mut self) -> Option<TemplateExpression> {
        if self.take_word("not") {
            let inner = self.parse_deeper(Self::parse_not)?;
            return Some(TemplateExpression::Unary(UnaryOperator::Not, Box::new(inner)));
        }
        self.parse_comparison()
    }

    fn parse_comparison(&mut self) -> Option<TemplateExpression> {
        let left = self.parse_join()?;
        if self.take_word("not") {
            self.take_word("in").then_some(())?;
            let is_in = TemplateExpression::Binary(
                BinaryOperator::In,
                Box::new(left),
                Box::new(self.parse_join()?),
            );
            return Some(TemplateExpression::Unary(UnaryOperator::Not, Box::new(is_in)));
        }
        let operators = [
            ("==", BinaryOperator::Equal),
            ("!=", BinaryOperator::NotEqual),
            ("<=", BinaryOperator::LessOrEqual),
            (">=", BinaryOperator::GreaterOrEqual),
            ("<", BinaryOperator::Less),
            (">", BinaryOperator::Greater),
        ];
        let found = operators.into_iter().find(|(text, _)| self.take_text(text));
        let operator = found.map(|(_, operator)| operator);
        match operator.or_else(|| self.take_word("in").then_some(BinaryOperator::In)) {
            Some(operator) => Some(TemplateExpression::Binary(
                operator,
                Box::new(left),
                Box::new(self.parse_join()?),
            )),
            None => Some(left),
        }
    }

    fn parse_join(&mut self) -> Option<TemplateExpression> {
        self.parse_chain(Self::parse_sum, |parser| {
            parser.take_text("~").then_some(BinaryOperator::Join)
        })
    }

    fn parse_sum(&mut self) -> Option<TemplateExpression> {
        self.parse_chain(Self::parse_product, |parser| {
            let rest = parser.rest.trim_start();
            // The end of `{{ value -}}`.
            if rest.starts_with("-}}") || rest.starts_with("-%}") {
                return None;
            }
            let operators = [("+", BinaryOperator::Add), ("-", BinaryOperator::Subtract)];
            operators
                .into_iter()
                .find(|(text, _)| parser.take_text(text))
                .map(|(_, operator)| operator)
        })
    }

    fn parse_product(&mut self) -> Option<TemplateExpression> {
        self.parse_chain(Self::parse_unary, |parser| {
            let rest = parser.rest.trim_start();
            if rest.starts_with("%}") || rest.starts_with("**") {
                return None;
            }
            let operators = [
                ("//", BinaryOperator::DivideWhole),
                ("*", BinaryOperator::Multiply),
                ("/", BinaryOperator::Divide),
                ("%", BinaryOperator::Remainder),
            ];
            operators
                .into_iter()
                .find(|(text, _)| parser.take_text(text))
                .map(|(_, operator)| operator)
        })
    }

    fn parse_unary(&mut self) -> Option<TemplateExpression> {
        self.parse_chain(Self::parse_filtered, |parser| {
            parser.take_text("**").then_some(BinaryOperator::Power)
        })
    }

    /// Parses operators of one rank, from left to right.
    fn parse_chain(
        &mut self,
        next: impl Fn(&mut Self) -> Option<TemplateExpression>,
        operator: impl Fn(&mut Self) -> Option<BinaryOperator>,
    ) -> Option<TemplateExpression> {
        let mut left = next(self)?;
        let mut length = 0;
        while let Some(operator) = operator(self) {
            // A chain nests as deep to the left as it is long.
            length += 1;
            if length > CHAIN_MAX {
                return None;
            }
            left = TemplateExpression::Binary(operator, Box::new(left), Box::new(next(self)?));
        }
        Some(left)
    }

    /// Parses a sign, which binds closest, as in Jinja; then filters and tests, then arithmetic.
    fn parse_signed(&mut self) -> Option<TemplateExpression> {
        if self.take_text("-") {
            let inner = self.parse_deeper(Self::parse_signed)?;
            return Some(TemplateExpression::Unary(UnaryOperator::Negative, Box::new(inner)));
        }
        let mut inner = self.parse_primary()?;
        for _ in 0..CHAIN_MAX {
            inner = if self.rest.starts_with('.') {
                self.take_text(".");
                let name = self.read_word();
                if name.is_empty() {
                    return None;
                }
                if self.rest.starts_with('(') {
                    let (function, more) = TemplateFunction::find_method(name)?;
                    self.parse_call(function, Some(inner), more, true)?
                } else {
                    let name = TemplateExpression::Text(name.to_owned());
                    TemplateExpression::Step(Box::new(inner), Box::new(name))
                }
            } else if self.rest.starts_with('[') {
                self.take_text("[");
                let index = self.parse_conditional()?;
                self.take_text("]").then_some(())?;
                TemplateExpression::Step(Box::new(inner), Box::new(index))
            } else {
                return Some(inner);
            };
        }
        None
    }

    fn parse_filtered(&mut self) -> Option<TemplateExpression> {
        let mut inner = self.parse_signed()?;
        for _ in 0..CHAIN_MAX {
            inner = if self.take_text("|") {
                let (function, more) = TemplateFunction::find_filter(self.read_word())?;
                self.parse_call(function, Some(inner), more, false)?
            } else if self.take_word("is") {
                let is_not = self.take_word("not");
                let test = match self.read_word() {
                    "defined" => TemplateTest::Defined,
                    "undefined" => TemplateTest::Undefined,
                    "none" => TemplateTest::None,
                    "number" => TemplateTest::Number,
                    "string" => TemplateTest::String,
                    "true" => TemplateTest::True,
                    "false" => TemplateTest::False,
                    _ => return None,
                };
                let test = TemplateExpression::Test(Box::new(inner), test);
                if is_not {
                    TemplateExpression::Unary(UnaryOperator::Not, Box::new(test))
                } else {
                    test
                }
            } else {
                return Some(inner);
            };
        }
        None
    }

    /// Parses the arguments in parentheses, which a filter may lack.
    fn parse_call(
        &mut self,
        function: TemplateFunction,
        first: Option<TemplateExpression>,
        more: usize,
        must_have: bool,
    ) -> Option<TemplateExpression> {
        let piped_count = usize::from(first.is_some());
        let mut arguments: Vec<TemplateExpression> = first.into_iter().collect();
        if self.take_text("(") {
            while !self.take_text(")") {
                if arguments.len() > piped_count {
                    self.take_text(",").then_some(())?;
                    if self.take_text(")") {
                        break;
                    }
                }
                self.skip_argument_name();
                arguments.push(self.parse_conditional()?);
                if arguments.len() - piped_count > more {
                    return None;
                }
            }
        } else if must_have {
            return None;
        }
        Some(TemplateExpression::Call(function, arguments))
    }

    /// Skips `default=`. Of the known functions only one argument can be named like that.
    fn skip_argument_name(&mut self) {
        let rest = self.rest.trim_start();
        for name in ["default", "precision"] {
            if let Some(value) = rest.strip_prefix(name).map(str::trim_start)
                && value.starts_with('=')
                && !value.starts_with("==")
            {
                self.rest = &value[1..];
                return;
            }
        }
    }

    fn parse_primary(&mut self) -> Option<TemplateExpression> {
        self.rest = self.rest.trim_start();
        if self.take_text("(") {
            let inner = self.parse_conditional()?;
            return self.take_text(")").then_some(inner);
        }
        if self.take_text("[") {
            let mut items = Vec::new();
            while !self.take_text("]") {
                if !items.is_empty() {
                    self.take_text(",").then_some(())?;
                }
                items.push(self.parse_conditional()?);
                if items.len() > CHAIN_MAX {
                    return None;
                }
            }
            return Some(TemplateExpression::List(items));
        }
        if let Some(quote) = ['\'', '"'].into_iter().find(|quote| self.rest.starts_with(*quote)) {
            let (text, rest) = self.rest[1..].split_once(quote)?;
            self.rest = rest;
            return (!text.contains('\\')).then(|| TemplateExpression::Text(text.to_owned()));
        }
        if self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '.'));
            let (number, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
            self.rest = rest;
            return number.parse().ok().map(TemplateExpression::Number);
        }
        let word = self.read_word();
        match word {
            "" | "if" | "else" | "and" | "or" | "not" | "in" | "is" => None,
            "none" | "None" => Some(TemplateExpression::None),
            "true" | "True" => Some(TemplateExpression::Bool(true)),
            "false" | "False" => Some(TemplateExpression::Bool(false)),
            "value" | "value_json" => Some(TemplateExpression::Variable(word.to_owned())),
            _ if self.rest.trim_start().starts_with('(') => {
                let (function, most) = TemplateFunction::find_global(word)?;
                let call = self.parse_call(function, None, most, true)?;
                matches!(&call, TemplateExpression::Call(_, arguments) if !arguments.is_empty())
                    .then_some(call)
            }
            // A variable of a `set`. Any other is undefined, as in Jinja.
            _ => Some(TemplateExpression::Variable(word.to_owned())),
        }
    }

    fn read_word(&mut self) -> &'t str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// Takes the word if it comes next.
    fn take_word(&mut self, wanted: &str) -> bool {
        let before = self.rest;
        let is_it = self.read_word() == wanted;
        if !is_it {
            self.rest = before;
        }
        is_it
    }

    /// Takes the text if it comes next.
    fn take_text(&mut self, text: &str) -> bool {
        match self.rest.trim_start().strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}
