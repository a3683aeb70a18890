//! Rules as instructions for the kernel's filter machine (`seccomp(2)`, `bpf(4)`).

use libc::sock_filter;

use super::{ALLOW, ENOSYS};

/// When a verdict holds, by the low half of an argument; otherwise the call is allowed.
#[derive(Clone, Copy)]
pub(super) enum Test {
    Always,
    /// Any of these bits is set.
    Any(u32, u32),
    /// None of these bits is set.
    None(u32, u32),
    /// The argument is one of these values.
    OneOf(u32, &'static [u32]),
}

impl Test {
    /// Whether it holds for these arguments.
    pub(super) fn holds(self, arguments: &[u64; 6]) -> bool {
        let low = |index: u32| arguments[index as usize] as u32;
        match self {
            Self::Always => true,
            Self::Any(index, bits) => low(index) & bits != 0,
            Self::None(index, bits) => low(index) & bits == 0,
            Self::OneOf(index, values) => values.contains(&low(index)),
        }
    }
}

/// What becomes of a call.
pub(super) struct Rule {
    /// The call's number.
    pub number: u32,
    /// When the verdict holds.
    pub test: Test,
    /// The verdict: `SECCOMP_RET_…`.
    pub verdict: u32,
}

/// The rules of one architecture, in the order given: the first for a number counts. Calls from `unknown` on don't
/// exist.
pub(super) fn compile(rules: &[Rule], unknown: Option<u32>) -> Vec<sock_filter> {
    let mut block = vec![load(0)];
    if cfg!(target_arch = "x86_64") {
        // Numbers of the x32 programs, which no kernel in use runs. -1 is a call that a tracer has cancelled.
        block.push(jump(libc::BPF_JGE, 0x4000_0000, 0, 2));
        block.push(jump(libc::BPF_JEQ, u32::MAX, 1, 0));
        block.push(verdict(ENOSYS));
    }
    if let Some(first) = unknown {
        block.push(jump(libc::BPF_JGE, first, 0, 2));
        // A call that a tracer has cancelled.
        block.push(jump(libc::BPF_JEQ, u32::MAX, 1, 0));
        block.push(verdict(ENOSYS));
    }
    for rule in rules {
        let body = body(rule);
        block.push(jump(libc::BPF_JEQ, rule.number, 0, body.len() as u8));
        block.extend(body);
    }
    block.push(verdict(ALLOW));
    block
}

fn body(rule: &Rule) -> Vec<sock_filter> {
    let (hit, miss) = (verdict(rule.verdict), verdict(ALLOW));
    // Low half of an argument, on machines that store it first.
    let argument = |index: u32| load(16 + 8 * index);
    match rule.test {
        Test::Always => vec![hit],
        Test::Any(index, bits) => {
            vec![argument(index), jump(libc::BPF_JSET, bits, 0, 1), hit, miss]
        }
        Test::None(index, bits) => {
            vec![argument(index), jump(libc::BPF_JSET, bits, 1, 0), hit, miss]
        }
        Test::OneOf(index, values) => {
            let tests = values.iter().enumerate().map(|(at, &value)| {
                // Over the tests that are left and the miss.
                jump(libc::BPF_JEQ, value, (values.len() - at) as u8, 0)
            });
            let tests = std::iter::once(argument(index)).chain(tests);
            tests.chain([miss, hit]).collect()
        }
    }
}

/// Loads a word of what the kernel tells of a call (`seccomp_data`).
pub(super) fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

/// Ends with a verdict.
pub(super) fn verdict(value: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, value)
}

/// An instruction without jumps.
pub(super) fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Compares what was loaded, and goes over so many instructions.
pub(super) fn jump(test: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter {
        code: (libc::BPF_JMP | test | libc::BPF_K) as u16,
        jt: yes,
        jf: no,
        k,
    }
}
