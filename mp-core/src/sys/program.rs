//! Which program a child has to run, so that it finds the functions of this one.
//!
//! | this code is in | `/proc/self/exe` is | a child runs |
//! |---|---|---|
//! | the program | the program | `/proc/self/exe`, even if its file was replaced or deleted |
//! | the program | the loader, which was started with the path of the program | the program's file |
//! | the program | a simulator that says that it is the program, such as valgrind | the program's file |
//! | a library | the program that has loaded it | nothing: it would run the `main` of that program |
//!
//! The kernel lists the file of each mapping, and so that of the mapping with this code.

use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

/// What a child has to run.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// `/proc/self/exe`.
    Same,
    /// The file at this path.
    At(CString),
    /// This code is in the library at this path, which a program of another kind has loaded.
    Library(String),
    /// `/proc/self/exe` is not the program, whose file was deleted.
    Gone(String),
}

/// `/proc/self/exe`: the executable of this process.
pub(crate) const SAME: &CStr = c"/proc/self/exe";

/// Finds out what a child has to run.
pub(crate) fn of_children() -> Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(find).clone()
}

fn find() -> Program {
    // Without `/proc` nothing can be found out, and starting the child fails.
    let (Some(file), Ok(executable)) = (file_of(here()), fs::read_link("/proc/self/exe")) else { return Program::Same };
    if !is_in_main_program(here()) {
        return Program::Library(String::from_utf8_lossy(&file.path).into_owned());
    }
    if file.path == escaped(executable.as_os_str()) && !is_simulated(&file, &executable) {
        return Program::Same;
    }
    match CString::new(file.path) {
        // The kernel writes so behind the path of a file without a name.
        Ok(path) if !path.as_bytes().ends_with(b" (deleted)") => Program::At(path),
        Ok(path) => Program::Gone(path.to_string_lossy().into_owned()),
        Err(_) => Program::Same,
    }
}

/// An address of this code.
fn here() -> usize {
    of_children as fn() -> Program as usize
}

/// The file of a mapping, as the kernel writes it.
struct Mapped {
    path: Vec<u8>,
    identity: Identity,
}

/// The device and the inode of a file.
type Identity = (u32, u32, u64);

/// Returns the file of the mapping that contains `address`.
fn file_of(address: usize) -> Option<Mapped> {
    let maps = fs::read("/proc/self/maps").ok().filter(|maps| !maps.is_empty());
    // `self` has no mappings if the first thread of this process has ended.
    let maps = maps.or_else(|| fs::read("/proc/thread-self/maps").ok())?;
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        let (before, path) = line.split_at(line.iter().position(|byte| *byte == b'/')?);
        let mut fields = std::str::from_utf8(before).ok()?.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (major, minor) = fields.nth(2)?.split_once(':')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let device = |text| u32::from_str_radix(text, 16).ok();
        let identity = (device(major)?, device(minor)?, fields.next()?.parse().ok()?);
        (number(start)?..number(end)?).contains(&address).then(|| Mapped { path: path.to_vec(), identity })
    })
}

/// Tells whether only the link of `/proc/self/exe` is to `file`: the kernel would execute something
/// else. `executable` is where the link is to.
fn is_simulated(file: &Mapped, executable: &Path) -> bool {
    let is_file = |path: &Path| {
        fs::metadata(path).ok().map(|found| {
            let device = found.dev();
            (rustix::fs::major(device), rustix::fs::minor(device), found.ino()) == file.identity
        })
    };
    // Some file systems give mappings other numbers, and a file can be replaced.
    is_file(Path::new("/proc/self/exe")) == Some(false) && is_file(executable) == Some(true)
}

/// A path as the kernel writes it in the list of mappings.
fn escaped(path: &OsStr) -> Vec<u8> {
    path.as_bytes().iter().flat_map(|byte| if *byte == b'\n' { br"\012".to_vec() } else { vec![*byte] }).collect()
}

/// Tells whether an address is in the program, and not in a library.
fn is_in_main_program(address: usize) -> bool {
    let mut question = Question { address, found: false };
    // SAFETY: the function has the type that the call requires, and gets the pointer to `question`,
    // which is valid during the call and used by nothing else.
    unsafe { libc::dl_iterate_phdr(Some(look_at_first), (&raw mut question).cast()) };
    question.found
}

struct Question {
    address: usize,
    found: bool,
}

/// Looks at one object. The first is the program; the result ends the iteration.
unsafe extern "C" fn look_at_first(object: *mut libc::dl_phdr_info, _size: usize, question: *mut c_void) -> c_int {
    // SAFETY: the C library passes a valid description.
    let object = unsafe { &*object };
    // SAFETY: it is the pointer that `is_in_main_program` passed.
    let question = unsafe { &mut *question.cast::<Question>() };
    for index in 0..usize::from(object.dlpi_phnum) {
        let header = object.dlpi_phdr.wrapping_add(index);
        // SAFETY: the object has that many headers, which stay mapped during the call.
        let header = unsafe { &*header };
        let start = (object.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        let length = header.p_memsz as usize;
        question.found |= header.p_type == libc::PT_LOAD && question.address.wrapping_sub(start) < length;
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_not_what_the_kernel_executes_is_noticed() {
        let own = file_of(here()).unwrap();
        let executable = fs::read_link("/proc/self/exe").unwrap();
        assert!(!is_simulated(&own, &executable));
        // The code would be in a file that the link names, and the kernel would execute another.
        let other = Path::new("/bin/sh");
        let found = fs::metadata(other).unwrap();
        let identity = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()), found.ino());
        let mapped = Mapped { path: other.as_os_str().as_bytes().to_vec(), identity };
        assert!(is_simulated(&mapped, other));
        assert!(!is_simulated(&mapped, Path::new("/nowhere")));
        assert!(!is_simulated(&mapped, &executable));
    }
}
