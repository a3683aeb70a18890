//! Templates as Docker's tools take them with `--format`: the language of Go's `text/template`, over JSON values.
//!
//! What scripts use is here: fields, `index`, `json`, `range`, `if`, `with`, variables, pipelines, comparison, `printf`
//! and the functions that Docker adds. What is not (`template`, `block`, `define`, `call`, methods) is refused by name.
//! `docs/decisions/0037-templates-of-our-own.md` says why no crate does it.

mod eval;
mod functions;
mod lex;
mod parse;
mod print;

use builder_core::{Error, ErrorKind, Result};
use serde_json::Value;

/// A template, read and checked.
#[derive(Debug)]
pub(crate) struct Template(Vec<parse::Node>);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is no template, or asks for what rbuild doesn't have; the help says what was expected.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let read = lex::split(text).and_then(parse::nodes);
        read.map(Self).map_err(|problem| wrong(text, &problem))
    }

    /// The text that it makes of a value.
    ///
    /// # Errors
    /// A field that the value doesn't have, or a function that is given what it can't take.
    pub(crate) fn render(&self, value: &Value) -> Result<String> {
        eval::render(&self.0, value).map_err(|problem| {
            Error::new(ErrorKind::Usage, format!("--format: {}", problem.message))
                .with_help(problem.help)
        })
    }
}

/// What is wrong with a template.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    message: String,
    help: String,
}

impl Problem {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }
}

fn wrong(text: &str, problem: &Problem) -> Error {
    let message = format!("--format `{text}`: {}", problem.message);
    Error::new(ErrorKind::Usage, message).with_help(problem.help.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_scripts_write() {
        let value = json!({
            "Repository": "app", "Tag": "1", "ID": "abc", "Size": 12, "Empty": "", "None": null,
            "RepoTags": ["app:1", "app:2"],
            "Config": {
                "Env": ["A=1", "B=<x>"], "Labels": {"a.b/c": "x", "z": "y"}, "Cmd": null,
                "ExposedPorts": {"80/tcp": {}},
            },
        });
        for (template, expected) in [
            ("{{.Repository}}:{{.Tag}}", "app:1"),
            ("{{ .ID }} {{.Size}}", "abc 12"),
            ("{{json .Config.Env}}", r#"["A=1","B=\u003cx\u003e"]"#),
            ("{{json .Config.Cmd}}{{json .Size}}", "null12"),
            ("{{index .RepoTags 0}}", "app:1"),
            (r#"{{index .Config.Labels "a.b/c"}}"#, "x"),
            (r#"{{index .Config.Labels "none"}}"#, ""),
            ("{{index .Config.Labels `z`}}", "y"),
            (r"{{(index .RepoTags 1)}}", "app:2"),
            (
                "{{.Config.Labels.z}} {{.Config.Labels.none}}",
                "y <no value>",
            ),
            ("{{range .Config.Env}}{{.}}\n{{end}}", "A=1\nB=<x>\n"),
            ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=<x>\n"),
            (
                "{{range $i, $e := .RepoTags}}{{if $i}}, {{end}}{{$e}}{{end}}",
                "app:1, app:2",
            ),
            (
                "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
                "a.b/c=x;z=y;",
            ),
            (
                "{{range $p, $_ := .Config.ExposedPorts}}{{$p}}{{end}}",
                "80/tcp",
            ),
            ("{{range .None}}x{{else}}none{{end}}", "none"),
            ("{{if .Empty}}a{{else if .Tag}}b{{else}}c{{end}}", "b"),
            ("{{with .Config.Cmd}}a{{else}}b{{end}}", "b"),
            ("{{with .Config}}{{index .Env 0}} {{$.Tag}}{{end}}", "A=1 1"),
            (
                "{{.Config.Env}} {{.Config.Labels}}",
                "[A=1 B=<x>] map[a.b/c:x z:y]",
            ),
            ("{{len .RepoTags}}{{len .Repository}}", "23"),
            (r#"{{join .RepoTags ","}}"#, "app:1,app:2"),
            (r#"{{index (split "a:b" ":") 1}}"#, "b"),
            ("{{.Repository | upper}} {{title .Repository}}", "APP App"),
            (
                r#"{{printf "%s-%d %5s|%-5s|%q %v %%" .Tag .Size .ID .ID .Tag .RepoTags}}"#,
                "1-12   abc|abc  |\"1\" [app:1 app:2] %",
            ),
            (
                r#"{{if eq .Tag "2" "1"}}yes{{end}}{{if and (ne .Size 3) (gt .Size 3)}}!{{end}}"#,
                "yes!",
            ),
            (
                r#"{{or .Empty "b"}}{{and .Tag "c"}}{{not .Empty}}"#,
                "bctrue",
            ),
            ("a {{- .Tag -}} b", "a1b"),
            ("{{/* nothing */}}x{{- /* more */ -}} y", "xy"),
            ("{{$t := .Tag}}{{$t}}{{$t = \"2\"}}{{$t}}", "12"),
            (
                "{{slice .Repository 1 3}}{{truncate .Repository 2}}",
                "ppap",
            ),
            (
                "{{json .Config.Labels | printf `%s`}}",
                r#"{"a.b/c":"x","z":"y"}"#,
            ),
            (
                "{{range .RepoTags}}{{if eq . \"app:2\"}}{{break}}{{end}}{{.}}{{end}}",
                "app:1",
            ),
            ("{{\"{{\"}}no{{`}}`}}", "{{no}}"),
        ] {
            let made = Template::parse(template).and_then(|one| one.render(&value));
            assert_eq!(made.as_deref().ok(), Some(expected), "{template}: {made:?}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let value = json!({"Repository": "app", "Labels": {"a": "b"}, "List": [1]});
        for (template, said) in [
            ("{{.Repositry}}", "Repositry"),
            ("{{.Repository", "not closed"),
            ("{{if .Repository}}x", "end"),
            ("{{end}}", "end"),
            ("{{nonsense .}}", "nonsense"),
            ("{{template \"x\"}}", "template"),
            ("{{index .List 3}}", "3"),
            ("{{index .List -1}}", "-1"),
            ("{{.Repository.Name}}", "Name"),
            ("{{\"open}}", "not closed"),
            ("{{$x}}", "$x"),
            ("{{}}", "empty"),
            ("{{(.Repository}}", ")"),
            ("{{slice .Repository 5}}", "5"),
            ("{{printf \"%s\"}}", "argument"),
            ("{{len 3}}", "len"),
            ("{{.List | }}", "after"),
            ("{{range}}{{end}}", "range"),
        ] {
            let made = Template::parse(template).and_then(|one| one.render(&value));
            let error = made.expect_err(template);
            assert!(error.message().contains(said), "{template}: {error}");
            assert!(error.help().is_some(), "{template}");
        }
        // Depth is bounded, so that no text ends the program.
        let deep = format!("{{{{{}1{}}}}}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(Template::parse(&deep).is_err());
        let deep = "{{if .List}}".repeat(10_000);
        assert!(Template::parse(&deep).is_err());
    }
}
