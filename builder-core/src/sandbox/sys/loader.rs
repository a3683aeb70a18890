//! The loader: a program of a few instructions that becomes any other program.
//!
//! A process that may open nothing can't start a program by its path. It is made to execute this one instead, which
//! lies in memory and needs no path. The loader asks its supervisor what to do (an `execveat(2)` with a descriptor that
//! nobody has, whose second argument is the stack pointer at its start, as the System V ABI fills it) and gets the
//! address of a plan, an array of [`Step`]s: the system calls by which a kernel would have mapped the program, and the
//! jump to its entry.
//!
//! The loader's second segment is the scratch memory of every program: never touched by it, known to the supervisor by
//! its place, inherited by `fork(2)`.
#![expect(
    unsafe_code,
    reason = "the loader is machine code, and its memory is mapped at a fixed place"
)]

use std::io;

/// Where the loader lies: between the programs that are mapped anywhere and the libraries, where neither the kernel nor
/// a sanitizer puts anything.
const PLACE: u64 = 0x5660_0000_0000;
/// Where the scratch memory begins.
pub(crate) const SCRATCH: u64 = 0x5660_0001_0000;
/// Its size in bytes; a page takes memory when it is first used.
pub(crate) const SCRATCH_SIZE: u64 = 0x20_0000;
/// The descriptor by which the loader's question is known.
pub(crate) const QUESTION: i32 = -0x5242;

/// One step of a plan, as the loader reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A system call, by number and arguments; where it must succeed and doesn't, the program ends with status 126.
    Call {
        /// Its number.
        number: u64,
        /// Its arguments.
        arguments: [u64; 6],
        /// Whether the program can't run without it.
        must: bool,
    },
    /// Zeroes memory: address and length.
    Clear(u64, u64),
    /// The last one: the stack pointer, and where to go.
    Jump(u64, u64),
}

impl Step {
    /// Its bytes: eight words, the number, six arguments, and whether it must succeed.
    pub(crate) fn to_bytes(self) -> [u8; 64] {
        let (number, arguments, must) = match self {
            Self::Call {
                number,
                arguments,
                must,
            } => (number, arguments, must),
            Self::Clear(address, length) => (u64::MAX, [address, length, 0, 0, 0, 0], false),
            Self::Jump(stack, to) => (u64::MAX - 1, [stack, to, 0, 0, 0, 0], false),
        };
        let mut bytes = [0; 64];
        let words = std::iter::once(number)
            .chain(arguments)
            .chain([u64::from(must)]);
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

// Registers: rbx is the step that is at hand. What a step needs is moved where the call takes it (syscall(2)).
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".pushsection .rodata.rbuild_loader, \"a\", @progbits",
    ".globl rbuild_loader_start",
    ".globl rbuild_loader_end",
    "rbuild_loader_start:",
    // The question.
    "mov rsi, rsp",
    "mov edi, -0x5242",
    "mov eax, 322",
    "syscall",
    "test rax, rax",
    "js 90f",
    "mov rbx, rax",
    // A step.
    "10:",
    "mov rax, [rbx]",
    "cmp rax, -1",
    "je 20f",
    "cmp rax, -2",
    "je 30f",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov r9, [rbx + 48]",
    "syscall",
    "cmp qword ptr [rbx + 56], 0",
    "je 11f",
    "cmp rax, -4096",
    "ja 90f",
    "11:",
    "add rbx, 64",
    "jmp 10b",
    // Memory to clear.
    "20:",
    "mov rdi, [rbx + 8]",
    "mov rcx, [rbx + 16]",
    "xor eax, eax",
    "rep stosb",
    "jmp 11b",
    // The program, with registers as at the start of a process; rdx is a function to call at its end, and there is none.
    "30:",
    "mov rsp, [rbx + 8]",
    "mov rax, [rbx + 16]",
    "xor ebx, ebx",
    "xor ecx, ecx",
    "xor edx, edx",
    "xor esi, esi",
    "xor edi, edi",
    "xor ebp, ebp",
    "jmp rax",
    // No plan, or one that failed: exit_group(126).
    "90:",
    "mov eax, 231",
    "mov edi, 126",
    "syscall",
    "hlt",
    "rbuild_loader_end:",
    ".popsection",
);

#[cfg(target_arch = "x86_64")]
// SAFETY: both are labels of the piece of data above, and are only taken the addresses of.
unsafe extern "C" {
    static rbuild_loader_start: u8;
    static rbuild_loader_end: u8;
}

/// The loader's instructions; none on machines that it isn't written for.
#[cfg(target_arch = "x86_64")]
fn instructions() -> &'static [u8] {
    let (start, end) = (&raw const rbuild_loader_start, &raw const rbuild_loader_end);
    // SAFETY: both are labels around one piece of constant data, in this order.
    unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> &'static [u8] {
    &[]
}

/// The loader as a static program; none on machines that it isn't written for.
pub(crate) fn program() -> Option<Vec<u8>> {
    let code = instructions();
    let scratch = Some((SCRATCH, SCRATCH_SIZE));
    (!code.is_empty()).then(|| static_program(PLACE, scratch, code))
}

/// The exit status of [`trial`].
pub(crate) const TRIAL_STATUS: i32 = 42;

/// A static program that does nothing but end, to try whether one can be started.
pub(crate) fn trial() -> Vec<u8> {
    // mov edi, 42; mov eax, 231 (exit_group); syscall
    let code = [0xbf, 42, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05];
    static_program(0x40_0000, None, &code)
}

/// A static program (elf(5)): instructions, and memory to write to at a place of so many bytes.
fn static_program(place: u64, memory: Option<(u64, u64)>, code: &[u8]) -> Vec<u8> {
    const HEADER: u64 = 64;
    const SEGMENT: u64 = 56;
    const CODE: u64 = HEADER + 3 * SEGMENT;
    const X86_64: u16 = 62;
    let whole = CODE + code.len() as u64;
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_EXEC, machine, version.
    bytes.extend([2_u16.to_le_bytes(), X86_64.to_le_bytes()].concat());
    bytes.extend(1_u32.to_le_bytes());
    for word in [place + CODE, HEADER, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([0; 4]);
    // Sizes of this header and of a segment's, three of those, no sections.
    for half in [HEADER as u16, SEGMENT as u16, 3, 64, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    // Kind, flags (1 execute, 2 write, 4 read), place, bytes in the file, bytes in memory.
    let (load, stack) = (1_u32, 0x6474_e551_u32);
    // A segment of no kind is none.
    let (kind, (scratch, size)) = memory.map_or((0, (0, 0)), |memory| (load, memory));
    for (kind, flags, place, filled, size) in [
        (load, 5_u32, place, whole, whole),
        (kind, 6, scratch, 0, size),
        (stack, 6, 0, 0, 0),
    ] {
        bytes.extend([kind.to_le_bytes(), flags.to_le_bytes()].concat());
        for word in [0, place, place, filled, size, 4096] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes.extend(code);
    bytes
}

/// Maps the scratch memory in this process, which is to execute its first program through the loader.
pub(crate) fn map_scratch() -> io::Result<()> {
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
    let place = std::ptr::without_provenance_mut(SCRATCH as usize);
    let size = SCRATCH_SIZE as usize;
    // SAFETY: new memory at a place where nothing is, which the kernel sees to; nobody in this process uses it.
    let mapped = unsafe {
        libc::mmap(
            place,
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    if mapped != place {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_loader_is_a_program_of_its_own() {
        let bytes = program().unwrap();
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(&bytes[..4], b"\x7fELF");
        let (entry, segments) = (word(24), word(32));
        assert_eq!((entry, segments), (PLACE + 232, 64));
        // The file's bytes of the first segment are the whole file.
        assert_eq!(word(64 + 32), bytes.len() as u64);
        // mov rsi, rsp
        assert_eq!(bytes[232..235], [0x48, 0x89, 0xe6]);
        assert!(bytes.len() < 4096);
    }

    #[test]
    fn steps_are_eight_words() {
        let call = Step::Call {
            number: 9,
            arguments: [1, 2, 3, 4, 5, 6],
            must: true,
        };
        let words = |step: Step| {
            let bytes = step.to_bytes();
            let (words, _) = bytes.as_chunks::<8>();
            words
                .iter()
                .copied()
                .map(u64::from_ne_bytes)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(call), [9, 1, 2, 3, 4, 5, 6, 1]);
        assert_eq!(words(Step::Clear(7, 8))[..3], [u64::MAX, 7, 8]);
        assert_eq!(words(Step::Jump(7, 8))[..3], [u64::MAX - 1, 7, 8]);
    }
}
