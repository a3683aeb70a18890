//! `rbuild inspect`: all that is known of images, as JSON.

use builder_core::catalog::{self, inspect};
use builder_core::{Error, ErrorKind, Result};
use serde_json::Value;

use super::{open_store, platform, print};
use crate::environment::Environment;
use crate::flags::images::InspectFlags;
use crate::template::Template;

/// Prints a list of documents, or what a template makes of each.
pub(crate) fn run(flags: &InspectFlags, environment: &Environment) -> Result<()> {
    if let Some(kind) = flags.kind.as_deref().filter(|kind| *kind != "image") {
        let message = format!("--type={kind}: rbuild has images only");
        return Err(Error::new(ErrorKind::Usage, message).with_help("leave it out"));
    }
    let format = flags.format.as_deref().filter(|format| *format != "json");
    let template =
        format.map(|text| Template::parse(&text.replace("\\t", "\t").replace("\\n", "\n")));
    let template = template.transpose()?;
    let platform = platform(flags.platform.as_deref())?;
    let store = open_store(&flags.store, environment)?;
    let names: Vec<&str> = flags.images.iter().map(String::as_str).collect();
    let mut documents = Vec::new();
    for found in catalog::find_all(&store, &names)? {
        documents.push(inspect::inspect(&store, &found, platform.as_ref())?);
    }
    let Some(template) = template else {
        let documents = Value::Array(documents);
        // Compact for a program that asks for it, as Docker's.
        return match flags.format {
            Some(_) => print(&format!("{documents}\n")),
            None => print(&format!("{documents:#}\n")),
        };
    };
    let mut text = String::new();
    for document in &documents {
        text.push_str(&template.render(document)?);
        text.push('\n');
    }
    print(&text)
}
