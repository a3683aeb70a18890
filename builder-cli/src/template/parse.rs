//! Tokens to a tree: conditions, loops, pipelines.

use serde_json::Value;

use super::Problem;
use super::functions;
use super::lex::{Piece, Token};

/// Nobody nests deeper; a text that does must not end the program.
const MAX_DEPTH: usize = 100;

/// A part of a template.
#[derive(Debug)]
pub(super) enum Node {
    /// What is copied.
    Text(String),
    /// A pipeline whose value is printed, unless it gives a variable its value.
    Print(Pipe),
    /// `if`.
    If(Branch),
    /// `with`.
    With(Branch),
    /// `range`.
    Range(Branch),
    /// `break`.
    Break,
    /// `continue`.
    Continue,
}

/// What decides, what is done, and what else.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// `$a := one | two`.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Variables that get the value: one, or for `range` two.
    pub(super) variables: Vec<String>,
    /// Whether they are new.
    pub(super) declares: bool,
    /// A command's value is the last argument of the next.
    pub(super) commands: Vec<Vec<Argument>>,
}

/// A word of a command, and the fields that are asked of its value.
#[derive(Debug)]
pub(super) struct Argument {
    pub(super) kind: Kind,
    pub(super) fields: Vec<String>,
}

/// The kinds of arguments.
#[derive(Debug)]
pub(super) enum Kind {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Pipe(Pipe),
}

/// Reads all of a template.
pub(super) fn nodes(pieces: Vec<Piece>) -> Result<Vec<Node>, Problem> {
    let mut reader = Reader {
        pieces: pieces.into_iter(),
        loops: 0,
    };
    let (nodes, end) = reader.list(0)?;
    match end {
        Ending::Text => Ok(nodes),
        _ => Err(Problem::new(
            "`end` or `else` ends nothing",
            "it belongs to an `if`, a `with` or a `range` before it",
        )),
    }
}

/// What ended a list.
enum Ending {
    /// The end of the template.
    Text,
    /// `end`.
    Closed,
    /// `else`, with the tokens of `else if`.
    Else(Vec<Token>),
}

struct Reader {
    pieces: std::vec::IntoIter<Piece>,
    loops: usize,
}

impl Reader {
    fn list(&mut self, depth: usize) -> Result<(Vec<Node>, Ending), Problem> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let mut tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let keyword = match tokens.first() {
                Some(Token::Word(word)) if is_keyword(word) => word.clone(),
                _ => {
                    nodes.push(Node::Print(pipe(&tokens)?));
                    continue;
                }
            };
            tokens.remove(0);
            match keyword.as_str() {
                "end" => return Ok((nodes, Ending::Closed)),
                "else" => return Ok((nodes, Ending::Else(tokens))),
                "if" | "with" | "range" => nodes.push(self.branch(&keyword, &tokens, depth)?),
                "break" | "continue" if self.loops == 0 => {
                    return Err(Problem::new(
                        format!("`{keyword}` stands in no `range`"),
                        "leave it out",
                    ));
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                other => {
                    return Err(Problem::new(
                        format!("`{other}` of Go's templates is not here"),
                        "one template is all there is: write it out",
                    ));
                }
            }
        }
        Ok((nodes, Ending::Text))
    }

    fn branch(&mut self, keyword: &str, tokens: &[Token], depth: usize) -> Result<Node, Problem> {
        if tokens.is_empty() {
            return Err(Problem::new(
                format!("`{keyword}` has nothing to look at"),
                format!("write `{{{{{keyword} .Field}}}}…{{{{end}}}}`"),
            ));
        }
        let pipe = pipe(tokens)?;
        let is_loop = usize::from(keyword == "range");
        self.loops += is_loop;
        let (body, end) = self.list(depth + 1)?;
        self.loops -= is_loop;
        let otherwise = match end {
            Ending::Closed => Vec::new(),
            Ending::Text => return Err(unended(keyword)),
            Ending::Else(tokens) => match tokens.as_slice() {
                [] => {
                    let (nodes, end) = self.list(depth + 1)?;
                    let Ending::Closed = end else {
                        return Err(unended(keyword));
                    };
                    nodes
                }
                [Token::Word(word), rest @ ..] if word == "if" || word == "with" => {
                    vec![self.branch(word, rest, depth + 1)?]
                }
                _ => {
                    return Err(Problem::new(
                        "`else` is followed by something",
                        "write `{{else}}` or `{{else if .Field}}`",
                    ));
                }
            },
        };
        let branch = Branch {
            pipe,
            body,
            otherwise,
        };
        Ok(match keyword {
            "if" => Node::If(branch),
            "with" => Node::With(branch),
            _ => Node::Range(branch),
        })
    }
}

fn unended(keyword: &str) -> Problem {
    Problem::new(
        format!("`{keyword}` has no `end`"),
        "write `{{end}}` behind what belongs to it",
    )
}

fn too_deep() -> Problem {
    Problem::new(
        format!("it is nested deeper than {MAX_DEPTH} levels"),
        "make it flatter",
    )
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "else"
            | "end"
            | "range"
            | "with"
            | "break"
            | "continue"
            | "template"
            | "block"
            | "define"
    )
}

/// Reads a pipeline with the variables before it.
fn pipe(tokens: &[Token]) -> Result<Pipe, Problem> {
    if tokens.is_empty() {
        return Err(Problem::new("an action is empty", "write `{{.Name}}`"));
    }
    let (variables, declares, rest) = match tokens {
        [
            Token::Variable(a),
            Token::Sign(','),
            Token::Variable(b),
            Token::Declare,
            rest @ ..,
        ] => (vec![a.clone(), b.clone()], true, rest),
        [Token::Variable(a), Token::Declare, rest @ ..] => (vec![a.clone()], true, rest),
        [Token::Variable(a), Token::Sign('='), rest @ ..] => (vec![a.clone()], false, rest),
        rest => (Vec::new(), false, rest),
    };
    let mut words = Words {
        tokens: rest,
        at: 0,
    };
    let commands = words.commands(0)?;
    if words.at < rest.len() {
        return Err(Problem::new(
            "`)` closes nothing",
            "take it out, or write the `(` that it closes",
        ));
    }
    Ok(Pipe {
        variables,
        declares,
        commands,
    })
}

struct Words<'t> {
    tokens: &'t [Token],
    at: usize,
}

impl Words<'_> {
    /// The commands up to the end, or to a closing parenthesis.
    fn commands(&mut self, depth: usize) -> Result<Vec<Vec<Argument>>, Problem> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let mut commands = vec![Vec::new()];
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Sign(')') => break,
                Token::Sign('|') => commands.push(Vec::new()),
                token => {
                    let argument = self.argument(token, depth)?;
                    if let Some(command) = commands.last_mut() {
                        command.push(argument);
                    }
                    continue;
                }
            }
            self.at += 1;
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(Problem::new(
                "a command is missing before or after `|`, or in `()`",
                "write `{{.Name | upper}}`",
            ));
        }
        Ok(commands)
    }

    fn argument(&mut self, token: &Token, depth: usize) -> Result<Argument, Problem> {
        self.at += 1;
        let mut fields = Vec::new();
        let kind = match token {
            Token::Dot => Kind::Dot,
            Token::Field(name, _) => {
                fields.push(name.clone());
                Kind::Dot
            }
            Token::Variable(name) => Kind::Variable(name.clone()),
            Token::Text(text) => Kind::Literal(Value::from(text.as_str())),
            Token::Number(number) => Kind::Literal(Value::from(*number)),
            Token::Word(word) => match word.as_str() {
                "true" => Kind::Literal(Value::Bool(true)),
                "false" => Kind::Literal(Value::Bool(false)),
                "nil" => Kind::Literal(Value::Null),
                name => {
                    functions::check(name)?;
                    Kind::Function(name.to_owned())
                }
            },
            Token::Sign('(') => {
                let commands = self.commands(depth + 1)?;
                if self.tokens.get(self.at) != Some(&Token::Sign(')')) {
                    return Err(Problem::new("a `)` is missing", "close what `(` opens"));
                }
                self.at += 1;
                Kind::Pipe(Pipe {
                    variables: Vec::new(),
                    declares: false,
                    commands,
                })
            }
            Token::Sign(sign) => return Err(misplaced(&sign.to_string())),
            Token::Declare => return Err(misplaced(":=")),
        };
        while let Some(Token::Field(name, false)) = self.tokens.get(self.at) {
            fields.push(name.clone());
            self.at += 1;
        }
        Ok(Argument { kind, fields })
    }
}

fn misplaced(sign: &str) -> Problem {
    Problem::new(
        format!("`{sign}` stands where a value is expected"),
        "variables are written `{{$name := .Field}}`",
    )
}
