//! `rbuild history`: a line an instruction, with the layer that it made.

use builder_core::Result;
use builder_core::catalog::{self, history};
use serde_json::{Value, json};

use super::{open_store, platform, print};
use crate::environment::Environment;
use crate::flags::images::HistoryFlags;
use crate::render::one_line;
use crate::render::table::{ago, at, rows, size, titles};

/// So many letters of an instruction are shown.
const INSTRUCTION: usize = 45;

/// Prints the history, the newest instruction first.
pub(crate) fn run(flags: &HistoryFlags, environment: &Environment) -> Result<()> {
    let store = open_store(&flags.store, environment)?;
    let found = catalog::find(&store, &flags.image)?;
    let platform = platform(flags.platform.as_deref())?;
    let lines = history::of(&store, &found.shown(), &found.descriptor, platform.as_ref())?;
    let whole = flags.format.no_trunc;
    // What an instruction made has no name of its own but the last, which is the image.
    let id = |number: usize| match (number, whole) {
        (0, true) => found.descriptor.digest.to_string(),
        (0, false) => found.descriptor.digest.short(),
        _ => "<missing>".to_owned(),
    };
    if flags.format.quiet && flags.format.format.is_none() {
        let ids: Vec<String> = (0..lines.len())
            .map(|number| format!("{}\n", id(number)))
            .collect();
        return print(&ids.concat());
    }
    let row = |(number, line): (usize, &history::Line)| -> Value {
        let instruction = line.created_by.replace('\t', " ");
        let created = if flags.human {
            ago(line.created, environment.now)
        } else {
            at(line.created)
        };
        let bytes = if flags.human {
            size(line.size)
        } else {
            line.size.to_string()
        };
        json!({
            "ID": id(number),
            "CreatedAt": line.created.map_or_else(|| "N/A".to_owned(), builder_core::timestamp::Timestamp::to_rfc3339),
            "CreatedSince": created,
            "CreatedBy": if whole { instruction } else { one_line(&instruction, INSTRUCTION) },
            "Size": bytes,
            "Comment": line.comment,
            "Layer": line.layer.map(|layer| layer.to_string()).unwrap_or_default(),
        })
    };
    let data: Vec<Value> = lines.iter().enumerate().map(row).collect();
    let titles = titles(&[
        ("ID", "IMAGE"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedSince", "CREATED"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
        ("Layer", "LAYER"),
    ]);
    let default = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
    let format = flags.format.format.as_deref();
    print(&rows(format, default, &titles, &data)?)
}
