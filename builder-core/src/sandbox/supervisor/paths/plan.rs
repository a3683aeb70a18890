//! What the loader does to become a program: what the kernel's own `load_elf_binary` would have done.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::sandbox::supervisor::caller::Caller;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::elf::{PAGE, Program};
use crate::sandbox::supervisor::paths::execute::Start;
use crate::sandbox::supervisor::paths::kernel_files::PROGRAM;
use crate::sandbox::supervisor::{Reply, Result};
use crate::sandbox::sys::loader::{SCRATCH, Step};
use crate::sandbox::sys::{memory, seccomp};

/// Where, in scratch memory: the name of the process, what `PR_SET_MM` reads, the auxiliary vector for it, the plan.
const NAME: u64 = SCRATCH + 0x1200;
const MEMORY_MAP: u64 = SCRATCH + 0x1300;
const AUXILIARY: u64 = SCRATCH + 0x1400;
const PLAN: u64 = SCRATCH + 0x3000;
/// More bytes than arguments and environment may have: a quarter of the stack, 2 MiB by default; `ARG_MAX` beyond.
const LARGEST_START: usize = 16 << 20;
/// Where programs are put that may be anywhere, and how many pages the place may differ by, as Linux does it.
const ANYWHERE: u64 = 0x5555_5555_4000;
const SPREAD: u64 = 0xfff_ffff;

/// Entries of the auxiliary vector (`getauxval(3)`).
mod entry {
    pub(super) const HEADERS: u64 = 3;
    pub(super) const HEADER_SIZE: u64 = 4;
    pub(super) const HEADER_COUNT: u64 = 5;
    pub(super) const BASE: u64 = 7;
    pub(super) const ENTRY: u64 = 9;
    pub(super) const UID: u64 = 11;
    pub(super) const EUID: u64 = 12;
    pub(super) const GID: u64 = 13;
    pub(super) const EGID: u64 = 14;
    pub(super) const SECURE: u64 = 23;
    pub(super) const FILE_NAME: u64 = 31;
}

/// A process as it begins (System V ABI, "Process Initialization"): words from the stack pointer on.
struct Beginning {
    words: Vec<u64>,
    /// Where the auxiliary vector begins in them.
    auxiliary: usize,
    /// Where the texts of the arguments and of the environment begin, and where both end.
    texts: [u64; 3],
}

impl Beginning {
    /// Reads it.
    fn read(caller: &Caller<'_>, stack: u64) -> Result<Self> {
        let mut size = 4096;
        loop {
            let mut bytes = vec![0; size];
            let have = memory::read(caller.pid(), stack, &mut bytes)?;
            caller.check()?;
            let (words, _) = bytes[..have].as_chunks();
            let words: Vec<u64> = words.iter().copied().map(u64::from_ne_bytes).collect();
            if let Some(auxiliary) = find_auxiliary(&words) {
                let texts = find_texts(&words, auxiliary);
                return Ok(Self {
                    words,
                    auxiliary,
                    texts,
                });
            }
            if have < size || size >= LARGEST_START {
                return Err(Errno::FAULT.into());
            }
            size *= 2;
        }
    }

    fn auxiliary(&mut self) -> &mut [u64] {
        &mut self.words[self.auxiliary..]
    }
}

/// Where arguments and environment begin and end in a process that has just begun: the name of its file follows them.
fn find_texts(words: &[u64], auxiliary: usize) -> [u64; 3] {
    let pairs = words[auxiliary..].chunks_exact(2);
    let mut names = pairs.filter(|pair| pair[0] == entry::FILE_NAME);
    let end = names.next().map_or(0, |pair| pair[1]);
    let or_end = |text: u64, end: u64| if text == 0 { end } else { text };
    let environment = or_end(words[words[0] as usize + 2], end);
    [or_end(words[1], environment), environment, end]
}

/// Where the auxiliary vector begins, if the words hold all of it.
fn find_auxiliary(words: &[u64]) -> Option<usize> {
    let count = usize::try_from(*words.first()?).ok()?;
    let environment = count.checked_add(2)?;
    let end = words
        .get(environment..)?
        .iter()
        .position(|word| *word == 0)?;
    let start = environment + end + 1;
    let pairs = words.get(start..)?.chunks_exact(2);
    pairs.clone().any(|pair| pair[0] == 0).then_some(start)
}

/// Where a program is put, and what is done for it.
struct Image {
    entry: u64,
    headers: u64,
    bias: u64,
    end: u64,
}

impl Server {
    /// Answers the loader's question.
    pub(super) fn plan(&mut self, caller: &Caller<'_>) -> Result<Reply> {
        let start = self.starts.take(caller.pid()).ok_or(Errno::PERM)?;
        let stack = caller.argument(1);
        let mut beginning = Beginning::read(caller, stack)?;
        let give = |file: &OwnedFd| {
            let id = caller.notification.id;
            let number = seccomp::add_fd(caller.listener, id, file.as_fd(), None, true);
            let number = number.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
            number.map(|number| u64::from(number.cast_unsigned()))
        };
        let mut steps = Vec::new();
        let file = give(&start.chosen.program.file)?;
        let place = ANYWHERE + ((random()? & SPREAD) << 12);
        let image = map(&start.chosen.image, file, place, &mut steps);
        steps.push(call(libc::SYS_close, &[file], false));
        let mut base = 0;
        let mut entry = image.entry;
        if let Some((file, program)) = &start.chosen.interpreter {
            let file = give(file)?;
            // Far below the stack, which may grow.
            let below = (16 << 30) + ((random()? & 0xf_ffff) << 12);
            let (first, end, _) = program.extent();
            let place = (stack & !(PAGE - 1)).checked_sub(below + (end - first));
            let place = place.ok_or(Errno::NOMEM)?;
            let interpreter = map(program, file, place, &mut steps);
            steps.push(call(libc::SYS_close, &[file], false));
            (base, entry) = (interpreter.bias, interpreter.entry);
        }
        patch(&mut beginning, &start, &image, base);
        describe(caller, stack, &mut beginning, &start, &image)?;
        let name = |option: i32, rest: [u64; 3]| {
            let [a, b, c] = rest;
            call(
                libc::SYS_prctl,
                &[u64::from(option.cast_unsigned()), a, b, c, 0],
                false,
            )
        };
        steps.push(name(libc::PR_SET_NAME, [NAME, 0, 0]));
        let size = MemoryMap::SIZE as u64;
        let map = u64::from(libc::PR_SET_MM_MAP.cast_unsigned());
        steps.push(name(libc::PR_SET_MM, [map, MEMORY_MAP, size]));
        if start.chosen.image.executable_stack {
            const GROWS_DOWN: u64 = 0x0100_0000;
            let all = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
            let page = stack & !(PAGE - 1);
            steps.push(call(
                libc::SYS_mprotect,
                &[page, PAGE, all | GROWS_DOWN],
                false,
            ));
        }
        steps.push(Step::Jump(stack, entry));
        let bytes: Vec<u8> = steps.iter().flat_map(|step| step.to_bytes()).collect();
        caller.write(PLAN, &bytes)?;
        let who = start.who;
        self.keeper.processes.change(caller.proc, caller.pid(), who);
        Ok(Reply::Value(PLAN.cast_signed()))
    }
}

/// Tells the program of itself.
fn patch(beginning: &mut Beginning, start: &Start, image: &Image, base: u64) {
    let who = &start.who;
    for pair in beginning.auxiliary().chunks_exact_mut(2) {
        pair[1] = match pair[0] {
            0 => break,
            entry::HEADERS => image.headers,
            entry::HEADER_SIZE => 56,
            entry::HEADER_COUNT => start.chosen.image.header.count as u64,
            entry::BASE => base,
            entry::ENTRY => image.entry,
            entry::UID => who.user.real.into(),
            entry::EUID => who.user.effective.into(),
            entry::GID => who.group.real.into(),
            entry::EGID => who.group.effective.into(),
            entry::SECURE => start.secure.into(),
            // The kernel's own word for it ends the process's texts: see `MemoryMap`.
            entry::FILE_NAME => PROGRAM,
            _ => continue,
        };
    }
}

/// Writes what the program, and the kernel, are told about it.
fn describe(
    caller: &Caller<'_>,
    stack: u64,
    beginning: &mut Beginning,
    start: &Start,
    image: &Image,
) -> Result<()> {
    let mut path = start.chosen.program.visible.clone();
    path.truncate(memory::PATH_MAX - 1);
    path.push(0);
    caller.write(PROGRAM, &path)?;
    let mut name = start.name.clone();
    // TASK_COMM_LEN is 16, with the NUL.
    name.truncate(15);
    name.push(0);
    caller.write(NAME, &name)?;
    let place = stack.wrapping_add(8 * beginning.auxiliary as u64);
    let auxiliary = beginning.auxiliary();
    let pairs = auxiliary.chunks_exact(2);
    let count = 1 + pairs.take_while(|pair| pair[0] != 0).count();
    let bytes: Vec<u8> = auxiliary[..2 * count]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    caller.write(place, &bytes)?;
    caller.write(AUXILIARY, &bytes)?;
    let map = MemoryMap {
        code: bounds(&start.chosen.image, image, 4),
        data: bounds(&start.chosen.image, image, 2),
        break_at: image.end + PAGE + ((random()? & 0x1fff) << 12),
        stack,
        texts: beginning.texts,
        auxiliary: bytes.len() as u32,
    };
    Ok(caller.write(MEMORY_MAP, &map.to_bytes())?)
}

/// The bounds of the first segment with this protection.
fn bounds(program: &Program, image: &Image, protection: u32) -> (u64, u64) {
    let mut segments = program.segments.iter();
    let found = segments.find(|one| one.protection & protection != 0);
    found.map_or((image.entry, image.entry), |one| {
        let start = image.bias.wrapping_add(one.address);
        (start, start + one.filled)
    })
}

/// `struct prctl_mm_map` (`prctl(2)`, `PR_SET_MM_MAP`).
struct MemoryMap {
    code: (u64, u64),
    data: (u64, u64),
    break_at: u64,
    stack: u64,
    texts: [u64; 3],
    auxiliary: u32,
}

impl MemoryMap {
    const SIZE: usize = 104;

    fn to_bytes(&self) -> Vec<u8> {
        let words = [
            self.code.0,
            self.code.1,
            self.data.0,
            self.data.1,
            self.break_at,
            self.break_at,
            self.stack,
            self.texts[0],
            // The arguments end where the environment begins.
            self.texts[1],
            self.texts[1],
            self.texts[2],
            AUXILIARY,
        ];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(self.auxiliary.to_ne_bytes());
        // No other program file.
        bytes.extend(u32::MAX.to_ne_bytes());
        bytes
    }
}

fn call(number: libc::c_long, arguments: &[u64], must: bool) -> Step {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    Step::Call {
        number: number.cast_unsigned(),
        arguments: all,
        must,
    }
}

/// The steps that map a program whose file the caller has open: first all its memory is reserved, then each segment takes
/// its part.
fn map(program: &Program, file: u64, wanted: u64, steps: &mut Vec<Step>) -> Image {
    let private = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
    let anonymous = private | libc::MAP_ANONYMOUS as u64;
    let nothing = u64::MAX;
    let (first, end, alignment) = program.extent();
    let bias = if program.header.anywhere {
        (wanted & !(alignment - 1)).wrapping_sub(first & !(alignment - 1))
    } else {
        0
    };
    let moved = |address: u64| bias.wrapping_add(address);
    let mut mmap =
        |place: u64, length: u64, protection: u32, flags: u64, file: u64, offset: u64| {
            let arguments = [place, length, protection.into(), flags, file, offset];
            steps.push(call(libc::SYS_mmap, &arguments, true));
        };
    let reserve =
        (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE)
            as u64;
    mmap(moved(first), end - first, 0, reserve, nothing, 0);
    let mut clear = Vec::new();
    for one in &program.segments {
        let place = moved(one.address);
        let edge = place % PAGE;
        let filled_end = place + one.filled;
        let page_end = filled_end.next_multiple_of(PAGE);
        let memory_end = (place + one.size).next_multiple_of(PAGE);
        let mut rest = place - edge;
        if one.filled > 0 {
            let (start, length) = (place - edge, one.filled + edge);
            mmap(
                start,
                length,
                one.protection,
                private,
                file,
                one.offset - edge,
            );
            rest = page_end;
            let writable = one.protection & libc::PROT_WRITE.cast_unsigned() != 0;
            if one.size > one.filled && filled_end < page_end && writable {
                clear.push(Step::Clear(filled_end, page_end - filled_end));
            }
        }
        if memory_end > rest {
            mmap(
                rest,
                memory_end - rest,
                one.protection,
                anonymous,
                nothing,
                0,
            );
        }
    }
    steps.extend(clear);
    Image {
        entry: moved(program.header.entry),
        headers: moved(program.headers_address()),
        bias,
        end: moved(end),
    }
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if length < bytes.len() {
        return Err(Errno::AGAIN.into());
    }
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auxiliary_vector_is_found_when_it_is_whole() {
        // Two arguments, one variable, one entry.
        let words = [2, 10, 11, 0, 12, 0, 7, 8, 0, 0];
        assert_eq!(find_auxiliary(&words), Some(6));
        for length in 0..9 {
            assert_eq!(find_auxiliary(&words[..length]), None, "{length}");
        }
        assert_eq!(find_auxiliary(&[u64::MAX, 0, 0]), None);
        assert_eq!(find_auxiliary(&[0, 0, 0, 0, 0]), Some(3));
    }

    #[test]
    fn a_memory_map_has_the_kernels_size() {
        let map = MemoryMap {
            code: (1, 2),
            data: (3, 4),
            break_at: 5,
            stack: 6,
            texts: [7, 8, 9],
            auxiliary: 9,
        };
        assert_eq!(map.to_bytes().len(), MemoryMap::SIZE);
    }
}
