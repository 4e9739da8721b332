//! Named memory within a process and between processes of this library.

use std::error::Error;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::names::{all_of, exists, own, path};
use mp_core::process_fn;
use mp_core::raw::Message;
use mp_shm::{NameError, SharedMemory, SharedMemoryError};
use mp_testing::leaks::Resources;
use mp_testing::limits::with_limit;
use mp_testing::scenario;
use serde::{Deserialize, Serialize};

fn bytes<const N: usize>(memory: &SharedMemory, offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    memory.read_at(offset, &mut bytes).unwrap();
    bytes
}

scenario!(what_one_handle_writes_another_reads, {
    for size in [1, 4095, 4096, 4097, 200 << 20] {
        let mut memory = SharedMemory::create(None, size).unwrap();
        let opened = SharedMemory::open(&format!("/{}", memory.name())).unwrap();
        assert_eq!((opened.name(), opened.size(), memory.size()), (memory.name(), size, size));
        assert_eq!(bytes(&opened, size - 1), [0]);
        memory.write_at(size - 1, b"x").unwrap();
        assert_eq!(bytes(&opened, size - 1), *b"x");
        // SAFETY: nobody else uses it meanwhile.
        let slice = unsafe { memory.as_mut_slice() };
        slice[0] = b'y';
        // SAFETY: the same.
        assert_eq!(unsafe { opened.as_slice() }[0], b'y');
        assert_ne!(opened.as_ptr(), memory.as_ptr());
        let metadata = fs::metadata(path(memory.name())).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
        assert!(metadata.blocks() * 512 >= size as u64, "it is all there");
    }
});

scenario!(the_name_ends_with_the_creators_handle_alone, {
    let name = own("ends");
    let memory = SharedMemory::create(&*name, 10).unwrap();
    assert_eq!(all_of(&name).len(), 2, "the name and the mark");
    drop(SharedMemory::open(&name).unwrap());
    drop(memory.try_clone().unwrap());
    let opened = SharedMemory::open(&name).unwrap();
    drop(memory);
    assert!(!exists(&name));
    assert!(matches!(SharedMemory::open(&name), Err(SharedMemoryError::NotFound { .. })));
    opened.write_at(0, b"it is still there").unwrap_err();
    opened.write_at(0, b"still here").unwrap();
    assert_eq!(&bytes(&opened.try_clone().unwrap(), 0), b"still here");
    assert!(matches!(opened.unlink(), Err(SharedMemoryError::NotFound { .. })));
});

scenario!(what_is_kept_stays_until_it_is_unlinked, {
    let name = own("kept");
    let mut memory = SharedMemory::create(&*name, 4).unwrap();
    memory.write_at(0, b"kept").unwrap();
    memory.keep().unwrap();
    memory.keep().unwrap();
    assert_eq!(all_of(&name), [&*name]);
    drop(memory);
    SharedMemory::sweep().unwrap();
    let opened = SharedMemory::open(&name).unwrap();
    assert_eq!(&bytes(&opened, 0), b"kept");
    opened.unlink().unwrap();
    assert!(!exists(&name));
});

scenario!(a_name_that_leads_elsewhere_by_now_is_left_alone, {
    let name = own("elsewhere");
    let first = SharedMemory::create(&*name, 1).unwrap();
    first.unlink().unwrap();
    assert!(!exists(&name));
    let second = SharedMemory::create(&*name, 2).unwrap();
    assert!(matches!(first.unlink(), Err(SharedMemoryError::NotFound { .. })));
    drop(first);
    assert_eq!(SharedMemory::open(&name).unwrap().size(), 2);

    // Others unlink by name alone, as Python does.
    fs::remove_file(path(&name)).unwrap();
    drop(second);
});

scenario!(names_sizes_and_bounds_are_checked, {
    let name = own("checked");
    let memory = SharedMemory::create(&*name, 8).unwrap();
    for (wrong, why) in
        [("", NameError::Empty), ("a/b", NameError::Slash), ("a\0", NameError::Nul), ("..", NameError::Directory)]
    {
        for result in [SharedMemory::create(wrong, 1), SharedMemory::open(wrong)] {
            let Err(SharedMemoryError::InvalidName { name, source }) = result else { panic!("{wrong:?}") };
            assert_eq!((&*name, source), (wrong, why.clone()));
        }
    }
    for size in [0, usize::MAX, isize::MAX as usize + 1] {
        assert!(matches!(SharedMemory::create(None, size), Err(SharedMemoryError::InvalidSize { .. })));
    }
    assert!(matches!(SharedMemory::create(&*name, 1), Err(SharedMemoryError::Exists { .. })));
    for (offset, length) in [(0, 9), (8, 1), (9, 0), (usize::MAX, 1)] {
        let error = memory.write_at(offset, &b"123456789"[..length]).unwrap_err();
        assert!(matches!(error, SharedMemoryError::OutOfBounds { size: 8, .. }));
        let error = memory.read_at(offset, &mut vec![0; length]).unwrap_err();
        assert!(matches!(error, SharedMemoryError::OutOfBounds { size: 8, .. }));
    }
    assert_eq!(bytes(&memory, 0), [0; 8]);
    memory.write_at(8, b"").unwrap();
});

scenario!(what_is_no_shared_memory_is_refused, {
    let name = own("other");
    let place = path(&name);
    let refused = || match SharedMemory::open(&name) {
        Err(SharedMemoryError::NotSharedMemory { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    File::create(&place).unwrap();
    assert_eq!(refused(), "it is empty");
    fs::remove_file(&place).unwrap();

    let memory = SharedMemory::create(None, 1).unwrap();
    symlink(path(memory.name()), &place).unwrap();
    assert_eq!(refused(), "it is a symbolic link");
    fs::remove_file(&place).unwrap();

    fs::create_dir(&place).unwrap();
    assert_eq!(refused(), "it is no regular file");
    fs::remove_dir(&place).unwrap();

    let c_name = std::ffi::CString::new(place.to_str().unwrap()).unwrap();
    // SAFETY: it is the path of nothing yet.
    assert_eq!(unsafe { libc::mkfifo(c_name.as_ptr(), 0o600) }, 0);
    assert_eq!(refused(), "it is no regular file");
    fs::remove_file(&place).unwrap();
});

scenario!(memory_that_is_not_there_is_an_error_and_leaves_nothing, {
    let before = Resources::of_this_process();
    let name = own("much");
    for size in [1 << 45, isize::MAX as usize] {
        let error = SharedMemory::create(&*name, size).unwrap_err();
        assert!(matches!(error, SharedMemoryError::NoRoom { size: asked, .. } if asked == size), "{error:?}");
        assert!(error.source().is_some());
    }
    // A signal would end this process.
    with_limit(rustix::process::Resource::Fsize, 1 << 16, || {
        assert!(matches!(SharedMemory::create(&*name, (1 << 16) + 1), Err(SharedMemoryError::NoRoom { .. })));
        let memory = SharedMemory::create(&*name, 1 << 16).unwrap();
        memory.write_at((1 << 16) - 1, b"x").unwrap();
    });
    let memory = SharedMemory::create(&*name, 1 << 17).unwrap();
    with_limit(rustix::process::Resource::Fsize, 1 << 16, || {
        assert!(matches!(memory.write_at(1 << 16, b"x"), Err(SharedMemoryError::NoRoom { .. })));
    });
    drop(memory);
    with_limit(rustix::process::Resource::As, 1 << 30, || {
        assert!(matches!(SharedMemory::create(&*name, 1 << 30), Err(SharedMemoryError::NoRoom { .. })));
    });
    mp_testing::limits::with_descriptors(0, || {
        assert!(matches!(SharedMemory::create(&*name, 1), Err(SharedMemoryError::Io { .. })));
    });
    assert!(!exists(&name));
    assert_eq!(Resources::of_this_process(), before);
});

scenario!(memory_that_was_shortened_is_an_error_and_stays_short, {
    let memory = SharedMemory::create(None, 8192).unwrap();
    let opened = SharedMemory::open(memory.name()).unwrap();
    rustix::fs::ftruncate(opened.as_fd(), 100).unwrap();
    let shortened = |error| matches!(error, SharedMemoryError::Shortened { size: 100, .. });
    assert!(shortened(memory.read_at(50, &mut [0; 100]).unwrap_err()));
    assert!(shortened(memory.write_at(50, &[1; 100]).unwrap_err()));
    assert!(shortened(memory.write_at(8000, b"x").unwrap_err()));
    assert_eq!(fs::metadata(path(memory.name())).unwrap().len(), 100);
    memory.write_at(90, &[1; 10]).unwrap();
    assert_eq!(bytes(&memory, 89), [0, 1]);
});

/// Fills the memory that it is lent with what it is called.
#[process_fn]
fn answers(memory: SharedMemory) -> SharedMemory {
    assert_eq!(&bytes(&memory, 0), b"question");
    memory.write_at(0, b"answered").unwrap();
    memory
}

scenario!(it_travels_and_stays_with_the_creator, {
    let name = own("travels");
    let memory = SharedMemory::create(&*name, 8).unwrap();
    memory.write_at(0, b"question").unwrap();
    let back = answers::spawn(memory.try_clone().unwrap()).unwrap().join().unwrap();
    assert_eq!((back.name(), back.size(), &bytes(&memory, 0)), (&*name, 8, b"answered"));
    assert!(exists(&name), "neither the other process nor its handle has unlinked it");

    // Sent away by the creator, the name is gone, and the memory arrives.
    memory.write_at(0, b"question").unwrap();
    let process = answers::spawn(memory).unwrap();
    assert!(!exists(&name));
    assert_eq!(&bytes(&process.join().unwrap(), 0), b"answered");
    assert!(serde_json::to_string(&back).is_err(), "outside a message there are no descriptors");
});

#[derive(Serialize, Deserialize)]
struct Forged {
    name: String,
    #[serde(with = "mp_core::fd")]
    file: File,
}

scenario!(a_message_that_brings_something_else_is_an_error, {
    let memory = SharedMemory::create(None, 1).unwrap();
    let received = |name: &str, file: &dyn Fn() -> File| {
        let forged = Forged { name: name.to_owned(), file: file() };
        let result = Message::encode(&forged).unwrap().decode::<SharedMemory>();
        result.map(|_| ()).map_err(|error| mp_testing::error_chain(&error))
    };
    let open = |write| File::options().read(true).write(write).open(path(memory.name())).unwrap();
    assert_eq!(received("any", &|| open(true)), Ok(()));
    for (name, file, text) in [
        ("any", &(|| open(false)) as &dyn Fn() -> File, "is not shared memory"),
        ("any", &|| File::open("/dev/null").unwrap(), "is not shared memory"),
        ("any", &|| File::open("/proc/self/exe").unwrap(), "is not shared memory"),
        ("any", &|| File::open("/dev/shm").unwrap(), "is not shared memory"),
        ("a/b", &|| open(true), "is not a valid name"),
    ] {
        let error = received(name, file).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
    let empty = rustix::fs::memfd_create("mp-core-test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    assert!(received("any", &|| empty.try_clone().unwrap().into()).unwrap_err().contains("empty"));
});

scenario!(a_forked_child_leaves_the_name_to_its_parent, {
    let name = own("forked");
    let mut memory = SharedMemory::create(&*name, 1).unwrap();
    // SAFETY: the child calls nothing that another thread could have been in the middle of: it
    // unmaps and closes, and ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let _ = memory.keep();
        drop(memory);
        // SAFETY: it only ends the process.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: it is our child, and there is room for the status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
    assert_eq!(all_of(&name).len(), 2);
    drop(memory);
    assert!(!exists(&name));
});

#[test]
fn errors_and_handles_go_everywhere() {
    fn everywhere<T: Send + Sync + 'static>() {}
    fn is_error<T: Error + Send + Sync + 'static>() {}
    everywhere::<SharedMemory>();
    everywhere::<mp_shm::ShareableList>();
    is_error::<SharedMemoryError>();
    is_error::<NameError>();
    is_error::<mp_shm::ShareableListError>();
}
