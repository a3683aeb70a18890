//! Root file systems on disk: layers laid out as directories, and what a step changed in one.
