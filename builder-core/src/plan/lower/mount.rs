//! `RUN --mount`: fields to a typed mount.
//!
//! Follows the Dockerfile reference, "RUN --mount"; keys are taken in any order.

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::dockerfile::mount::{MountFlag, MountKey};
use crate::dockerfile::word::Word;
use crate::nearest::nearest;
use crate::plan::config::{clean, join_clean};
use crate::plan::scope::CACHE_NAMESPACE;
use crate::plan::step::{CacheSharing, CopyFrom, RunMount, RunMountKind};
use crate::source::Span;
use crate::tree::pattern;

use super::Lowering;

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// The fields of one mount after expansion.
struct Fields {
    values: BTreeMap<MountKey, (Option<String>, Span)>,
    span: Span,
}

type Found<T> = Result<T, Diagnostic>;

impl Fields {
    fn text(&self, key: MountKey) -> Option<&str> {
        self.values
            .get(&key)
            .and_then(|(value, _)| value.as_deref())
    }

    fn span(&self, key: MountKey) -> Span {
        self.values.get(&key).map_or(self.span, |(_, span)| *span)
    }

    fn problem(&self, key: MountKey, expected: &str) -> Diagnostic {
        let found = self.text(key).unwrap_or_default();
        let message = format!(
            "`{}` of a mount takes {expected}, found `{found}`",
            key.name()
        );
        Diagnostic::error("mount-value", self.span(key), message)
    }

    /// A switch: bare is true; none where it isn't there.
    fn switch(&self, key: MountKey) -> Found<Option<bool>> {
        let Some((value, _)) = self.values.get(&key) else {
            return Ok(None);
        };
        match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(self.problem(key, "`true` or `false`")),
        }
    }

    fn number(&self, key: MountKey, radix: u32, default: u32, expected: &str) -> Found<u32> {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        u32::from_str_radix(text, radix).map_err(|_| self.problem(key, expected))
    }

    fn mode(&self, default: u32) -> Found<u32> {
        let mode = self.number(MountKey::Mode, 8, default, "octal digits")?;
        if mode > 0o7777 {
            return Err(self.problem(MountKey::Mode, "octal digits up to 7777"));
        }
        Ok(mode)
    }

    fn owner(&self) -> Found<(u32, u32)> {
        let uid = self.number(MountKey::Uid, 10, 0, "a number")?;
        Ok((uid, self.number(MountKey::Gid, 10, 0, "a number")?))
    }

    /// Bytes, with `k`, `m`, `g` or `t` as factors of 1024.
    fn size(&self) -> Found<Option<u64>> {
        let Some(text) = self.text(MountKey::Size) else {
            return Ok(None);
        };
        let lower = text.to_ascii_lowercase();
        let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match lower.get(digits.len()..).unwrap_or_default() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(self.problem(MountKey::Size, "a number of bytes such as `64m`")),
        };
        let bytes = digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(1 << shift));
        bytes
            .map(Some)
            .ok_or_else(|| self.problem(MountKey::Size, "a number of bytes such as `64m`"))
    }

    /// Refuses keys that the type doesn't know.
    fn only(&self, kind: &str, known: &[MountKey]) -> Found<()> {
        let odd = self
            .values
            .keys()
            .find(|key| **key != MountKey::Type && !known.contains(key));
        match odd {
            None => Ok(()),
            Some(key) => {
                let message = format!("a mount of type `{kind}` has no key `{}`", key.name());
                Err(Diagnostic::error("mount-key", self.span(*key), message))
            }
        }
    }
}

impl Lowering<'_> {
    pub(super) fn mount(&mut self, flag: &MountFlag) -> Option<RunMount> {
        let fields = self.mount_fields(flag)?;
        let kind = fields.text(MountKey::Type).unwrap_or("bind").to_owned();
        let found = match kind.as_str() {
            "bind" => self.bind(&fields),
            "cache" => self.cache(&fields),
            "tmpfs" => self.tmpfs(&fields),
            "secret" => self.secret(&fields),
            "ssh" => self.ssh(&fields),
            other => {
                let message = format!("there is no mount of type `{other}`");
                let problem = Diagnostic::error("mount-type", fields.span(MountKey::Type), message);
                Err(match nearest(other, TYPES) {
                    Some(meant) => problem.with_help(format!("did you mean `{meant}`?")),
                    None => {
                        problem.with_help("types are `bind`, `cache`, `tmpfs`, `secret` and `ssh`")
                    }
                })
            }
        };
        match found {
            Ok(mount) => Some(mount),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn mount_fields(&mut self, flag: &MountFlag) -> Option<Fields> {
        let mut values = BTreeMap::new();
        for field in &flag.fields {
            let value = match &field.value {
                Some(word) if field.key == MountKey::From => Some(word.text.clone()),
                Some(word) => Some(self.expand(word)?),
                None => None,
            };
            values.insert(field.key, (value, field.span));
        }
        Some(Fields {
            values,
            span: flag.span,
        })
    }

    /// `readonly` and `readwrite` against the type's own default.
    fn read_only(fields: &Fields, default: bool) -> Found<bool> {
        let read_only = fields.switch(MountKey::ReadOnly)?;
        let read_write = fields.switch(MountKey::ReadWrite)?;
        Ok(match (read_only, read_write) {
            (Some(read_only), _) => read_only,
            (None, Some(read_write)) => !read_write,
            (None, None) => default,
        })
    }

    /// The target, absolute; none where the line names none. `/` can't be one.
    fn mount_target(&self, fields: &Fields) -> Found<Option<String>> {
        let text = fields
            .text(MountKey::Target)
            .filter(|text| !text.is_empty());
        text.map(|text| self.absolute_target(fields, text))
            .transpose()
    }

    /// The target of a mount that has one in any case: the WORKDIR itself where the line names none.
    fn target_or_workdir(&self, fields: &Fields) -> Found<Option<String>> {
        let text = fields.text(MountKey::Target).unwrap_or_default();
        self.absolute_target(fields, text).map(Some)
    }

    fn absolute_target(&self, fields: &Fields, text: &str) -> Found<String> {
        let path = join_clean(&self.working_dir(), text);
        if path != "/" {
            return Ok(path);
        }
        let span = fields.span(MountKey::Target);
        let problem = |message| Diagnostic::error("mount-target", span, message);
        Err(if text.is_empty() {
            problem("the mount has no target, and the WORKDIR, which it is then, is `/`")
                .with_help("add `target=/path`, or a WORKDIR above")
        } else {
            problem("a mount can't have the target `/`")
        })
    }

    fn mount_from(&self, fields: &Fields) -> Found<Option<CopyFrom>> {
        let Some(text) = fields.text(MountKey::From).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let word = Word {
            text: text.to_owned(),
            span: fields.span(MountKey::From),
        };
        self.graph
            .source(&word, self.node.index, false, self.options)
            .map(Some)
    }

    fn bind(&self, fields: &Fields) -> Found<RunMount> {
        use MountKey::{From, ReadOnly, ReadWrite, Source, Target};
        fields.only("bind", &[Target, Source, From, ReadOnly, ReadWrite])?;
        Ok(RunMount {
            kind: RunMountKind::Bind {
                from: self.mount_from(fields)?.unwrap_or(CopyFrom::Context),
                source: clean(fields.text(Source).unwrap_or("/")),
            },
            target: self.target_or_workdir(fields)?,
            read_only: Self::read_only(fields, true)?,
            span: fields.span,
        })
    }

    fn cache(&self, fields: &Fields) -> Found<RunMount> {
        use MountKey::{From, Gid, Id, Mode, ReadOnly, ReadWrite, Sharing, Source, Target, Uid};
        fields.only(
            "cache",
            &[
                Target, Source, From, ReadOnly, ReadWrite, Id, Sharing, Mode, Uid, Gid,
            ],
        )?;
        let target = self.target_or_workdir(fields)?;
        let written = fields.text(Target).unwrap_or_default();
        let id = fields.text(Id).filter(|id| !id.is_empty());
        // The id is the target as written, not as it is meant: BuildKit's caches are told apart by it.
        let id = id.map_or_else(|| pattern::clean(written), str::to_owned);
        let namespace = self.options.build_args.get(CACHE_NAMESPACE);
        let id = match namespace.filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => format!("{namespace}//{id}"),
            None => id,
        };
        let (uid, gid) = fields.owner()?;
        Ok(RunMount {
            kind: RunMountKind::Cache {
                id,
                sharing: match fields.text(Sharing).unwrap_or("shared") {
                    "shared" => CacheSharing::Shared,
                    "private" => CacheSharing::Private,
                    "locked" => CacheSharing::Locked,
                    _ => return Err(fields.problem(Sharing, "`shared`, `private` or `locked`")),
                },
                from: self.mount_from(fields)?,
                source: clean(fields.text(Source).unwrap_or("/")),
                mode: fields.mode(0o755)?,
                uid,
                gid,
            },
            target,
            read_only: Self::read_only(fields, false)?,
            span: fields.span,
        })
    }

    fn tmpfs(&self, fields: &Fields) -> Found<RunMount> {
        use MountKey::{ReadOnly, ReadWrite, Size, Target};
        fields.only("tmpfs", &[Target, Size, ReadOnly, ReadWrite])?;
        Ok(RunMount {
            kind: RunMountKind::Tmpfs {
                size: fields.size()?,
            },
            target: self.target_or_workdir(fields)?,
            read_only: Self::read_only(fields, false)?,
            span: fields.span,
        })
    }

    fn secret(&self, fields: &Fields) -> Found<RunMount> {
        use MountKey::{Env, Gid, Id, Mode, ReadOnly, ReadWrite, Required, Source, Target, Uid};
        fields.only(
            "secret",
            &[
                Target, Source, Id, Mode, Uid, Gid, Required, Env, ReadOnly, ReadWrite,
            ],
        )?;
        if fields.text(Source).is_some() && fields.text(Id).is_some() {
            let message = "a secret has both `id` and `source`, which mean the same";
            return Err(Diagnostic::error("mount-key", fields.span(Source), message));
        }
        let target = self.mount_target(fields)?;
        let named = fields
            .text(Id)
            .or(fields.text(Source))
            .filter(|id| !id.is_empty());
        let from_target = target
            .as_deref()
            .and_then(|target| target.rsplit('/').next());
        let Some(id) = named.or(from_target).map(str::to_owned) else {
            let problem = Diagnostic::error("mount-value", fields.span, "the secret has no `id`");
            return Err(problem.with_help("add `id=name`, as in `--secret id=name,…`"));
        };
        // Without a name the variable is called like the secret.
        let env = fields
            .text(Env)
            .map(|env| if env.is_empty() { &*id } else { env })
            .map(str::to_owned);
        let name = id.rsplit('/').next().unwrap_or_default();
        let default_target = env.is_none().then(|| format!("/run/secrets/{name}"));
        let (uid, gid) = fields.owner()?;
        Ok(RunMount {
            kind: RunMountKind::Secret {
                required: fields.switch(Required)?.unwrap_or(false),
                env,
                mode: fields.mode(0o400)?,
                uid,
                gid,
                id,
            },
            target: target.or(default_target),
            read_only: true,
            span: fields.span,
        })
    }

    fn ssh(&self, fields: &Fields) -> Found<RunMount> {
        use MountKey::{Gid, Id, Mode, ReadOnly, ReadWrite, Required, Target, Uid};
        fields.only(
            "ssh",
            &[Target, Id, Mode, Uid, Gid, Required, ReadOnly, ReadWrite],
        )?;
        let (uid, gid) = fields.owner()?;
        Ok(RunMount {
            kind: RunMountKind::Ssh {
                id: fields
                    .text(Id)
                    .filter(|id| !id.is_empty())
                    .unwrap_or("default")
                    .to_owned(),
                required: fields.switch(Required)?.unwrap_or(false),
                mode: fields.mode(0o600)?,
                uid,
                gid,
            },
            target: self.mount_target(fields)?,
            read_only: true,
            span: fields.span,
        })
    }
}
