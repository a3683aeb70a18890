//! Criterion benches live beside this crate; its library holds the seeded generators of their inputs.
