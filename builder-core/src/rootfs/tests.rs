//! Layers to directories, and directories to layers.
