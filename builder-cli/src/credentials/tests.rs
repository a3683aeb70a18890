//! Credential sources: a table of cases.
