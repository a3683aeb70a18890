//! The two markers of a layer that take files away.
//!
//! Follows the OCI image layer specification, "Whiteouts": `.wh.NAME` hides NAME of the layers below, and
//! `.wh..wh..opq` hides everything below its directory. Names of aufs' own (`.wh..wh.plnk`) mean nothing here.

use crate::image_path::ImagePath;

/// What every marker's name begins with.
const PREFIX: &[u8] = b".wh.";
/// What aufs' own names, and the opaque marker, begin with.
const META: &[u8] = b".wh..wh.";
/// The name of the opaque marker.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a name in a layer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// An ordinary name.
    None,
    /// Hides the path held, in the layers below.
    Whiteout(ImagePath),
    /// Hides all content of the directory held, in the layers below.
    Opaque(ImagePath),
    /// A name that means nothing in an image.
    Ignored,
}

/// Reads what a path in a layer means.
pub fn read(path: &ImagePath) -> Marker {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Marker::None;
    };
    if name == OPAQUE {
        return Marker::Opaque(parent);
    }
    if name.starts_with(META) {
        return Marker::Ignored;
    }
    match name.strip_prefix(PREFIX) {
        None => Marker::None,
        Some(b"" | b"." | b"..") => Marker::Ignored,
        Some(hidden) => Marker::Whiteout(parent.child(hidden)),
    }
}

/// The path of the marker that hides `path`; none for the root, which can't be hidden.
pub fn whiteout_of(path: &ImagePath) -> Option<ImagePath> {
    let (name, parent) = (path.file_name()?, path.parent()?);
    Some(parent.child(&[PREFIX, name].concat()))
}

/// The path of the marker that hides what is below `directory`.
pub fn opaque_of(directory: &ImagePath) -> ImagePath {
    directory.child(OPAQUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let path = ImagePath::clean("/a/b");
        assert_eq!(
            read(&whiteout_of(&path).unwrap()),
            Marker::Whiteout(path.clone())
        );
        assert_eq!(read(&opaque_of(&path)), Marker::Opaque(path.clone()));
        assert_eq!(read(&path), Marker::None);
        assert_eq!(read(&ImagePath::clean("/a/.wh..wh.plnk")), Marker::Ignored);
        assert_eq!(read(&ImagePath::clean("/.wh.")), Marker::Ignored);
        assert_eq!(whiteout_of(&ImagePath::root()), None);
    }
}
