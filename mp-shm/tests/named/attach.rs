//! Attaching memory: what is not what it should be is an error, whoever made it, and what others do
//! to it later reaches nobody's other memory.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use mp_core::raw::Message;
use mp_core::{DecodeError, Receiver, Sender, pipe, process_fn};
use mp_shm::{Array, AttachError, Shared, ShmSafe, Value};
use mp_sync::{LockError, Mutex};
use mp_testing::faults::Random;
use mp_testing::{PATIENCE, error_chain, scenario};
use proptest::prelude::*;
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, fstat, ftruncate, memfd_create,
    open,
};
use rustix::io::{Errno, pread, pwrite};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Encoded as every handle is, so that any descriptor goes in and a value comes out.
#[derive(Serialize, Deserialize)]
struct Handle(#[serde(with = "mp_core::fd")] OwnedFd);

/// The seals without which no memory is attached.
const SIZED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The numbers of the header: format, kind, layout, size and alignment of a value, how many there
/// are.
const FIELDS: usize = 6;
const FORMAT: usize = 0;
const KIND: usize = 1;
const LAYOUT: usize = 2;
const SIZE: usize = 3;
const ALIGNMENT: usize = 4;
const LENGTH: usize = 5;

/// A memory file with these bytes and seals.
fn memory(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let mut file: File = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap().into();
    file.write_all(bytes).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

/// The descriptor of the memory of a value.
fn fd_of(value: &impl Serialize) -> OwnedFd {
    Message::encode(value).unwrap().decode::<Handle>().unwrap().0
}

/// What is in the memory of a value, header and all.
fn bytes_of(value: &impl Serialize) -> Vec<u8> {
    let file = fd_of(value);
    let mut bytes = vec![0; fstat(&file).unwrap().st_size as usize];
    assert_eq!(pread(&file, &mut bytes[..], 0).unwrap(), bytes.len());
    bytes
}

fn put(bytes: &mut [u8], field: usize, number: u64) {
    bytes[8 * field..][..8].copy_from_slice(&number.to_le_bytes());
}

fn field(bytes: &[u8], field: usize) -> u64 {
    u64::from_le_bytes(bytes[8 * field..][..8].try_into().unwrap())
}

fn array() -> Array<u64> {
    Array::from_slice(&[1, 2, 3]).unwrap()
}

/// Why it cannot be attached.
#[track_caller]
fn refused<T: DeserializeOwned>(file: OwnedFd) -> String {
    let Err(error) = received::<T>(file) else { panic!("it was attached") };
    error_chain(&error)
}

#[track_caller]
fn attached<T: DeserializeOwned>(file: OwnedFd) -> T {
    received(file).unwrap()
}

fn received<T: DeserializeOwned>(file: OwnedFd) -> Result<T, DecodeError> {
    Message::encode(&Handle(file)).unwrap().decode()
}

fn is(error: &str, expected: AttachError) -> bool {
    error.contains(&expected.to_string())
}

fn is_of_another_size(error: &str) -> bool {
    error.contains(" bytes instead of ")
}

scenario!(what_is_as_it_should_be_is_attached_whoever_made_it, {
    // The same memory by its descriptor, and a copy of it.
    let one = array();
    attached::<Array<u64>>(fd_of(&one)).set(0, 7).unwrap();
    assert_eq!(one.get(0).unwrap(), 7);
    let copy: Array<u64> = attached(memory(&bytes_of(&one), SIZED));
    assert_eq!(*copy.lock().unwrap(), [7, 2, 3]);
    copy.set(1, 8).unwrap();
    assert_eq!(one.get(1).unwrap(), 2);
    let value = Value::new('a').unwrap();
    attached::<Value<char>>(memory(&bytes_of(&value), SIZED | SealFlags::SEAL)).set('b').unwrap();
    attached::<Value<char>>(fd_of(&value)).set('c').unwrap();
    // It is what it says to be.
    assert_eq!(*attached::<Shared<Mutex<char>>>(fd_of(&value)).lock().unwrap(), 'c');
    let shared = Shared::new(5_u8).unwrap();
    assert_eq!(*attached::<Shared<u8>>(fd_of(&shared)), 5);
});

#[derive(ShmSafe, Clone, Copy)]
struct Point {
    x: u32,
    y: u32,
}

/// With the same bytes.
mod later {
    use mp_shm::ShmSafe;

    #[derive(ShmSafe, Clone, Copy)]
    pub(super) struct Point {
        pub(super) y: u32,
        pub(super) x: u32,
    }
}

scenario!(another_type_is_refused, {
    fn other<T: DeserializeOwned>(file: OwnedFd) {
        let error = refused::<T>(file);
        assert!(is(&error, AttachError::Type), "{error}");
    }
    let array = array();
    other::<Array<i64>>(fd_of(&array));
    other::<Array<f64>>(fd_of(&array));
    other::<Array<u32>>(fd_of(&array));
    other::<Array<[u64; 1]>>(fd_of(&array));
    other::<Array<AtomicU64>>(fd_of(&array));
    // Other kinds of memory.
    other::<Shared<u64>>(fd_of(&array));
    other::<Value<u64>>(fd_of(&array));
    let one = Array::from_slice(&[1_u64]).unwrap();
    other::<Shared<u64>>(fd_of(&one));
    other::<Array<u64>>(fd_of(&Shared::new(1_u64).unwrap()));
    let value = Value::new(1_u32).unwrap();
    other::<Array<u32>>(fd_of(&value));
    other::<Shared<u32>>(fd_of(&value));
    other::<Value<i32>>(fd_of(&value));
    other::<Value<Option<u32>>>(fd_of(&value));
    // One that was put together in another way since.
    let point = Value::new(Point { x: 1, y: 2 }).unwrap();
    let Point { x, y } = attached::<Value<Point>>(fd_of(&point)).get().unwrap();
    other::<Value<later::Point>>(fd_of(&point));
    let later = Array::from_slice(&[later::Point { x, y }]).unwrap();
    other::<Array<Point>>(fd_of(&later));
    let later::Point { x, y } = later.get(0).unwrap();
    assert_eq!((x, y), (1, 2));
});

scenario!(a_header_that_lies_is_refused, {
    let honest = bytes_of(&array());
    let with = |index, number| {
        let mut bytes = honest.clone();
        put(&mut bytes, index, number);
        refused::<Array<u64>>(memory(&bytes, SIZED))
    };
    assert!(is(&with(FORMAT, 0), AttachError::Format));
    // The next version.
    assert!(is(&with(FORMAT, field(&honest, FORMAT) + (1 << 56)), AttachError::Format));
    for kind in [0, 1, 3, 4, u64::MAX] {
        assert!(is(&with(KIND, kind), AttachError::Type));
    }
    assert!(is(&with(LAYOUT, field(&honest, LAYOUT) ^ 1), AttachError::Type));
    for number in [0, 1, 4, 16, u64::MAX] {
        assert!(is(&with(SIZE, number), AttachError::Type));
        assert!(is(&with(ALIGNMENT, number), AttachError::Type));
    }
    let found = honest.len() as u64;
    for (length, expected) in [
        (0, found - 24),
        (2, found - 8),
        (4, found + 8),
        (1 << 40, found - 24 + (8 << 40)),
        // What times 8 is small again, or negative.
        ((1 << 61) + 3, u64::MAX),
        (1 << 61, u64::MAX),
        (1 << 60, u64::MAX),
        (u64::MAX, u64::MAX),
    ] {
        let error = with(LENGTH, length);
        assert!(is(&error, AttachError::Size { found, expected }), "{length}: {error}");
    }
    // Behind a shared value there is nothing.
    for length in [1, 2, u64::MAX] {
        let mut bytes = bytes_of(&Shared::new(()).unwrap());
        put(&mut bytes, LENGTH, length);
        assert!(is_of_another_size(&refused::<Shared<()>>(memory(&bytes, SIZED))));
    }
    for length in [1, 2, 3] {
        let mut bytes = bytes_of(&Shared::new(()).unwrap());
        put(&mut bytes, LENGTH, length);
        bytes.resize(bytes.len() + length as usize, 0);
        assert!(is(&refused::<Shared<()>>(memory(&bytes, SIZED)), AttachError::Type));
    }
});

scenario!(memory_that_is_too_short_or_too_long_is_refused, {
    let mut bytes = bytes_of(&array());
    for length in 0..bytes.len() {
        let error = refused::<Array<u64>>(memory(&bytes[..length], SIZED));
        assert!(error.contains(&format!("the memory has {length} bytes instead of ")), "{error}");
    }
    bytes.push(0);
    assert!(is_of_another_size(&refused::<Array<u64>>(memory(&bytes, SIZED))));
    bytes.resize(1 << 20, 0);
    assert!(is_of_another_size(&refused::<Array<u64>>(memory(&bytes, SIZED))));
});

scenario!(memory_that_could_change_its_size_or_cannot_be_written_is_refused, {
    let bytes = bytes_of(&array());
    let with = |seals| refused::<Array<u64>>(memory(&bytes, seals));
    for seals in [
        SealFlags::empty(),
        SealFlags::SHRINK,
        SealFlags::GROW,
        SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
        SealFlags::SHRINK | SealFlags::WRITE | SealFlags::SEAL,
    ] {
        assert!(is(&with(seals), AttachError::NotSealed), "{seals:?}");
    }
    assert!(is(&with(SIZED | SealFlags::WRITE), AttachError::Frozen));
    let value = bytes_of(&Value::new(1).unwrap());
    assert!(is(&refused::<Value<i32>>(memory(&value, SIZED | SealFlags::WRITE)), AttachError::Frozen));
    // Who has it mapped may go on writing, nobody else may begin.
    let is_not_permitted = |error: &str| error.contains("could not be attached: ") && error.contains("ermi");
    assert!(is_not_permitted(&with(SIZED | SealFlags::FUTURE_WRITE)));

    let file = memory(&bytes, SIZED);
    let by = |flags| open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags | OFlags::CLOEXEC, Mode::empty());
    attached::<Array<u64>>(by(OFlags::RDWR).unwrap());
    assert!(is_not_permitted(&refused::<Array<u64>>(by(OFlags::RDONLY).unwrap())));
    assert!(refused::<Array<u64>>(by(OFlags::WRONLY).unwrap()).contains("could not be attached: "));
    assert!(is(&refused::<Array<u64>>(by(OFlags::PATH).unwrap()), AttachError::NotSealed));
});

/// Sealed memory of huge pages, if there are any: touching one that is missing would be a SIGBUS.
fn huge_pages() -> rustix::io::Result<OwnedFd> {
    let file = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB)?;
    ftruncate(&file, 1 << 30)?;
    fcntl_add_seals(&file, SIZED)?;
    Ok(file)
}

scenario!(what_is_no_memory_is_refused, {
    let bytes = bytes_of(&array());
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let mut in_memory = tempfile::tempfile_in("/dev/shm").unwrap();
    in_memory.write_all(&bytes).unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut writer = File::from(writer);
    writer.write_all(&bytes).unwrap();
    let (one, mut other) = UnixStream::pair().unwrap();
    other.write_all(&bytes).unwrap();
    let mut descriptors: Vec<OwnedFd> = vec![
        file.into(),
        in_memory.into(),
        reader,
        writer.into(),
        one.into(),
        other.into(),
        File::open("/dev/null").unwrap().into(),
        File::open("/dev/zero").unwrap().into(),
        File::open("/proc/self/mem").unwrap().into(),
        File::open("/").unwrap().into(),
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap(),
        rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap(),
    ];
    match huge_pages() {
        Ok(file) => descriptors.push(file),
        Err(error) => println!("not tested: huge pages, {error}"),
    }
    for descriptor in descriptors {
        for error in [
            refused::<Array<u64>>(descriptor.try_clone().unwrap()),
            refused::<Value<u64>>(descriptor.try_clone().unwrap()),
            refused::<Shared<AtomicU64>>(descriptor.try_clone().unwrap()),
        ] {
            assert!(is(&error, AttachError::NotSealed), "{descriptor:?}: {error:?}");
        }
    }
});

scenario!(a_handle_that_is_not_there_is_an_error, {
    let decoded = |message: Message| error_chain(&message.decode::<(Array<u64>, Array<u64>)>().unwrap_err());
    let handle = || Handle(fd_of(&array()));
    let good = Message::encode(&(handle(), handle())).unwrap();
    good.decode::<(Array<u64>, Array<u64>)>().unwrap();
    // Handles are their index in the bytes.
    assert!(decoded(Message::encode(&(handle(), 7_u32)).unwrap()).contains("no descriptor number 7"));
    assert!(decoded(Message::encode(&(handle(), u32::MAX)).unwrap()).contains("no descriptor number"));
    assert!(decoded(Message::encode(&(handle(), 0_u32)).unwrap()).contains("of the message twice"));
    assert!(Message::encode(&0_u32).unwrap().decode::<Value<u64>>().is_err());
    // A bad one among good ones takes all of them with it, and leaves nothing: the leak check would
    // see.
    let null = Handle(File::open("/dev/null").unwrap().into());
    let mixed = Message::encode(&[handle(), handle(), null, handle()]).unwrap();
    assert!(error_chain(&mixed.decode::<[Array<u64>; 4]>().unwrap_err()).contains("not memory of a fixed size"));
});

/// A number of a header that was made up, given what an honest one has there.
fn made_up(honest: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        24 => Just(honest),
        1 => any::<u64>(),
        1 => 0_u64..40,
        1 => (0_u32..64).prop_map(move |bit| honest ^ 1 << bit),
        1 => any::<u64>().prop_map(|number| number | 7 << 60),
    ]
}

/// A header that was made up, and how long the memory is beyond what it announces.
fn made_up_header(honest: &[u8]) -> impl Strategy<Value = ([u64; FIELDS], i64)> + use<> {
    let fields: [_; FIELDS] = std::array::from_fn(|index| made_up(field(honest, index)));
    let length = prop_oneof![3 => 0_u64..3000, 1 => made_up(1)];
    let header = (fields, length, any::<bool>()).prop_map(|(mut header, length, other)| {
        if other {
            header[LENGTH] = length;
        }
        header
    });
    (header, prop_oneof![6 => Just(0_i64), 1 => -9000_i64..9000])
}

/// Attaches memory with that header as a `T`, which takes `announced` bytes, and tells whether it
/// is one by all that can be known. Its other bytes are of chance.
fn attaches<T>(
    honest: &[u8],
    announced: Option<u64>,
    header: [u64; FIELDS],
    more: i64,
    seed: u64,
) -> (Result<T, DecodeError>, bool)
where
    T: DeserializeOwned,
{
    let size = announced.unwrap_or(0).saturating_add_signed(more) % (1 << 20);
    let mut random = Random::seeded(seed);
    let mut bytes: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
    let mut head = [0; 8 * FIELDS];
    header.iter().enumerate().for_each(|(index, number)| put(&mut head, index, *number));
    let shown = bytes.len().min(head.len());
    bytes[..shown].copy_from_slice(&head[..shown]);
    let is_one = (0..LENGTH).all(|index| header[index] == field(honest, index)) && announced == Some(size);
    (received(memory(&bytes, SIZED)), is_one)
}

scenario!(whatever_a_header_says_it_is_an_error_or_right, {
    let config = || ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let honest = bytes_of(&Array::<u64>::zeroed(1).unwrap());
    let start = honest.len() as u64 - 8;
    proptest!(config(), |((header, more) in made_up_header(&honest), seed: u64)| {
        let announced = header[LENGTH].checked_mul(8).and_then(|bytes| bytes.checked_add(start));
        let (result, is_one) = attaches::<Array<u64>>(&honest, announced, header, more, seed);
        prop_assert_eq!(result.is_ok(), is_one, "{:?}", result);
        if let Ok(array) = result {
            prop_assert_eq!(array.len() as u64, header[LENGTH]);
            use_it(&array);
        }
    });
    let honest = bytes_of(&Shared::new([0_u64; 4]).unwrap());
    proptest!(config(), |((header, more) in made_up_header(&honest), seed: u64)| {
        let announced = header[LENGTH].checked_add(honest.len() as u64);
        let (result, is_one) = attaches::<Shared<[u64; 4]>>(&honest, announced, header, more, seed);
        prop_assert_eq!(result.is_ok(), is_one && header[LENGTH] == 0, "{:?}", result);
        result.map(|shared| std::hint::black_box(*shared)).ok();
    });
});

/// Does with it what can be done without waiting for ever, whatever is in it. Tells how that went.
fn use_it(array: &Array<u64>) -> Use {
    let len = array.len();
    assert!(matches!(array.get(len), Err(mp_shm::ArrayError::OutOfBounds { .. })));
    let mut guard = match array.lock_timeout(Duration::from_micros(20)) {
        Ok(None) | Err(LockError::Deadlock) => return Use::Locked,
        Ok(Some(guard)) => guard,
        Err(LockError::OwnerDied(mut guard)) => {
            guard.mark_consistent();
            guard
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(guard.len(), len);
    for element in &mut *guard {
        *element = element.wrapping_mul(3);
    }
    Use::Had
}

#[derive(PartialEq, Serialize, Deserialize)]
enum Use {
    Locked,
    Had,
}

/// Writes anything anywhere in the memory, header and lock included, once it is told to begin and
/// as long as the other end is there.
#[process_fn]
fn scribbles(array: Array<u64>, seed: u64, there: Sender<()>, until: Receiver<()>) {
    there.send(()).unwrap();
    until.recv().unwrap();
    let file = fd_of(&array);
    let size = fstat(&file).unwrap().st_size as u64;
    let mut random = Random::seeded(seed);
    while matches!(until.try_recv(), Ok(None)) {
        for _ in 0..50 {
            let bytes: Vec<u8> = (0..random.of(&[1, 4, 8, 100])).map(|_| random.next() as u8).collect();
            // Most of it where it hurts.
            let end = random.of(&[112, 112, 112, size]);
            let place = random.below(end).min(size - bytes.len() as u64);
            assert_eq!(pwrite(&file, &bytes, place).unwrap(), bytes.len());
        }
        if random.below(4) == 0 {
            // A free lock, and nothing else.
            pwrite(&file, &[0; 64], 48).unwrap();
        }
    }
}

/// How often it had the elements, and how often it attached them anew, while somebody else writes
/// over them.
#[process_fn]
fn goes_on(array: Array<u64>, there: Sender<()>, rounds: u32) -> [u32; 2] {
    there.send(()).unwrap();
    let len = array.len();
    let mut counts = [0; 2];
    for _ in 0..rounds {
        counts[0] += u32::from(use_it(&array) == Use::Had);
        assert_eq!(array.len(), len);
        assert!(format!("{array:?}").starts_with(&format!("Array {{ len: {len}")));
        if let Ok(again) = received::<Array<u64>>(fd_of(&array)) {
            assert_eq!(again.len(), len, "its size says so");
            counts[1] += 1;
            use_it(&again);
        }
    }
    counts
}

scenario!(those_who_write_over_header_lock_and_values_harm_nothing_else, {
    let array = Array::<u64>::zeroed(600).unwrap();
    let honest = bytes_of(&array);
    // All have attached it before anybody does any harm.
    let (there, come) = pipe().unwrap();
    let scribblers: Vec<_> = (0..2)
        .map(|seed| {
            let (end, until) = pipe().unwrap();
            (scribbles::spawn(array.clone(), seed, there.try_clone().unwrap(), until).unwrap(), end)
        })
        .collect();
    let users: Vec<_> =
        (0..2).map(|_| goes_on::spawn(array.clone(), there.try_clone().unwrap(), 2_000).unwrap()).collect();
    (0..4).for_each(|_| come.recv_timeout(PATIENCE).unwrap().unwrap());
    scribblers.iter().for_each(|(_, end)| end.send(()).unwrap());
    let counts: Vec<_> = users.into_iter().map(|user| user.join().unwrap()).collect();
    println!("{counts:?}");
    assert!(counts.iter().all(|[had, _]| *had > 0), "it was locked all the time: {counts:?}");
    for (scribbler, end) in scribblers {
        drop(end);
        scribbler.join().unwrap();
    }
    // Nobody new believes the header; those who are there know better.
    pwrite(fd_of(&array), &[0xff; 48], 0).unwrap();
    assert!(is(&refused::<Array<u64>>(fd_of(&array)), AttachError::Format));
    assert_eq!(array.len(), 600);
    pwrite(fd_of(&array), &honest, 0).unwrap();
    attached::<Array<u64>>(fd_of(&array)).set(599, 5).unwrap();
    assert_eq!(array.get(599).unwrap(), 5);
});

/// Tries everything that would take memory away from others, or keep them from attaching it.
#[process_fn]
fn attacks(array: Array<u64>) {
    let own = fd_of(&array);
    let again = format!("/proc/self/fd/{}", own.as_raw_fd());
    let again = open(again, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let size = fstat(&own).unwrap().st_size as u64;
    for file in [own, again] {
        for new in [0, 1, 48, 4096, size - 1, size + 1, 1 << 30] {
            assert_eq!(ftruncate(&file, new), Err(Errno::PERM), "{new}");
        }
        assert_eq!(pwrite(&file, &[1], size), Err(Errno::PERM));
        assert_eq!(fallocate(&file, FallocateFlags::empty(), size, 1), Err(Errno::PERM));
        for seals in [SealFlags::WRITE, SealFlags::FUTURE_WRITE, SealFlags::SEAL, SIZED] {
            assert_eq!(fcntl_add_seals(&file, seals), Err(Errno::PERM), "{seals:?}");
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        open(path, OFlags::RDWR | OFlags::TRUNC | OFlags::CLOEXEC, Mode::empty()).unwrap_err();
        assert_eq!(fstat(&file).unwrap().st_size as u64, size);
    }
}

scenario!(a_peer_can_neither_change_the_size_nor_the_seals, {
    let array = Array::<u64>::from_slice(&[3; 2_000]).unwrap();
    attacks::spawn(array.clone()).unwrap().join().unwrap();
    assert!(array.lock().unwrap().iter().all(|element| *element == 3));
    attached::<Array<u64>>(fd_of(&array)).set(1_999, 4).unwrap();
    assert_eq!(array.get(1_999).unwrap(), 4);
});

#[process_fn]
fn punches_holes(array: Array<u64>) {
    let file = fd_of(&array);
    let size = fstat(&file).unwrap().st_size as u64;
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, size).unwrap();
}

scenario!(pages_that_a_peer_takes_away_come_back_as_zeros, {
    let array = Array::<u64>::from_slice(&[3; 2_000]).unwrap();
    let guard = array.lock().unwrap();
    assert_eq!(guard[1_999], 3);
    drop(guard);
    punches_holes::spawn(array.clone()).unwrap().join().unwrap();
    // No SIGBUS, and zeros are a free lock.
    assert_eq!(*array.lock().unwrap(), [0; 2_000]);
    array.set(1_999, 1).unwrap();
    assert!(is(&refused::<Array<u64>>(fd_of(&array)), AttachError::Format));
});
