//! A tree and a value to a text.

use builder_core::nearest::nearest;
use serde_json::Value;

use super::Problem;
use super::functions;
use super::parse::{Argument, Branch, Kind, Node, Pipe};
use super::print;

/// What a list of nodes ended with.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Context<'v> {
    root: &'v Value,
    variables: Vec<(String, Value)>,
    out: String,
}

/// Renders nodes over a value.
pub(super) fn render(nodes: &[Node], value: &Value) -> Result<String, Problem> {
    let mut context = Context {
        root: value,
        variables: Vec::new(),
        out: String::new(),
    };
    context.all(nodes, value)?;
    Ok(context.out)
}

impl Context<'_> {
    /// Renders nodes; variables that they declare end with them.
    fn all(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Problem> {
        let known = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.one(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(flow)
    }

    fn one(&mut self, node: &Node, dot: &Value) -> Result<Flow, Problem> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&print::text(&value));
                } else {
                    self.assign(pipe, 0, value)?;
                }
            }
            Node::If(branch) => return self.choice(branch, dot, false),
            Node::With(branch) => return self.choice(branch, dot, true),
            Node::Range(branch) => self.range(branch, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn choice(&mut self, branch: &Branch, dot: &Value, is_with: bool) -> Result<Flow, Problem> {
        let known = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        if !branch.pipe.variables.is_empty() {
            self.assign(&branch.pipe, 0, value.clone())?;
        }
        let flow = if functions::is_true(&value) {
            self.all(&branch.body, if is_with { &value } else { dot })
        } else {
            self.all(&branch.otherwise, dot)
        };
        self.variables.truncate(known);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<(), Problem> {
        let over = self.pipe(&branch.pipe, dot)?;
        let items: Vec<(Value, Value)> = match over {
            Value::Array(items) => (0_u64..).map(Value::from).zip(items).collect(),
            Value::Object(items) => items
                .into_iter()
                .map(|(key, value)| (Value::from(key), value))
                .collect(),
            Value::Null => Vec::new(),
            other => {
                return Err(Problem::new(
                    format!("range can't go over `{}`", print::text(&other)),
                    "it goes over lists and maps",
                ));
            }
        };
        if items.is_empty() {
            self.all(&branch.otherwise, dot)?;
        }
        for (key, item) in items {
            let known = self.variables.len();
            if branch.pipe.variables.len() == 2 {
                self.assign(&branch.pipe, 0, key)?;
                self.assign(&branch.pipe, 1, item.clone())?;
            } else if !branch.pipe.variables.is_empty() {
                self.assign(&branch.pipe, 0, item.clone())?;
            }
            let flow = self.all(&branch.body, &item)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// Gives the variable of that number its value.
    fn assign(&mut self, pipe: &Pipe, number: usize, value: Value) -> Result<(), Problem> {
        let name = pipe.variables[number].clone();
        if pipe.declares {
            self.variables.push((name, value));
            return Ok(());
        }
        let known = self.variables.iter_mut().rev();
        match known.into_iter().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => return Err(undeclared(&name)),
        }
        Ok(())
    }

    fn pipe(&self, pipe: &Pipe, dot: &Value) -> Result<Value, Problem> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(
        &self,
        command: &[Argument],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, Problem> {
        let (first, rest) = (&command[0], &command[1..]);
        if let Kind::Function(name) = &first.kind {
            let mut arguments = Vec::with_capacity(rest.len() + 1);
            for argument in rest {
                arguments.push(self.argument(argument, dot)?);
            }
            arguments.extend(piped);
            return fields(functions::call(name, &arguments)?, &first.fields);
        }
        if !rest.is_empty() || piped.is_some() {
            return Err(Problem::new(
                "a value is used as if it were a function",
                "a command begins with a function, such as `index`, `json`, `join`, `printf`",
            ));
        }
        self.argument(first, dot)
    }

    fn argument(&self, argument: &Argument, dot: &Value) -> Result<Value, Problem> {
        let value = match &argument.kind {
            Kind::Dot => return fields_of(dot, &argument.fields),
            Kind::Variable(name) if name.is_empty() => {
                return fields_of(self.root, &argument.fields);
            }
            Kind::Variable(name) => {
                let mut known = self.variables.iter().rev();
                let found = known.find(|(known, _)| known == name);
                let (_, value) = found.ok_or_else(|| undeclared(name))?;
                return fields_of(value, &argument.fields);
            }
            Kind::Literal(value) => value.clone(),
            Kind::Function(name) => functions::call(name, &[])?,
            Kind::Pipe(pipe) => self.pipe(pipe, dot)?,
        };
        fields(value, &argument.fields)
    }
}

fn undeclared(name: &str) -> Problem {
    Problem::new(
        format!("there is no variable `${name}`"),
        "declare it first: `{{$name := .Field}}`",
    )
}

fn fields(value: Value, names: &[String]) -> Result<Value, Problem> {
    if names.is_empty() {
        return Ok(value);
    }
    fields_of(&value, names)
}

/// Follows fields. What a map lacks is no value; what a structure lacks, whose fields have names with a capital, was
/// mistyped.
fn fields_of(value: &Value, names: &[String]) -> Result<Value, Problem> {
    let mut here = value;
    for name in names {
        here = match here {
            Value::Null => return Ok(Value::Null),
            Value::Object(map) => match map.get(name) {
                Some(found) => found,
                None if is_structure(map) => return Err(unknown(name, map)),
                None => return Ok(Value::Null),
            },
            other => {
                let shown: String = print::text(other).chars().take(40).collect();
                return Err(Problem::new(
                    format!("`{shown}` has no field `{name}`"),
                    "it is a value without fields; a list is asked with `index` or `range`",
                ));
            }
        };
    }
    Ok(here.clone())
}

fn is_structure(map: &serde_json::Map<String, Value>) -> bool {
    map.keys()
        .next()
        .is_some_and(|key| key.starts_with(|letter: char| letter.is_ascii_uppercase()))
}

fn unknown(name: &str, map: &serde_json::Map<String, Value>) -> Problem {
    let known = map.keys().map(String::as_str);
    let help = match nearest(name, known.clone()) {
        Some(meant) => format!("did you mean `.{meant}`?"),
        None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
    };
    Problem::new(format!("there is no field `{name}`"), help)
}
