//! Events as JSON lines on standard error, one object a line; `docs/events.md` describes them.

use std::io::Write as _;

use builder_core::diagnostic::Severity;
use builder_core::event::{Event, Settled, StepId, Stream};
use builder_core::source::{SourceFile, Span};
use serde_json::{Value, json};

use super::reasons;
use super::{Render, text};

/// The version of the format; it grows when a field changes its meaning or goes away.
const VERSION: u32 = 1;

/// JSON lines.
pub(crate) struct Json;

impl Render for Json {
    fn event(&mut self, event: Event) {
        let Some(mut value) = to_json(event) else {
            return;
        };
        value["version"] = VERSION.into();
        let _ = writeln!(
            std::io::stderr().lock(),
            "{}",
            text::json(&value.to_string())
        );
    }
}

fn place(file: &SourceFile, span: Span) -> Value {
    let (start, end) = (file.position(span.start), file.position(span.end));
    json!({ "file": file.name, "line": start.line, "column": start.column, "endLine": end.line, "endColumn": end.column })
}

fn output(id: StepId, stream: Stream, bytes: &[u8]) -> Value {
    let stream = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let text = String::from_utf8_lossy(bytes);
    json!({ "event": "stepOutput", "step": id.0, "stream": stream, "text": text })
}

fn to_json(event: Event) -> Option<Value> {
    Some(match event {
        Event::Planned {
            steps,
            stages,
            file,
        } => json!({ "event": "planned", "steps": steps, "stages": stages, "file": file.name }),
        Event::StageStarted { stage, base } => {
            json!({ "event": "stageStarted", "stage": stage, "base": base })
        }
        Event::StepStarted {
            id, stage, text, ..
        } => {
            json!({ "event": "stepStarted", "step": id.0, "stage": stage, "text": text })
        }
        Event::StepCached { id } => json!({ "event": "stepCached", "step": id.0 }),
        Event::StepMissed { id, reasons } => {
            let reasons: Vec<_> = reasons.iter().map(reasons::value).collect();
            json!({ "event": "stepMissed", "step": id.0, "reasons": reasons })
        }
        Event::StepOutput { id, stream, bytes } => output(id, stream, &bytes),
        Event::StepProgress {
            id,
            done_bytes,
            files,
        } => {
            json!({ "event": "stepProgress", "step": id.0, "doneBytes": done_bytes, "files": files })
        }
        Event::StepFinished {
            id,
            elapsed,
            layer_bytes,
        } => json!({
            "event": "stepFinished", "step": id.0, "milliseconds": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "layerBytes": layer_bytes,
        }),
        Event::Transfer {
            what,
            digest,
            done_bytes,
            total_bytes,
        } => json!({
            "event": "transfer", "what": what, "digest": digest.map(|digest| digest.to_string()),
            "doneBytes": done_bytes, "totalBytes": total_bytes,
        }),
        Event::Diagnostic { file, diagnostic } => json!({
            "event": "diagnostic",
            "severity": if diagnostic.severity == Severity::Error { "error" } else { "warning" },
            "rule": diagnostic.rule, "message": diagnostic.message, "place": place(&file, diagnostic.span),
            "notes": diagnostic.notes, "help": diagnostic.help,
        }),
        Event::BlobSettled { digest, bytes, how } => {
            let (how, from) = match how {
                Settled::Exists => ("exists", None),
                Settled::Mounted { from } => ("mounted", Some(from)),
                Settled::Pushed => ("pushed", None),
                Settled::Pulled => ("pulled", None),
            };
            json!({ "event": "blobSettled", "digest": digest.to_string(), "bytes": bytes, "how": how, "from": from })
        }
        Event::ImagePushed { reference, digest } => {
            json!({ "event": "imagePushed", "reference": reference, "digest": digest.to_string() })
        }
        Event::Notice { message } => json!({ "event": "notice", "message": message }),
        Event::ImageWritten { references, digest } => {
            json!({ "event": "imageWritten", "references": references, "digest": digest.to_string() })
        }
        Event::OutputWritten {
            kind,
            destination,
            bytes,
        } => {
            json!({ "event": "outputWritten", "kind": kind, "destination": destination, "bytes": bytes })
        }
        _ => return None,
    })
}
