//! `FrozenBuffer`: memory that nobody writes any more, whatever they try.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use mp_core::raw::Message;
use mp_core::{Fd, Receiver, pipe, process_fn};
use mp_shm::{AttachError, Buffer, FrozenBuffer};
use mp_testing::{error_chain, scenario};
use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate};

#[process_fn]
fn sum(values: FrozenBuffer<u64>) -> (u64, usize) {
    (values.iter().sum(), values.len())
}

#[process_fn]
fn sum_of_all(parts: Vec<FrozenBuffer<u64>>) -> u64 {
    parts.iter().flat_map(|part| part.iter()).sum()
}

scenario!(clones_and_slices_of_it_go_everywhere, {
    let values: Vec<u64> = (0..10_000).collect();
    let frozen = FrozenBuffer::from_slice(&values).unwrap();
    assert_eq!(*frozen, values);
    let slices = [
        frozen.slice(..),
        frozen.slice(1_234..),
        frozen.slice(..=77),
        frozen.slice(511..5_000).slice(100..200),
        frozen.slice(3..3),
    ];
    for slice in &slices {
        assert_eq!(sum::spawn(slice.clone()).unwrap().join().unwrap(), (slice.iter().sum(), slice.len()));
    }
    let expected: u64 = slices.iter().flat_map(|slice| slice.iter()).sum();
    drop(frozen);
    assert_eq!(sum_of_all::spawn(slices.to_vec()).unwrap().join().unwrap(), expected);
    assert_eq!(sum::spawn(FrozenBuffer::from_slice(&[]).unwrap()).unwrap().join().unwrap(), (0, 0));
});

#[test]
fn a_slice_beyond_its_end_panics() {
    let frozen = FrozenBuffer::from_slice(&[1u8, 2, 3]).unwrap();
    for range in [2..4, 4..4] {
        std::panic::catch_unwind(|| frozen.slice(range)).unwrap_err();
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tried")]
    std::panic::catch_unwind(|| frozen.slice(2..1)).unwrap_err();
    std::panic::catch_unwind(|| frozen.slice(..=usize::MAX)).unwrap_err();
}

/// Tries everything that could change the memory, and tells what the system let it do.
#[process_fn]
fn attack(values: FrozenBuffer<u64>) -> Vec<String> {
    let mut done = Vec::new();
    let mut tried = |what: &str, succeeded: bool| {
        if succeeded {
            done.push(what.to_owned());
        }
    };
    let path = format!("/proc/self/fd/{}", values.as_fd().as_raw_fd());
    let reopened = OpenOptions::new().read(true).write(true).open(&path);
    let own = File::from(values.as_fd().try_clone_to_owned().unwrap());
    for file in [Some(own), reopened.ok()].into_iter().flatten() {
        tried("map it", MmapRaw::map_raw(&file).is_ok());
        tried("write it", file.write_at(b"!", 4096).is_ok());
        tried("append to it", (&file).seek(std::io::SeekFrom::End(0)).and_then(|_| (&file).write_all(b"!")).is_ok());
        tried("shorten it", ftruncate(&file, 4096).is_ok());
        tried("lengthen it", ftruncate(&file, 1 << 30).is_ok());
        tried(
            "punch holes",
            fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4096, 4096).is_ok(),
        );
        tried("zero it", fallocate(&file, FallocateFlags::ZERO_RANGE, 4096, 4096).is_ok());
        tried("add seals", fcntl_add_seals(&file, SealFlags::FUTURE_WRITE).is_ok());
        // SAFETY: it is not read.
        let private = unsafe { MmapOptions::new().map_copy_read_only(&file) }.unwrap();
        // SAFETY: the mapping is private; its pages are whole.
        let made =
            unsafe { libc::mprotect(private.as_ptr().cast_mut().cast(), 4096, libc::PROT_READ | libc::PROT_WRITE) };
        // To write a private mapping changes nothing that others see.
        assert_eq!(made, 0);
    }
    tried("truncate it", OpenOptions::new().write(true).truncate(true).open(&path).is_ok());
    let shared = makes_a_mapping_writable(&values);
    tried("make a mapping writable", shared);
    done
}

/// A shared mapping to read, where the kernel has those, cannot be made one to write.
fn makes_a_mapping_writable(values: &FrozenBuffer<u64>) -> bool {
    let Ok(mapping) = MmapOptions::new().map_raw_read_only(values.as_fd().as_raw_fd()) else { return false };
    // SAFETY: whole pages of a mapping that is alive.
    unsafe { libc::mprotect(mapping.as_mut_ptr().cast(), 4096, libc::PROT_READ | libc::PROT_WRITE) == 0 }
}

scenario!(no_process_can_write_it_by_any_means, {
    let values: Vec<u64> = (0..5_000).collect();
    let frozen = FrozenBuffer::from_slice(&values).unwrap();
    let seals = fcntl_get_seals(&frozen).unwrap();
    assert!(seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
    assert_eq!(attack::spawn(frozen.clone()).unwrap().join().unwrap(), Vec::<String>::new());
    assert_eq!(attack::call(frozen.clone()).run(), Vec::<String>::new());
    assert_eq!(*frozen, values);
});

/// Holds a mapping of the memory that can be written until told to let go.
#[process_fn]
fn hold(memory: Fd<OwnedFd>, held: mp_core::Sender<()>, end: Receiver<()>) {
    let mapping = MmapRaw::map_raw(&memory.0).unwrap();
    held.send(()).unwrap();
    let _ = end.recv();
    drop(mapping);
}

scenario!(what_another_process_can_still_write_does_not_freeze, {
    let (mut buffer, memory) = buffer_and_memory();
    let (holding, held) = pipe().unwrap();
    let (end, ended) = pipe().unwrap();
    let process = hold::spawn(Fd(memory), holding, ended).unwrap();
    held.recv().unwrap();
    for _ in 0..3 {
        let error = buffer.freeze_timeout(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::ResourceBusy);
        buffer = error.buffer.unwrap();
        buffer[0] += 1;
    }
    end.send(()).unwrap();
    process.join().unwrap();
    assert_eq!(*buffer.freeze().unwrap(), [4, 2, 3]);
});

/// A buffer of three values, and the descriptor of its memory, which the library itself does not
/// hand out.
fn buffer_and_memory() -> (Buffer<u64>, OwnedFd) {
    let sent = Message::encode(&Buffer::from_slice(&[1u64, 2, 3]).unwrap()).unwrap();
    let (Fd(file), start, end) = sent.decode::<(Fd<OwnedFd>, u64, u64)>().unwrap();
    let copy = Message::encode(&(Fd(file.try_clone().unwrap()), start, end)).unwrap();
    (copy.decode().unwrap(), file)
}

/// The length of the buffers below, in bytes.
const LONG: usize = 32 << 20;

/// A frozen buffer of zeros, and whether it took all its memory.
#[process_fn]
fn zeros() -> (FrozenBuffer<u8>, bool) {
    let frozen = Buffer::<u8>::zeroed(LONG).unwrap().freeze().unwrap();
    let takes = is_allocated(&frozen);
    (frozen, takes)
}

fn is_allocated(memory: impl AsFd) -> bool {
    fstat(memory).unwrap().st_blocks * 512 >= LONG as i64
}

/// The same, of which this library does not know that it was frozen.
#[process_fn]
fn holes() -> (Fd<OwnedFd>, u64, u64) {
    let buffer = Message::encode(&Buffer::<u8>::zeroed(LONG).unwrap()).unwrap();
    let (Fd(memory), start, end) = buffer.decode::<(Fd<OwnedFd>, u64, u64)>().unwrap();
    fcntl_add_seals(&memory, SealFlags::WRITE).unwrap();
    (Fd(memory), start, end)
}

scenario!(whoever_freezes_zeros_pays_for_them_and_holes_are_refused, {
    let (frozen, takes) = zeros::spawn().unwrap().join().unwrap();
    assert!(takes && frozen.iter().step_by(4096).all(|byte| *byte == 0));

    let (Fd(memory), start, end) = holes::spawn().unwrap().join().unwrap();
    let sent = Message::encode(&(Fd(memory.try_clone().unwrap()), start, end)).unwrap();
    let error = error_chain(&sent.decode::<FrozenBuffer<u8>>().unwrap_err());
    assert!(error.contains("never allocated"), "{error}");
    let refused = FrozenBuffer::<u8>::try_from(memory.try_clone().unwrap());
    assert!(matches!(refused, Err(AttachError::Holes)));
    assert!(!is_allocated(memory));
});

scenario!(a_part_does_not_freeze, {
    let (start, end) = Buffer::from_slice(&[1u8, 2, 3]).unwrap().split_at(1);
    let error = start.freeze().unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::InvalidInput);
    let whole = error.buffer.unwrap().unsplit(end).unwrap();
    assert_eq!(*whole.freeze().unwrap(), [1, 2, 3]);
});

scenario!(a_descriptor_is_attached_only_if_it_is_frozen, {
    let frozen = FrozenBuffer::from_slice(&[1u32, 2]).unwrap();
    let file = || frozen.as_fd().try_clone_to_owned().unwrap();
    assert_eq!(*FrozenBuffer::<u32>::try_from(file()).unwrap(), [1, 2]);
    assert!(matches!(FrozenBuffer::<i32>::try_from(file()), Err(AttachError::Type)));
    assert!(matches!(FrozenBuffer::<[u32; 1]>::try_from(file()), Err(AttachError::Type)));
    let received = Message::encode(&(Fd(file()), 0u64, 2u64)).unwrap();
    assert!(error_chain(&received.decode::<Buffer<u32>>().unwrap_err()).contains("is frozen"));

    let buffer = Buffer::from_slice(&[1u32, 2]).unwrap();
    let message = Message::encode(&buffer).unwrap();
    assert!(error_chain(&message.decode::<FrozenBuffer<u32>>().unwrap_err()).contains("not frozen"));

    for (start, end) in [(0u64, 3u64), (2, 1), (3, 3), (u64::MAX, u64::MAX), (0, 1 << 61), (1 << 61, 1 << 61)] {
        let message = Message::encode(&(Fd(file()), start, end)).unwrap();
        let error = error_chain(&message.decode::<FrozenBuffer<u32>>().unwrap_err());
        assert!(error.contains("are not in the memory"), "{error}");
    }
});
