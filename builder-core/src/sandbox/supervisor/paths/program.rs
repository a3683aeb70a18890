//! The program that a path leads to, over scripts and to its interpreter: `execve(2)`.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::sandbox::supervisor::Result;
use crate::sandbox::supervisor::caller::{Caller, own_path};
use crate::sandbox::supervisor::identity::Credentials;
use crate::sandbox::supervisor::paths::Server;
use crate::sandbox::supervisor::paths::elf::{HEADER, Header, Program};
use crate::sandbox::supervisor::paths::permission::{EXECUTE, Seen, may};
use crate::sandbox::supervisor::paths::trees::{Place, reopen};
use crate::sandbox::supervisor::paths::walk::Found;

/// More scripts in a row than that are a loop.
const SCRIPTS: usize = 5;
/// So much of a file tells what it is (`BINPRM_BUF_SIZE`).
const START: usize = 256;

/// A file that can be executed, open for reading.
pub(super) struct Executable {
    pub(super) file: OwnedFd,
    /// What is recorded of it; none where it lies in no tree.
    pub(super) seen: Option<Seen>,
    /// The path that the RUN knows it by.
    pub(super) visible: Vec<u8>,
}

/// What is to be started.
pub(super) struct Chosen {
    pub(super) program: Executable,
    pub(super) image: Program,
    pub(super) interpreter: Option<(OwnedFd, Program)>,
    /// What comes before the arguments of the call from the second on, where it is a script: the interpreter and its
    /// argument, outermost first, and the script.
    pub(super) before: Vec<Vec<u8>>,
}

impl Server {
    /// What a call starts.
    pub(super) fn choose(
        &self,
        caller: &Caller<'_>,
        who: &Credentials,
        found: &Found,
        given: &CStr,
    ) -> Result<Chosen> {
        let mut program = self.executable(who, found)?;
        let mut before: Vec<Vec<u8>> = Vec::new();
        for _ in 0..=SCRIPTS {
            let start = read_start(&program.file)?;
            let Some(line) = start.strip_prefix(b"#!") else {
                return self.finish_choice(caller, who, program, before);
            };
            let (interpreter, argument) = script(line).ok_or(Errno::NOEXEC)?;
            if before.is_empty() {
                before.push(given.to_bytes().to_vec());
            }
            let words = std::iter::once(interpreter).chain(argument);
            before.splice(0..0, words.map(<[u8]>::to_vec));
            let path = CString::new(interpreter).map_err(|_| Errno::NOEXEC)?;
            let found = self.resolve(caller, who, (libc::AT_FDCWD, &path), true)?;
            program = self.executable(who, &found)?;
        }
        Err(Errno::LOOP.into())
    }

    fn finish_choice(
        &self,
        caller: &Caller<'_>,
        who: &Credentials,
        program: Executable,
        before: Vec<Vec<u8>>,
    ) -> Result<Chosen> {
        let image = read_program(&program.file)?;
        let interpreter = match image.interpreter {
            None => None,
            Some((offset, length)) => {
                let mut path = vec![0; length];
                read_at(&program.file, &mut path, offset)?;
                let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::NOEXEC)?;
                let found = self.resolve(caller, who, (libc::AT_FDCWD, path), true)?;
                let file = self.executable(who, &found)?.file;
                let image = read_program(&file).map_err(|_| Errno::LIBBAD)?;
                Some((file, image))
            }
        };
        Ok(Chosen {
            program,
            image,
            interpreter,
            before,
        })
    }

    /// A file that may be executed.
    fn executable(&self, who: &Credentials, found: &Found) -> Result<Executable> {
        let seen = self.seen(found)?.map(|(seen, _)| seen);
        let object = self.object(found);
        let kind = rustix::fs::fstat(object)?.st_mode & libc::S_IFMT;
        if kind == libc::S_IFLNK {
            return Err(Errno::LOOP.into());
        }
        if kind != libc::S_IFREG {
            return Err(Errno::ACCESS.into());
        }
        match (found, &seen) {
            (_, Some(seen)) if seen.record.device.is_some() || !may(who, seen, EXECUTE) => {
                return Err(Errno::ACCESS.into());
            }
            // The kernel's own files are none.
            (Found::Kernel(..), _) => return Err(Errno::ACCESS.into()),
            _ => {}
        }
        let visible = match self.trees.place_of(object)? {
            Place::Tree(tree, below) => self.trees.visible(tree, &below),
            _ => rustix::fs::readlink(own_path(object), Vec::new())?.into_bytes(),
        };
        Ok(Executable {
            file: reopen(object, OFlags::RDONLY)?,
            seen,
            visible,
        })
    }
}

fn read_start(file: &OwnedFd) -> Result<Vec<u8>> {
    let mut start = vec![0; START];
    let length = rustix::io::pread(file, &mut start[..], 0)?;
    start.truncate(length);
    Ok(start)
}

fn read_at(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<()> {
    let mut have = 0;
    while have < buffer.len() {
        let at = offset.checked_add(have as u64).ok_or(Errno::NOEXEC)?;
        match rustix::io::pread(file, &mut buffer[have..], at)? {
            0 => return Err(Errno::NOEXEC.into()),
            count => have += count,
        }
    }
    Ok(())
}

fn read_program(file: &OwnedFd) -> Result<Program> {
    let mut start = [0; HEADER];
    read_at(file, &mut start, 0)?;
    let header = Header::parse(&start).map_err(|_| Errno::NOEXEC)?;
    let mut segments = vec![0; header.size()];
    read_at(file, &mut segments, header.offset)?;
    Ok(Program::parse(header, &segments).map_err(|_| Errno::NOEXEC)?)
}

/// The interpreter of a script and its one argument, from what follows `#!` in the file's start.
fn script(line: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = line.iter().position(|&byte| byte == b'\n' || byte == 0);
    // A line that goes on beyond what is read may have a longer interpreter.
    let whole = end.is_some() || line.len() < START - 2;
    let line = &line[..end.unwrap_or(line.len())];
    let start = line.iter().position(|byte| !blank(byte))?;
    let line = &line[start..];
    let name_end = line.iter().position(blank);
    if name_end.is_none() && !whole {
        return None;
    }
    let (name, rest) = line.split_at(name_end.unwrap_or(line.len()));
    let rest = rest.trim_ascii();
    Some((name, (!rest.is_empty()).then_some(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_name_an_interpreter_and_one_argument() {
        let text = |pair: Option<(&[u8], Option<&[u8]>)>| {
            pair.map(|(name, argument)| {
                let words: Vec<_> = std::iter::once(name).chain(argument).collect();
                String::from_utf8(words.join(&b'|')).unwrap()
            })
        };
        let long = [b"/".as_slice(), &[b'x'; 253]].concat();
        let cut = [b"/a ".as_slice(), &[b'x'; 251]].concat();
        for (line, expected) in [
            (b"/bin/sh\necho\n".as_slice(), Some("/bin/sh")),
            (b" /bin/sh -e -x \n", Some("/bin/sh|-e -x")),
            (b"\t/usr/bin/env\tpython3", Some("/usr/bin/env|python3")),
            (b"/bin/sh\r\n", Some("/bin/sh\r")),
            (b"\n/bin/sh", None),
            (b"", None),
            (&long, None),
        ] {
            assert_eq!(text(script(line)).as_deref(), expected);
        }
        assert_eq!(script(&cut).unwrap().1.unwrap().len(), 251);
    }
}
