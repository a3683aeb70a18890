//! `--chmod`: octal as it stands, symbolic clauses after chmod(1).

use crate::plan::step::{Chmod, SymbolicMode};

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// The mode that a file of `mode` gets. The umask plays no part.
pub(crate) fn apply(chmod: &Chmod, mode: u32, is_directory: bool) -> u32 {
    match chmod {
        Chmod::Octal(octal) => *octal,
        Chmod::Symbolic(clauses) => {
            let search = is_directory || mode & 0o111 != 0;
            clauses
                .iter()
                .fold(mode, |mode, clause| one(clause, mode, search))
        }
    }
}

fn one(clause: &SymbolicMode, mode: u32, search: bool) -> u32 {
    let bits = wanted(clause, mode, search);
    match clause.operation {
        '+' => mode | bits,
        '-' => mode & !bits,
        _ => mode & !scope(clause.who) | bits,
    }
}

/// The bits that `=` clears for these people.
fn scope(who: u8) -> u32 {
    let mut bits = 0;
    for (flag, own) in [(1, 0o700 | SET_USER), (2, 0o070 | SET_GROUP), (4, 0o007)] {
        if who & flag != 0 {
            bits |= own;
        }
    }
    if who == 7 { bits | STICKY } else { bits }
}

/// The bits that a clause's permissions name, for its people. `search` says whether `X` is `x`: for a directory, and
/// for a file that anyone could execute before the first clause.
fn wanted(clause: &SymbolicMode, mode: u32, search: bool) -> u32 {
    let mut triple = 0;
    let mut special = 0;
    for letter in clause.permissions.chars() {
        match letter {
            'r' => triple |= 4,
            'w' => triple |= 2,
            'x' => triple |= 1,
            'X' if search => triple |= 1,
            's' => {
                special |= if clause.who & 1 != 0 { SET_USER } else { 0 };
                special |= if clause.who & 2 != 0 { SET_GROUP } else { 0 };
            }
            't' => special |= STICKY,
            'u' => triple |= mode >> 6 & 7,
            'g' => triple |= mode >> 3 & 7,
            'o' => triple |= mode & 7,
            _ => {}
        }
    }
    let mut bits = special;
    for (flag, shift) in [(1, 6), (2, 3), (4, 0)] {
        if clause.who & flag != 0 {
            bits |= triple << shift;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_work_as_chmod_does() {
        let clause = |who, operation, permissions: &str| SymbolicMode {
            who,
            operation,
            permissions: permissions.to_owned(),
        };
        for (clauses, mode, is_directory, expected) in [
            (vec![clause(7, '+', "x")], 0o644, false, 0o755),
            (
                vec![clause(1, '=', "rwX"), clause(6, '=', "rX")],
                0o600,
                false,
                0o644,
            ),
            (
                vec![clause(1, '=', "rwX"), clause(6, '=', "rX")],
                0o600,
                true,
                0o755,
            ),
            (vec![clause(7, '+', "X")], 0o700, false, 0o711),
            (vec![clause(2, '=', "u")], 0o704, false, 0o774),
            (vec![clause(6, '-', "rwx")], 0o777, false, 0o700),
            (vec![clause(1, '+', "s")], 0o755, false, 0o4755),
            (vec![clause(7, '+', "t")], 0o777, true, 0o1777),
            (vec![clause(4, '=', "")], 0o777, false, 0o770),
        ] {
            assert_eq!(
                apply(&Chmod::Symbolic(clauses.clone()), mode, is_directory),
                expected,
                "{clauses:?}"
            );
        }
        assert_eq!(apply(&Chmod::Octal(0o4711), 0o644, false), 0o4711);
    }
}
