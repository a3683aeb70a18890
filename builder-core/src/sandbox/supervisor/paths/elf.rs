//! What a kernel reads of a program: elf(5). Pure.

/// `PT_LOAD`, `PT_INTERP`, `PT_PHDR`, `PT_GNU_STACK`
const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;
const HEADERS: u32 = 6;
const STACK: u32 = 0x6474_e551;
/// The size of the file's header, and of a segment's.
pub(super) const HEADER: usize = 64;
const SEGMENT: usize = 56;
/// More segments than any program has.
const MOST: usize = 64;

/// Why a file is no program for this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoProgram;

/// A header as far as it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether it may be mapped anywhere (`ET_DYN`).
    pub(super) anywhere: bool,
    pub(super) entry: u64,
    /// Where the segments' headers are in the file, and how many.
    pub(super) offset: u64,
    pub(super) count: usize,
}

impl Header {
    /// Reads it: a 64-bit program of this machine's kind.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NoProgram> {
        const EXECUTABLE: u16 = 2;
        const SHARED: u16 = 3;
        const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
            62
        } else {
            183
        };
        // 64 bits, lowest byte first.
        if bytes.len() < HEADER || !bytes.starts_with(b"\x7fELF\x02\x01") {
            return Err(NoProgram);
        }
        let kind = half(bytes, 16);
        let count = usize::from(half(bytes, 56));
        let fits = matches!(kind, EXECUTABLE | SHARED)
            && half(bytes, 18) == MACHINE
            && usize::from(half(bytes, 54)) == SEGMENT
            && (1..=MOST).contains(&count);
        if !fits {
            return Err(NoProgram);
        }
        Ok(Self {
            anywhere: kind == SHARED,
            entry: word(bytes, 24),
            offset: word(bytes, 32),
            count,
        })
    }

    /// The bytes of all segments' headers.
    pub(super) fn size(&self) -> usize {
        self.count * SEGMENT
    }
}

/// A piece of a program that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// `PROT_READ` and others.
    pub(super) protection: u32,
    /// Where it is in the file.
    pub(super) offset: u64,
    /// Where it is in memory, before the program is moved.
    pub(super) address: u64,
    /// Bytes from the file, and bytes in memory.
    pub(super) filled: u64,
    pub(super) size: u64,
    pub(super) alignment: u64,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) header: Header,
    pub(super) segments: Vec<Segment>,
    /// Where the path of its interpreter is in the file, and how long.
    pub(super) interpreter: Option<(u64, usize)>,
    /// Where it wants its own headers to be.
    pub(super) headers: Option<u64>,
    /// Whether its stack can be executed.
    pub(super) executable_stack: bool,
}

impl Program {
    /// Reads the segments' headers.
    pub(super) fn parse(header: Header, bytes: &[u8]) -> Result<Self, NoProgram> {
        let mut program = Self {
            header,
            segments: Vec::new(),
            interpreter: None,
            headers: None,
            executable_stack: false,
        };
        for one in bytes.chunks_exact(SEGMENT).take(header.count) {
            let (offset, address) = (word(one, 8), word(one, 16));
            match double(one, 0) {
                LOAD => program.segments.push(segment(one)?),
                INTERPRETER => {
                    let length = usize::try_from(word(one, 32)).map_err(|_| NoProgram)?;
                    if !(2..=4096).contains(&length) {
                        return Err(NoProgram);
                    }
                    program.interpreter = Some((offset, length));
                }
                HEADERS => program.headers = Some(address),
                STACK => program.executable_stack = double(one, 4) & 1 != 0,
                _ => {}
            }
        }
        if program.segments.is_empty() {
            return Err(NoProgram);
        }
        Ok(program)
    }

    /// The first address and the end of its memory, on whole pages, and the alignment that it wants.
    pub(super) fn extent(&self) -> (u64, u64, u64) {
        let first = self.segments.iter().map(|one| one.address).min();
        let end = self.segments.iter().map(|one| one.address + one.size).max();
        let alignment = self.segments.iter().map(|one| one.alignment).max();
        (
            first.unwrap_or(0) & !(PAGE - 1),
            end.unwrap_or(0).next_multiple_of(PAGE),
            alignment.unwrap_or(PAGE).max(PAGE),
        )
    }

    /// Where its headers are, before it is moved.
    pub(super) fn headers_address(&self) -> u64 {
        let offset = self.header.offset;
        let holds = |one: &&Segment| (one.offset..one.offset + one.filled).contains(&offset);
        self.headers.unwrap_or_else(|| {
            let found = self.segments.iter().find(holds);
            found.map_or(0, |one| one.address + (offset - one.offset))
        })
    }
}

/// The page size that programs are mapped by.
pub(super) const PAGE: u64 = 4096;

fn segment(bytes: &[u8]) -> Result<Segment, NoProgram> {
    /// No program has more memory than a process: 128 TiB.
    const HIGHEST: u64 = 1 << 47;
    let flags = double(bytes, 4);
    // Execute 1, write 2, read 4; as a protection read 1, write 2, execute 4.
    let protection = flags >> 2 & 1 | flags & 2 | (flags & 1) << 2;
    let segment = Segment {
        protection,
        offset: word(bytes, 8),
        address: word(bytes, 16),
        filled: word(bytes, 32),
        size: word(bytes, 40),
        alignment: word(bytes, 48),
    };
    let sound = segment.address < HIGHEST
        && segment.size < HIGHEST
        && segment.offset < HIGHEST
        && segment.filled <= segment.size
        && (segment.alignment <= 1 || segment.alignment.is_power_of_two())
        && segment.alignment < HIGHEST
        && segment.address % PAGE == segment.offset % PAGE;
    if sound { Ok(segment) } else { Err(NoProgram) }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn double(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_one() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let header = Header::parse(&bytes).unwrap();
        let at = usize::try_from(header.offset).unwrap();
        let program = Program::parse(header, &bytes[at..at + header.size()]).unwrap();
        let (first, end, alignment) = program.extent();
        assert!(first < end && alignment >= PAGE);
        assert!((first..end).contains(&program.headers_address()));
        assert!((first..end).contains(&header.entry));
        assert!(!program.executable_stack);
    }

    #[test]
    fn what_is_none_is_refused() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Header::parse(b"#!/bin/sh\n"), Err(NoProgram));
        assert_eq!(Header::parse(&bytes[..60]), Err(NoProgram));
        for (at, value) in [(4, 1), (5, 2), (16, 1), (18, 3), (54, 32), (56, 0), (57, 1)] {
            let mut bytes = bytes[..HEADER].to_vec();
            bytes[at] = value;
            assert_eq!(Header::parse(&bytes), Err(NoProgram), "{at}");
        }
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(Program::parse(header, &[0; 56]), Err(NoProgram));
        let mut segment = [0; 56];
        segment[0] = 1;
        segment[32] = 9;
        // More from the file than there is memory.
        assert_eq!(Program::parse(header, &segment), Err(NoProgram));
    }
}
