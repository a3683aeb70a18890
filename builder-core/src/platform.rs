//! The platform of an image: operating system, architecture, variant.
//!
//! Follows the OCI image index specification ("platform") for the names, and the rules that Docker's tools apply to
//! what a user types: aliases (`x86_64`, `aarch64`, `armhf`), `arm64` without `v8`, `arm` with `v7` where none is given.

use std::fmt;
use std::str::FromStr;

/// A normalised platform, for example `linux/amd64` or `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// Go's name of the operating system: `linux`, `windows`.
    pub os: String,
    /// Go's name of the architecture: `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// The variant of the CPU, such as `v7`; empty where there is none.
    pub variant: String,
    /// The version of the operating system; empty except for Windows images.
    pub os_version: String,
}

impl Platform {
    /// Normalises the three parts as Docker's tools do.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) = normalise(
            &architecture.to_ascii_lowercase(),
            &variant.to_ascii_lowercase(),
        );
        Self {
            os,
            architecture,
            variant,
            os_version: String::new(),
        }
    }

    /// The platform that this program was compiled for, with Linux as the operating system.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, "")
    }

    /// Whether an image of platform `offered` runs where this platform is asked for: equal, or an older variant of
    /// `arm` where a newer one is asked for.
    pub fn accepts(&self, offered: &Self) -> bool {
        self.os == offered.os
            && self.architecture == offered.architecture
            && (self.variant == offered.variant || self.rank(offered).is_some())
    }

    /// How well `offered` fits, less is better: 0 is equal. None where it doesn't fit.
    pub fn rank(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if self.variant == offered.variant {
            return Some(0);
        }
        let level = |variant: &str| {
            variant
                .strip_prefix('v')
                .and_then(|number| number.parse::<u32>().ok())
        };
        let default = match self.architecture.as_str() {
            "arm64" => Some(8),
            "amd64" => Some(1),
            "arm" => Some(7),
            _ => None,
        };
        let asked = level(&self.variant).or(default)?;
        let given = level(&offered.variant).or(default)?;
        asked.checked_sub(given)
    }
}

fn normalise(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "v9" | "9" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.to_owned(), variant.to_owned())
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// Reads `os/arch[/variant]`, an architecture alone (`arm64`), or an operating system alone (`linux`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = || ParsePlatformError(text.to_owned());
        let legal = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-.()".contains(&byte))
        };
        let parts: Vec<&str> = text.trim().split('/').collect();
        if !parts.iter().all(legal) {
            return Err(problem());
        }
        match parts.as_slice() {
            [one] if is_os(&one.to_ascii_lowercase()) => {
                Ok(Self::new(one, std::env::consts::ARCH, ""))
            }
            [one] if is_architecture(&one.to_ascii_lowercase()) => Ok(Self::new("linux", one, "")),
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(problem()),
        }
    }
}

fn is_os(name: &str) -> bool {
    matches!(
        name,
        "linux"
            | "windows"
            | "darwin"
            | "macos"
            | "freebsd"
            | "netbsd"
            | "openbsd"
            | "solaris"
            | "wasip1"
    )
}

fn is_architecture(name: &str) -> bool {
    let (architecture, _) = normalise(name, "");
    matches!(
        architecture.as_str(),
        "386"
            | "amd64"
            | "arm"
            | "arm64"
            | "loong64"
            | "mips"
            | "mipsle"
            | "mips64"
            | "mips64le"
            | "ppc64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "wasm"
    )
}

/// A text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a platform; expected `os/architecture[/variant]`, such as `linux/amd64` or `linux/arm/v7`"
)]
pub struct ParsePlatformError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_what_users_type() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("LINUX/AMD64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("linux/i386", "linux/386"),
        ] {
            assert_eq!(
                text.parse::<Platform>().unwrap().to_string(),
                normal,
                "{text}"
            );
        }
        for text in ["", "linux/", "a/b/c/d", "linux/am d64", "nonsense"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn accepts_older_variants_only() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        assert!(platform("linux/arm/v7").accepts(&platform("linux/arm/v6")));
        assert!(!platform("linux/arm/v6").accepts(&platform("linux/arm/v7")));
        assert!(!platform("linux/amd64").accepts(&platform("linux/arm64")));
        assert_eq!(
            platform("linux/arm/v7").rank(&platform("linux/arm/v5")),
            Some(2)
        );
    }
}
