//! `--output type=image` and `type=registry`: where the image is pushed to, and in which form.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use builder_core::Result;
use builder_core::build::request::ImageForm;
use builder_core::layer::Compression;
use builder_core::reference::Reference;

use super::fields::switch;
use super::{compression, usage};

const FLAG: &str = "--output";

/// What the fields of all outputs say of the image itself.
#[derive(Debug, Default)]
pub(super) struct ImageFields {
    /// Further names.
    pub(super) names: Vec<Reference>,
    /// Whether it goes to its registries.
    pub(super) push: bool,
    /// Media types, compression of the base, tags.
    pub(super) form: ImageForm,
    /// The registries of its names are insecure.
    pub(super) insecure: bool,
    /// How layers are compressed.
    pub(super) compression: Option<Compression>,
    /// Annotations of the manifest.
    pub(super) annotations: BTreeMap<String, String>,
}

impl ImageFields {
    /// Takes the fields that are about the image out of those of one output. `pushes` is whether it does so by itself.
    ///
    /// # Errors
    /// A value that can't be meant.
    pub(super) fn take(
        &mut self,
        fields: &mut BTreeMap<String, String>,
        pushes: bool,
    ) -> Result<()> {
        let mut flag = |key: &str| match fields.remove(key) {
            Some(value) => switch(FLAG, key, &value).map(Some),
            None => Ok(None),
        };
        self.push |= flag("push")?.unwrap_or(pushes);
        self.form.by_digest |= flag("push-by-digest")?.unwrap_or(false);
        // The name with the digest is what a push by digest has anyway.
        flag("name-canonical")?;
        self.insecure |= flag("registry.insecure")?.unwrap_or(false);
        self.form.force_compression |= flag("force-compression")?.unwrap_or(false);
        self.form.docker_types |= !flag("oci-mediatypes")?.unwrap_or(true);
        // The image is in rbuild's store in any case, and nothing is unpacked.
        flag("store")?;
        if flag("unpack")? == Some(true) {
            return Err(usage(
                "--output unpack=true can't be honoured: there is no daemon to unpack for",
            )
            .with_help("leave it out, or write the files with `type=local,dest=DIR`"));
        }
        self.take_compression(fields)?;
        for name in fields.remove("name").unwrap_or_default().split(',') {
            let name = name.trim();
            if name.is_empty() {
                continue;
            }
            let reference = Reference::from_str(name).map_err(|error| {
                usage(format!("--output name: {error}")).with_help(
                    "write `[REGISTRY/]REPOSITORY[:TAG]`; several in quotes: `\"name=A,B\"`",
                )
            })?;
            self.names.push(reference);
        }
        let annotations: Vec<String> = fields
            .keys()
            .filter(|key| key.starts_with("annotation.") || key.starts_with("annotation-manifest."))
            .cloned()
            .collect();
        for key in annotations {
            let value = fields.remove(&key).unwrap_or_default();
            let name = key.split_once('.').map_or("", |(_, name)| name);
            self.annotations.insert(name.to_owned(), value);
        }
        Ok(())
    }

    fn take_compression(&mut self, fields: &mut BTreeMap<String, String>) -> Result<()> {
        let kind = fields.remove("compression");
        let level = fields.remove("compression-level");
        let Some(found) = compression_of(FLAG, kind.as_deref(), level.as_deref())? else {
            return Ok(());
        };
        if self.compression.is_some_and(|known| known != found) {
            return Err(
                usage("two outputs want different compressions of one image")
                    .with_help("one build makes one image: build twice, or give both the same"),
            );
        }
        self.compression = Some(found);
        Ok(())
    }
}

/// `compression=` and `compression-level=` as BuildKit has them; none where neither is there.
///
/// # Errors
/// A kind or a level that is unknown, or none of rbuild's.
pub(super) fn compression_of(
    flag: &str,
    kind: Option<&str>,
    level: Option<&str>,
) -> Result<Option<Compression>> {
    if kind == Some("estargz") {
        return Err(
            usage(format!("{flag} compression=estargz can't be honoured"))
                .with_help("write gzip, zstd or uncompressed"),
        );
    }
    let text = match (kind, level) {
        (None, None) => return Ok(None),
        (Some("uncompressed"), _) => "none".to_owned(),
        (kind, None) => kind.unwrap_or("gzip").to_owned(),
        (kind, Some(level)) => format!("{}:{level}", kind.unwrap_or("gzip")),
    };
    compression(&text).map(Some).map_err(|_| {
        usage(format!("{flag} compression `{text}` is unknown"))
            .with_help("write compression=gzip, zstd or uncompressed, and compression-level=0 to 9 for gzip, 1 to 19 for zstd")
    })
}
