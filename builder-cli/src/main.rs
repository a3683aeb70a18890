//! The program `rbuild`.
fn main() {}
