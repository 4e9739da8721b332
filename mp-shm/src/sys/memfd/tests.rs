use std::fs::File;
use std::io::ErrorKind;

use memmap2::MmapRaw;

use super::*;

fn sealed(size: u64, seals: SealFlags) -> OwnedFd {
    let file = create(size).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

#[test]
fn a_new_file_has_zeros_and_its_size_and_no_seal() {
    for size in [1, 48, ALWAYS_RESERVED, ALWAYS_RESERVED + 1, 1 << 20] {
        let file = create(size).unwrap();
        assert_eq!(fstat(&file).unwrap().st_size as u64, size);
        let mut bytes = vec![1; size as usize];
        read_at(file.as_fd(), &mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert!(
            fcntl_get_seals(&file).unwrap().difference(SealFlags::from_bits_retain(0x20)).is_empty(),
            "but for F_SEAL_EXEC"
        );
        assert!(file.as_raw_fd() > libc::STDERR_FILENO);
        assert!(rustix::io::fcntl_getfd(&file).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}

#[test]
fn more_than_there_is_is_an_error_before_anything_is_made() {
    let most = pages::most_available().unwrap();
    for size in [most * 2, 1 << 46, i64::MAX as u64, u64::MAX] {
        let error = create(size).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutOfMemory), "{size}: {error:?}");
    }
}

#[test]
fn memory_that_was_set_aside_is_there() {
    use std::os::linux::fs::MetadataExt;
    let file = File::from(create(2 << 20).unwrap());
    assert!(file.metadata().unwrap().st_blocks() == 0 || pages::never_overcommits());
    commit(file.as_fd(), 0..1 << 20).unwrap();
    assert!(file.metadata().unwrap().st_blocks() * 512 >= 1 << 20);
    // What nobody can grow does not grow by it.
    fix_size(file.as_fd()).unwrap();
    assert!(commit(file.as_fd(), 0..3 << 20).is_err());
    assert_eq!(file.metadata().unwrap().len(), 2 << 20);
}

#[test]
fn holes_are_seen_whatever_lies_beyond_the_end() {
    let size = 1 << 20;
    let file = create(size).unwrap();
    fallocate(&file, FallocateFlags::KEEP_SIZE, size, size).unwrap();
    fix_size(file.as_fd()).unwrap();
    assert!(has_holes(file.as_fd(), size).unwrap());
    write_at(file.as_fd(), &vec![1; size as usize], 0).unwrap();
    assert!(!has_holes(file.as_fd(), size).unwrap());
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, size / 2, 4096).unwrap();
    assert!(has_holes(file.as_fd(), size).unwrap());
    assert!(!has_holes(create(0).unwrap().as_fd(), 0).unwrap());
}

#[test]
fn a_fixed_size_stays() {
    let file = create(4096).unwrap();
    fix_size(file.as_fd()).unwrap();
    assert_eq!(ftruncate(&file, 0), Err(Errno::PERM));
    assert_eq!(ftruncate(&file, 8192), Err(Errno::PERM));
    assert_eq!(ftruncate(reopen(file.as_fd()).unwrap(), 0), Err(Errno::PERM));
    fix_seals(file.as_fd()).unwrap();
    assert_eq!(fcntl_add_seals(&file, SealFlags::WRITE), Err(Errno::PERM));
}

#[test]
fn freezing_waits_for_nobody_and_ends_all_writing() {
    let file = create(4096).unwrap();
    let mapping = MmapRaw::map_raw(&file).unwrap();
    assert_eq!(freeze(file.as_fd()).unwrap_err().kind(), ErrorKind::ResourceBusy);
    assert!(!examine_sized(&file));
    drop(mapping);
    freeze(file.as_fd()).unwrap();
    assert!(examine(file.as_fd()).unwrap().unwrap().frozen);
    assert_eq!(write_at(file.as_fd(), &[1], 0).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(MmapRaw::map_raw(&file).is_err());
}

fn examine_sized(file: &OwnedFd) -> bool {
    examine(file.as_fd()).unwrap().is_some()
}

#[test]
fn only_sealed_sizes_are_relied_on() {
    assert!(!examine_sized(&create(9).unwrap()));
    assert!(!examine_sized(&sealed(9, SealFlags::GROW)));
    assert!(!examine_sized(&sealed(9, SealFlags::SHRINK)));
    assert!(!examine_sized(&sealed(9, SealFlags::WRITE | SealFlags::SEAL)));
    let file = sealed(9, SIZED);
    let facts = examine(file.as_fd()).unwrap().unwrap();
    assert_eq!((facts.size, facts.frozen), (9, false));
    assert_eq!(facts.identity, identity(file.as_fd()).unwrap());
}

#[test]
fn what_is_no_memory_is_not_relied_on() {
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let descriptors: [OwnedFd; 5] = [
        File::open("/dev/null").unwrap().into(),
        File::open("/proc/self").unwrap().into(),
        tempfile::tempfile().unwrap().into(),
        reader,
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap(),
    ];
    for descriptor in descriptors {
        assert!(!examine_sized(&descriptor), "{descriptor:?}");
    }
}

#[test]
fn all_descriptors_of_a_file_have_its_identity() {
    let (file, other) = (create(1).unwrap(), create(1).unwrap());
    let id = |file: &OwnedFd| identity(file.as_fd()).unwrap();
    assert_eq!(id(&file), id(&reopen(file.as_fd()).unwrap()));
    assert_eq!(id(&file), id(&duplicate(file.as_fd()).unwrap()));
    assert_ne!(id(&file), id(&other));
}

#[test]
fn opening_what_somebody_has_a_lease_of_is_an_error_and_does_not_wait() {
    // See fcntl(2), "Leases" and "Managing signals": these two are not in `libc`.
    const F_SETSIG: i32 = 10;
    const F_SETLEASE: i32 = 1024;
    let file = sealed(4096, SIZED);
    let holder = File::from(reopen(file.as_fd()).unwrap());
    // SAFETY: the call sets a number of the description: the signal that breaks of its lease are
    // told by, one that ends nobody.
    assert_eq!(unsafe { libc::fcntl(holder.as_raw_fd(), F_SETSIG, libc::SIGWINCH) }, 0);
    let lease = |kind: i32| {
        // SAFETY: the call sets a number of the description.
        unsafe { libc::fcntl(holder.as_raw_fd(), F_SETLEASE, kind) }
    };
    assert_eq!(lease(libc::F_WRLCK), 0);
    assert_eq!(reopen(file.as_fd()).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(lease(libc::F_UNLCK), 0);
    reopen(file.as_fd()).unwrap();
}

#[test]
fn bytes_come_back_from_where_they_were_put() {
    let file = create(3 * 4096).unwrap();
    let bytes: Vec<u8> = (0..5000).map(|number| number as u8).collect();
    write_at(file.as_fd(), &bytes, 4095).unwrap();
    // SAFETY: they are the bytes of a vector.
    unsafe { copy_at(file.as_fd(), bytes.as_ptr(), 3, 0) }.unwrap();
    let mut back = vec![0; 5000];
    read_at(file.as_fd(), &mut back, 4095).unwrap();
    assert_eq!(back, bytes);
    read_at(file.as_fd(), &mut back[..4], 0).unwrap();
    assert_eq!(back[..4], [0, 1, 2, 0]);
}

#[test]
fn beyond_the_end_is_an_error() {
    let file = create(8).unwrap();
    fix_size(file.as_fd()).unwrap();
    assert_eq!(read_at(file.as_fd(), &mut [0; 9], 0).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(read_at(file.as_fd(), &mut [0], 8).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(write_at(file.as_fd(), &[0; 9], 0).unwrap_err().kind(), ErrorKind::PermissionDenied);
    // SAFETY: the byte can be read.
    let result = unsafe { copy_at(file.as_fd(), [7].as_ptr(), 1, 8) };
    assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
    // SAFETY: the byte can be read.
    let result = unsafe { copy_at(file.as_fd(), [7].as_ptr(), 1, u64::MAX) };
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EOVERFLOW));
    read_at(file.as_fd(), &mut [], u64::MAX).unwrap();
}
