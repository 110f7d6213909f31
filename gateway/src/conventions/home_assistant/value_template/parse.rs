//! Text → expressions.

/// Longest template, bytes.
const BYTES_MAX: usize = 1024;
/// Expressions and statements within each other.
const DEPTH_MAX: usize = 16;
/// Operators, filters and steps in a row.
const CHAIN_MAX: usize = 32;

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    /// `{{ … }}`
    Output(Expression),
    /// `{% set name = … %}`
    Set(String, Expression),
    /// `{% if … %}`, `{% elif … %}`: conditions and what follows them; and `{% else %}`.
    If(Vec<(Expression, Vec<Node>)>, Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    None,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Expression>),
    /// `value`, `value_json`, or what a `set` named.
    Variable(String),
    /// `a.b`, `a['b']`, `a[0]`
    Step(Box<Expression>, Box<Expression>),
    Unary(Unary, Box<Expression>),
    Binary(Binary, Box<Expression>, Box<Expression>),
    /// `a if b else c`
    If {
        condition: Box<Expression>,
        then: Box<Expression>,
        otherwise: Box<Expression>,
    },
    /// `a is defined`
    Test(Box<Expression>, Test),
    /// `a | name(…)`, `name(a, …)`, `a.name(…)`
    Call(Function, Vec<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    Negative,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
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
pub(super) enum Test {
    Defined,
    Undefined,
    None,
    Number,
    String,
    True,
    False,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
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

impl Function {
    /// A filter by its name, with how many arguments it may have beside its value.
    fn filter(name: &str) -> Option<(Self, usize)> {
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

    /// A function of its arguments.
    fn global(name: &str) -> Option<(Self, usize)> {
        match name {
            "float" | "int" | "bool" | "is_number" | "iif" => {
                Self::filter(name).map(|(function, more)| (function, more + 1))
            }
            "min" => Some((Self::Min, CHAIN_MAX)),
            "max" => Some((Self::Max, CHAIN_MAX)),
            _ => None,
        }
    }

    /// What Python's texts and dictionaries can do.
    fn method(name: &str) -> Option<(Self, usize)> {
        match name {
            "get" => Some((Self::Get, 2)),
            "split" => Some((Self::Split, 1)),
            "strip" => Some((Self::Trim, 0)),
            "lower" | "upper" | "replace" => Self::filter(name),
            _ => None,
        }
    }
}

/// The parts of a template; `None` where it uses more than is understood.
pub(super) fn template(text: &str) -> Option<Vec<Node>> {
    if text.len() > BYTES_MAX {
        return None;
    }
    let mut parser = Parser { rest: text.trim(), depth: 0 };
    let (nodes, end) = parser.nodes()?;
    (end == End::Template && nodes.iter().any(|node| !matches!(node, Node::Text(_))))
        .then_some(nodes)
}

/// What ends a list of nodes.
#[derive(Debug, PartialEq)]
enum End {
    Template,
    Elif(Expression),
    Else,
    OfIf,
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn nodes(&mut self) -> Option<(Vec<Node>, End)> {
        self.deeper(|parser| {
            let mut nodes = Vec::new();
            loop {
                let next = ["{{", "{%", "{#"].into_iter().filter_map(|open| parser.rest.find(open));
                let (text, rest) = parser.rest.split_at(next.min().unwrap_or(parser.rest.len()));
                if !text.trim().is_empty() {
                    nodes.push(Node::Text(text.to_owned()));
                }
                parser.rest = rest;
                if parser.take_open("{{") {
                    let expression = parser.conditional()?;
                    parser.take_close("}}").then_some(())?;
                    nodes.push(Node::Output(expression));
                } else if parser.take_open("{%") {
                    match parser.statement()? {
                        Ok(node) => nodes.push(node),
                        Err(end) => return Some((nodes, end)),
                    }
                } else if parser.take("{#") {
                    parser.rest = parser.rest.split_once("#}")?.1;
                } else {
                    return Some((nodes, End::Template));
                }
            }
        })
    }

    fn statement(&mut self) -> Option<Result<Node, End>> {
        let statement = match self.word() {
            "if" => return self.if_statement().map(Ok),
            "set" => {
                let name = self.word();
                let is_name = !name.is_empty() && !matches!(name, "value" | "value_json");
                (is_name && self.take("=")).then_some(())?;
                Ok(Node::Set(name.to_owned(), self.conditional()?))
            }
            "elif" => Err(End::Elif(self.conditional()?)),
            "else" => Err(End::Else),
            "endif" => Err(End::OfIf),
            _ => return None,
        };
        self.take_close("%}").then_some(statement)
    }

    fn if_statement(&mut self) -> Option<Node> {
        let mut condition = self.conditional()?;
        self.take_close("%}").then_some(())?;
        let mut branches = Vec::new();
        loop {
            let (nodes, end) = self.nodes()?;
            branches.push((condition, nodes));
            match end {
                End::Elif(next) => condition = next,
                End::OfIf => return Some(Node::If(branches, Vec::new())),
                End::Else => {
                    let (otherwise, end) = self.nodes()?;
                    return (end == End::OfIf).then_some(Node::If(branches, otherwise));
                }
                End::Template => return None,
            }
        }
    }

    /// `{{-` takes away the space outside, which says nothing here.
    fn take_open(&mut self, open: &str) -> bool {
        let is_open = self.take(open);
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
        self.take(close)
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth >= DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// `a if b else c`; without `else` it is undefined.
    fn conditional(&mut self) -> Option<Expression> {
        self.deeper(|parser| {
            let then = parser.or()?;
            if !parser.take_word("if") {
                return Some(then);
            }
            let condition = Box::new(parser.or()?);
            let otherwise = match parser.take_word("else") {
                true => parser.conditional()?,
                false => Expression::Variable(String::new()),
            };
            Some(Expression::If { condition, then: Box::new(then), otherwise: Box::new(otherwise) })
        })
    }

    fn or(&mut self) -> Option<Expression> {
        self.chain(Self::and, |parser| parser.take_word("or").then_some(Binary::Or))
    }

    fn and(&mut self) -> Option<Expression> {
        self.chain(Self::not, |parser| parser.take_word("and").then_some(Binary::And))
    }

    fn not(&mut self) -> Option<Expression> {
        if self.take_word("not") {
            let inner = self.deeper(Self::not)?;
            return Some(Expression::Unary(Unary::Not, Box::new(inner)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Option<Expression> {
        let left = self.join()?;
        if self.take_word("not") {
            self.take_word("in").then_some(())?;
            let is_in = Expression::Binary(Binary::In, Box::new(left), Box::new(self.join()?));
            return Some(Expression::Unary(Unary::Not, Box::new(is_in)));
        }
        let operators = [
            ("==", Binary::Equal),
            ("!=", Binary::NotEqual),
            ("<=", Binary::LessOrEqual),
            (">=", Binary::GreaterOrEqual),
            ("<", Binary::Less),
            (">", Binary::Greater),
        ];
        let found = operators.into_iter().find(|(text, _)| self.take(text));
        let operator = found.map(|(_, operator)| operator);
        match operator.or_else(|| self.take_word("in").then_some(Binary::In)) {
            Some(operator) => {
                Some(Expression::Binary(operator, Box::new(left), Box::new(self.join()?)))
            }
            None => Some(left),
        }
    }

    fn join(&mut self) -> Option<Expression> {
        self.chain(Self::sum, |parser| parser.take("~").then_some(Binary::Join))
    }

    fn sum(&mut self) -> Option<Expression> {
        self.chain(Self::product, |parser| {
            let rest = parser.rest.trim_start();
            // The end of `{{ value -}}`.
            if rest.starts_with("-}}") || rest.starts_with("-%}") {
                return None;
            }
            let operators = [("+", Binary::Add), ("-", Binary::Subtract)];
            operators.into_iter().find(|(text, _)| parser.take(text)).map(|(_, own)| own)
        })
    }

    fn product(&mut self) -> Option<Expression> {
        self.chain(Self::unary, |parser| {
            let rest = parser.rest.trim_start();
            if rest.starts_with("%}") || rest.starts_with("**") {
                return None;
            }
            let operators = [
                ("//", Binary::DivideWhole),
                ("*", Binary::Multiply),
                ("/", Binary::Divide),
                ("%", Binary::Remainder),
            ];
            operators.into_iter().find(|(text, _)| parser.take(text)).map(|(_, own)| own)
        })
    }

    fn unary(&mut self) -> Option<Expression> {
        self.chain(Self::filtered, |parser| parser.take("**").then_some(Binary::Power))
    }

    /// Operators of one rank, from left to right.
    fn chain(
        &mut self,
        next: impl Fn(&mut Self) -> Option<Expression>,
        operator: impl Fn(&mut Self) -> Option<Binary>,
    ) -> Option<Expression> {
        let mut left = next(self)?;
        let mut length = 0;
        while let Some(operator) = operator(self) {
            // A chain nests to the left as deep as it is long.
            length += 1;
            if length > CHAIN_MAX {
                return None;
            }
            left = Expression::Binary(operator, Box::new(left), Box::new(next(self)?));
        }
        Some(left)
    }

    /// A sign binds closest, as in Jinja; then filters and tests, then arithmetic.
    fn signed(&mut self) -> Option<Expression> {
        if self.take("-") {
            let inner = self.deeper(Self::signed)?;
            return Some(Expression::Unary(Unary::Negative, Box::new(inner)));
        }
        let mut inner = self.primary()?;
        for _ in 0..CHAIN_MAX {
            inner = if self.rest.starts_with('.') {
                self.take(".");
                let name = self.word();
                if name.is_empty() {
                    return None;
                }
                if self.rest.starts_with('(') {
                    let (function, more) = Function::method(name)?;
                    self.call(function, Some(inner), more, true)?
                } else {
                    let name = Expression::Text(name.to_owned());
                    Expression::Step(Box::new(inner), Box::new(name))
                }
            } else if self.rest.starts_with('[') {
                self.take("[");
                let index = self.conditional()?;
                self.take("]").then_some(())?;
                Expression::Step(Box::new(inner), Box::new(index))
            } else {
                return Some(inner);
            };
        }
        None
    }

    fn filtered(&mut self) -> Option<Expression> {
        let mut inner = self.signed()?;
        for _ in 0..CHAIN_MAX {
            inner = if self.take("|") {
                let (function, more) = Function::filter(self.word())?;
                self.call(function, Some(inner), more, false)?
            } else if self.take_word("is") {
                let is_not = self.take_word("not");
                let test = match self.word() {
                    "defined" => Test::Defined,
                    "undefined" => Test::Undefined,
                    "none" => Test::None,
                    "number" => Test::Number,
                    "string" => Test::String,
                    "true" => Test::True,
                    "false" => Test::False,
                    _ => return None,
                };
                let test = Expression::Test(Box::new(inner), test);
                if is_not { Expression::Unary(Unary::Not, Box::new(test)) } else { test }
            } else {
                return Some(inner);
            };
        }
        None
    }

    /// The arguments in parentheses, which a filter may lack.
    fn call(
        &mut self,
        function: Function,
        first: Option<Expression>,
        more: usize,
        must_have: bool,
    ) -> Option<Expression> {
        let own = usize::from(first.is_some());
        let mut arguments: Vec<Expression> = first.into_iter().collect();
        if self.take("(") {
            while !self.take(")") {
                if arguments.len() > own {
                    self.take(",").then_some(())?;
                    if self.take(")") {
                        break;
                    }
                }
                self.skip_argument_name();
                arguments.push(self.conditional()?);
                if arguments.len() - own > more {
                    return None;
                }
            }
        } else if must_have {
            return None;
        }
        Some(Expression::Call(function, arguments))
    }

    /// `default=0`: of the functions that are known only one argument can be named so.
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

    fn primary(&mut self) -> Option<Expression> {
        self.rest = self.rest.trim_start();
        if self.take("(") {
            let inner = self.conditional()?;
            return self.take(")").then_some(inner);
        }
        if self.take("[") {
            let mut items = Vec::new();
            while !self.take("]") {
                if !items.is_empty() {
                    self.take(",").then_some(())?;
                }
                items.push(self.conditional()?);
                if items.len() > CHAIN_MAX {
                    return None;
                }
            }
            return Some(Expression::List(items));
        }
        if let Some(quote) = ['\'', '"'].into_iter().find(|quote| self.rest.starts_with(*quote)) {
            let (text, rest) = self.rest[1..].split_once(quote)?;
            self.rest = rest;
            return (!text.contains('\\')).then(|| Expression::Text(text.to_owned()));
        }
        if self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '.'));
            let (number, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
            self.rest = rest;
            return number.parse().ok().map(Expression::Number);
        }
        let word = self.word();
        match word {
            "" | "if" | "else" | "and" | "or" | "not" | "in" | "is" => None,
            "none" | "None" => Some(Expression::None),
            "true" | "True" => Some(Expression::Bool(true)),
            "false" | "False" => Some(Expression::Bool(false)),
            "value" | "value_json" => Some(Expression::Variable(word.to_owned())),
            _ if self.rest.trim_start().starts_with('(') => {
                let (function, most) = Function::global(word)?;
                let call = self.call(function, None, most, true)?;
                matches!(&call, Expression::Call(_, arguments) if !arguments.is_empty())
                    .then_some(call)
            }
            // Of a `set`; any other is undefined, as in Jinja.
            _ => Some(Expression::Variable(word.to_owned())),
        }
    }

    fn word(&mut self) -> &'t str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// Takes a word that stands next, if it does.
    fn take_word(&mut self, wanted: &str) -> bool {
        let before = self.rest;
        let is_it = self.word() == wanted;
        if !is_it {
            self.rest = before;
        }
        is_it
    }

    /// Takes a text that stands next, if it does.
    fn take(&mut self, text: &str) -> bool {
        match self.rest.trim_start().strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}
