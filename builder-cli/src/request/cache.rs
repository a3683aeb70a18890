//! `--cache-from` and `--cache-to`: `type=…` with fields as comma-separated values, or an image's name alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use builder_core::Result;
use builder_core::cache::shared::{CacheFrom, CacheMode, CacheTarget, CacheTo, Mounts};
use builder_core::layer::Compression;
use builder_core::plan::scope::switch;
use builder_core::reference::Reference;

use super::fields::{split, switch as flag_of};
use super::image_output::compression_of;
use super::usage;

/// The build argument by which Docker's users ask for a record within the image.
const INLINE_ARGUMENT: &str = "BUILDKIT_INLINE_CACHE";

/// A record within the image.
const INLINE: CacheTo = CacheTo {
    target: CacheTarget::Inline,
    mode: CacheMode::Min,
    mounts: Mounts::None,
    ignore_error: false,
    ignore_existing: false,
};

/// What the flags say of caches of other machines.
#[derive(Debug, Default)]
pub(super) struct Caches {
    /// Those to read.
    pub(super) from: Vec<CacheFrom>,
    /// Those to write.
    pub(super) to: Vec<CacheTo>,
    /// How they want layers compressed, which are those of the image.
    pub(super) compression: Option<Compression>,
}

/// Reads both flags. `directory` is what relative paths start from.
pub(super) fn parse(
    from: &[String],
    to: &[String],
    arguments: &BTreeMap<String, String>,
    directory: &Path,
) -> Result<Caches> {
    let mut caches = Caches::default();
    for spec in from {
        caches.from.push(one_from(spec, directory)?);
    }
    for spec in to {
        let to = one_to(spec, directory, &mut caches.compression)?;
        caches.to.push(to);
    }
    let asked = arguments.get(INLINE_ARGUMENT);
    let plain = |one: &CacheFrom| matches!(one, CacheFrom::Image(_));
    // Who reads a record from an image wants the next image to have one.
    let wanted =
        asked.and_then(|value| switch(value)) == Some(true) || caches.from.iter().any(plain);
    let inline = |to: &CacheTo| to.target == CacheTarget::Inline;
    if wanted && !caches.to.iter().any(inline) {
        caches.to.push(INLINE);
    }
    Ok(caches)
}

fn one_from(spec: &str, directory: &Path) -> Result<CacheFrom> {
    const FLAG: &str = "--cache-from";
    if !spec.contains('=') {
        return Ok(CacheFrom::Image(reference(FLAG, spec)?));
    }
    refuse_mounts_of_image(FLAG, spec)?;
    let mut fields = Fields::read(FLAG, spec)?;
    let mounts = fields.mounts()?;
    let cache = match fields.kind()?.as_str() {
        "registry" => CacheFrom::Registry(reference(FLAG, &fields.needed("ref")?)?, mounts),
        "local" => {
            // Buildx' choice among several caches in one directory: rbuild keeps one.
            fields.take("tag");
            fields.take("digest");
            CacheFrom::Local(directory.join(fields.needed("src")?), mounts)
        }
        kind => return Err(unknown(FLAG, kind)),
    };
    fields.end("`type`, `ref`, `src` and `mounts`")?;
    Ok(cache)
}

fn one_to(spec: &str, directory: &Path, compression: &mut Option<Compression>) -> Result<CacheTo> {
    const FLAG: &str = "--cache-to";
    let whole;
    let spec = if spec.contains('=') {
        spec
    } else if spec == "inline" {
        "type=inline"
    } else {
        whole = format!("type=registry,ref={spec}");
        &whole
    };
    refuse_mounts_of_image(FLAG, spec)?;
    let mut fields = Fields::read(FLAG, spec)?;
    let kind = fields.kind()?;
    let mounts = fields.mounts()?;
    let mode = match fields.take("mode").as_deref() {
        None | Some("min") => CacheMode::Min,
        Some("max") => CacheMode::Max,
        Some(other) => {
            return Err(
                usage(format!("{FLAG} mode=`{other}` is unknown")).with_help(
                    "write `mode=min` (layers of the image) or `mode=max` (of all stages)",
                ),
            );
        }
    };
    let ignore_error = fields.flag("ignore-error", false)?;
    let ignore_existing = fields.flag("ignore-existing", false)?;
    // Records are OCI artifacts, each a manifest of its own, and to a registry that takes nothing else, images: whatever
    // is asked for, what is written is what the registry takes.
    for format in ["oci-mediatypes", "image-manifest"] {
        fields.flag(format, true)?;
    }
    let (kind_of, level) = (fields.take("compression"), fields.take("compression-level"));
    if let Some(found) = compression_of(FLAG, kind_of.as_deref(), level.as_deref())? {
        if compression.is_some_and(|known| known != found) {
            return Err(
                usage("two caches want different compressions of the same layers")
                    .with_help("give them the same"),
            );
        }
        *compression = Some(found);
    }
    // All layers that a build makes have its compression: there are no others to force.
    fields.flag("force-compression", false)?;
    let target = match kind.as_str() {
        "registry" => CacheTarget::Registry(reference(FLAG, &fields.needed("ref")?)?),
        "local" => {
            fields.take("tag");
            CacheTarget::Local(directory.join(fields.needed("dest")?))
        }
        "inline" if !mounts.is_none() => return Err(no_mounts(FLAG, spec)),
        "inline" => {
            fields.end("`type`")?;
            return Ok(INLINE);
        }
        kind => return Err(unknown(FLAG, kind)),
    };
    fields.end(
        "`type`, `ref`, `dest`, `mode`, `mounts`, `ignore-error`, `ignore-existing`, `compression` and `compression-level`",
    )?;
    Ok(CacheTo {
        target,
        mode,
        mounts,
        ignore_error,
        ignore_existing,
    })
}

/// Refuses cache mounts of what is named as an image: `IMAGE,mounts=…`.
fn refuse_mounts_of_image(flag: &str, spec: &str) -> Result<()> {
    let mut fields = spec.split(',');
    let plain = fields.next().is_some_and(|first| !first.contains('='));
    if plain && fields.any(|field| field.trim_start().starts_with("mounts=")) {
        return Err(no_mounts(flag, spec));
    }
    Ok(())
}

fn no_mounts(flag: &str, spec: &str) -> builder_core::Error {
    usage(format!("{flag} `{spec}`: an image carries no cache mounts")).with_help(
        "give them a place of their own: `type=registry,ref=…,mounts=true`, or `type=local`",
    )
}

fn unknown(flag: &str, kind: &str) -> builder_core::Error {
    match kind {
        "gha" | "s3" | "azblob" => usage(format!(
            "{flag} type={kind} can't be honoured: it needs a service of its own"
        ))
        .with_help("any OCI registry will do: `type=registry,ref=REGISTRY/REPOSITORY:TAG`"),
        _ => usage(format!("{flag} type `{kind}` is unknown"))
            .with_help("write registry, local, or inline (for --cache-to)"),
    }
}

fn reference(flag: &str, text: &str) -> Result<Reference> {
    let parsed: Reference = text.parse().map_err(|error| {
        usage(format!("{flag} `{text}`: {error}")).with_help("write `[REGISTRY/]REPOSITORY[:TAG]`")
    })?;
    if flag == "--cache-to" && parsed.digest().is_some() {
        return Err(usage(format!(
            "{flag} `{text}` has a digest, so it can't be written"
        ))
        .with_help("name a tag"));
    }
    Ok(parsed)
}

/// The fields of a specification, taken one by one.
struct Fields<'s> {
    flag: &'static str,
    spec: &'s str,
    values: BTreeMap<String, String>,
}

impl<'s> Fields<'s> {
    fn read(flag: &'static str, spec: &'s str) -> Result<Self> {
        let mut fields = BTreeMap::new();
        for field in split(flag, spec)? {
            let (key, value) = field.split_once('=').ok_or_else(|| {
                usage(format!("{flag} `{spec}`: `{field}` is no `key=value`"))
                    .with_help("write `type=registry,ref=REGISTRY/REPOSITORY:TAG`")
            })?;
            fields.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
        Ok(Self {
            flag,
            spec,
            values: fields,
        })
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.values.remove(key)
    }

    fn kind(&mut self) -> Result<String> {
        self.take("type").ok_or_else(|| {
            usage(format!("{} `{}` has no type", self.flag, self.spec))
                .with_help("write `type=registry,ref=…` or `type=local,…`")
        })
    }

    fn needed(&mut self, key: &str) -> Result<String> {
        let value = self.take(key).filter(|value| !value.is_empty());
        value.ok_or_else(|| {
            usage(format!("{} `{}` has no `{key}`", self.flag, self.spec))
                .with_help(format!("add `,{key}=…`"))
        })
    }

    fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        let value = self.take(key);
        value.map_or(Ok(default), |value| flag_of(self.flag, key, &value))
    }

    /// `mounts=true`, or ids with semicolons between them.
    fn mounts(&mut self) -> Result<Mounts> {
        let Some(value) = self.take("mounts") else {
            return Ok(Mounts::None);
        };
        match value.as_str() {
            "true" | "1" => return Ok(Mounts::All),
            "false" | "0" => return Ok(Mounts::None),
            _ => {}
        }
        let ids = value.split(';').map(str::trim);
        let ids: BTreeSet<String> = ids.filter(|id| !id.is_empty()).map(str::to_owned).collect();
        if ids.is_empty() {
            return Err(usage(format!(
                "{} `{}`: `mounts` names none",
                self.flag, self.spec
            ))
            .with_help(
                "write `mounts=true`, or ids of cache mounts as in `mounts=/root/.cache;go`",
            ));
        }
        Ok(Mounts::Named(ids))
    }

    fn end(&self, known: &str) -> Result<()> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(key) => Err(usage(format!(
                "{} `{}`: rbuild has no `{key}`",
                self.flag, self.spec
            ))
            .with_help(format!("it has {known}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caches(from: &[&str], to: &[&str], arguments: &[(&str, &str)]) -> Result<Caches> {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let arguments = arguments.iter().map(pair).collect();
        parse(&owned(from), &owned(to), &arguments, Path::new("/w"))
    }

    #[test]
    fn every_spelling_of_docker_is_understood() {
        let image: Reference = "r.example.com/a/b:c".parse().unwrap();
        let text = "r.example.com/a/b:c";
        let registry = format!("type=registry,ref={text}");
        let found = caches(&[text, &registry, "type=local,src=d"], &[], &[]).unwrap();
        let expected = [
            CacheFrom::Image(image.clone()),
            CacheFrom::Registry(image.clone(), Mounts::None),
            CacheFrom::Local("/w/d".into(), Mounts::None),
        ];
        assert_eq!(found.from, expected);
        assert_eq!(found.to, [INLINE]);
        let max = format!(
            "{registry},mode=max,ignore-error=true,oci-mediatypes=false,image-manifest=true,force-compression=true"
        );
        let found = caches(&[&registry], &[&max, text, "type=local,dest=/d"], &[]).unwrap();
        let to = |target, mode, ignore_error| CacheTo {
            target,
            mode,
            mounts: Mounts::None,
            ignore_error,
            ignore_existing: false,
        };
        let expected = [
            to(CacheTarget::Registry(image.clone()), CacheMode::Max, true),
            to(CacheTarget::Registry(image), CacheMode::Min, false),
            to(CacheTarget::Local("/d".into()), CacheMode::Min, false),
        ];
        assert_eq!(found.to, expected);
    }

    #[test]
    fn cache_mounts_travel_when_someone_asks() {
        let named = |ids: &[&str]| Mounts::Named(ids.iter().map(ToString::to_string).collect());
        for (field, expected) in [
            ("", Mounts::None),
            (",mounts=false", Mounts::None),
            (",mounts=true", Mounts::All),
            (",mounts=1", Mounts::All),
            (",mounts=go", named(&["go"])),
            (",mounts=/root/.cache; go;", named(&["/root/.cache", "go"])),
            (",mounts=a=b", named(&["a=b"])),
        ] {
            let (from, to) = (
                format!("type=local,src=d{field}"),
                format!("type=registry,ref=a/b{field}"),
            );
            let found = caches(&[&from], &[&to], &[]).unwrap();
            let local = CacheFrom::Local("/w/d".into(), expected.clone());
            assert_eq!(found.from, [local], "{field}");
            assert_eq!(found.to[0].mounts, expected, "{field}");
        }
    }

    #[test]
    fn an_image_carries_its_record_when_someone_asks() {
        for (to, arguments, expected) in [
            (&["type=inline"][..], &[][..], true),
            (&["inline"], &[], true),
            (&[], &[("BUILDKIT_INLINE_CACHE", "1")], true),
            (&[], &[("BUILDKIT_INLINE_CACHE", "0")], false),
            (&[], &[], false),
        ] {
            let found = caches(&[], to, arguments).unwrap();
            assert_eq!(found.to == [INLINE], expected, "{to:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (from, to, expected) in [
            (Some("type=gha"), None, "service of its own"),
            (Some("type=registry"), None, "has no `ref`"),
            (Some("type=local,dest=x"), None, "has no `src`"),
            (Some("ref=a/b"), None, "has no type"),
            (Some("type=registry,ref=a,x=y"), None, "no `x`"),
            (
                Some("a/b,mounts=true"),
                None,
                "an image carries no cache mounts",
            ),
            (
                None,
                Some("a/b,mounts=go"),
                "an image carries no cache mounts",
            ),
            (
                None,
                Some("inline,mounts=go"),
                "an image carries no cache mounts",
            ),
            (
                None,
                Some("type=inline,mounts=true"),
                "an image carries no cache mounts",
            ),
            (
                Some("type=local,src=x,mounts=;"),
                None,
                "`mounts` names none",
            ),
            (Some("Upper/Case"), None, "--cache-from `Upper/Case`"),
            (None, Some("type=inline,mode=max,ref=x"), "no `ref`"),
            (None, Some("type=registry,ref=a,mode=all"), "mode=`all`"),
            (
                None,
                Some("type=registry,ref=a,compression=lz4"),
                "compression `lz4`",
            ),
            (
                None,
                Some("type=registry,ref=a,ignore-error=x"),
                "ignore-error=`x`",
            ),
            (
                None,
                Some("a/b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
                "digest",
            ),
        ] {
            let one = |spec: Option<&'static str>| spec.into_iter().collect::<Vec<_>>();
            let error = caches(&one(from), &one(to), &[]).unwrap_err();
            assert!(error.message().contains(expected), "{}", error.message());
        }
    }
}
