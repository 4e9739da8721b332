use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;

use mp_shm::ShmSafe;
use mp_shm::raw::Region;
use proptest::prelude::*;

use super::*;

#[derive(ShmSafe)]
struct Head {
    there: Indices,
    back: Indices,
}

const SIZE: usize = 512;

fn pair() -> (Producer<Head>, Consumer<Head>) {
    let region = Region::<Head>::zeroed(2 * SIZE).unwrap();
    let other = Region::<Head>::attach(region.duplicate(&[]).unwrap()).unwrap();
    let producer = Parts::new(region).producer(SIZE, |head| &head.there).unwrap();
    let consumer = Parts::new(other).consumer(SIZE, |head| &head.there).unwrap();
    (producer, consumer)
}

/// The tags and bytes of all records.
fn contents(mut records: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut contents = Vec::new();
    while !records.is_empty() {
        let header = Header::at(records).unwrap();
        contents.extend(header.tag.map(|tag| (tag, records[header.bytes()].to_vec())));
        records = &records[header.whole()..];
    }
    contents
}

#[derive(Debug, Clone)]
enum Step {
    /// Records of these lengths at once.
    Write(Vec<usize>),
    Publish,
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![8 => 0_usize..40, 1 => 0_usize..300];
    let step = prop_oneof![
        8 => prop::collection::vec(length, 0..6).prop_map(Step::Write),
        4 => Just(Step::Publish),
        3 => Just(Step::Take),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_arrive_whole_and_in_order_when_they_were_published(steps in steps()) {
        let (mut producer, mut consumer) = pair();
        let (mut written, mut published) = (VecDeque::new(), VecDeque::new());
        let mut number = 0;
        for step in steps {
            match step {
                Step::Write(lengths) => {
                    let mut records = Vec::new();
                    let mut expected = Vec::new();
                    for length in lengths {
                        number = (number + 1) & MOST_TAG;
                        append(&mut records, number, &vec![number as u8; length]);
                        expected.push((number, vec![number as u8; length]));
                    }
                    let room = producer.room().unwrap();
                    prop_assert!(room <= SIZE);
                    if written.is_empty() && published.is_empty() {
                        prop_assert!(room >= SIZE / 2, "an empty ring has room for {}", room);
                    }
                    let fits = producer.write(&records).unwrap();
                    prop_assert_eq!(fits, records.len() <= room);
                    if fits {
                        written.extend(expected);
                    }
                }
                Step::Publish => {
                    producer.publish();
                    published.append(&mut written);
                }
                Step::Take => {
                    prop_assert!(consumer.is_empty() || !published.is_empty());
                    let mut taken = Vec::new();
                    consumer.take(&mut taken).unwrap();
                    prop_assert_eq!(contents(&taken), published.drain(..).collect::<Vec<_>>());
                    prop_assert!(consumer.is_empty());
                }
            }
        }
    }
}

#[test]
fn each_end_has_a_part_of_its_own_and_there_are_no_more_than_fit() {
    let mut parts = Parts::new(Region::<Head>::zeroed(3 * SIZE).unwrap());
    assert!(parts.producer(4 * SIZE, |head| &head.there).is_err(), "there are fewer bytes");
    assert!(parts.producer(SIZE + 8, |head| &head.there).is_err(), "it is no power of two");
    assert!(parts.producer(4, |head| &head.there).is_err(), "it has no room for a header");
    let mut there = parts.producer(SIZE, |head| &head.there).unwrap();
    let mut back = parts.consumer(2 * SIZE, |head| &head.back).unwrap();
    assert!(parts.consumer(8, |head| &head.back).is_err(), "all bytes are given");

    let mut records = Vec::new();
    append(&mut records, 1, &[1; SIZE - HEADER]);
    assert_eq!(there.write(&records), Ok(true));
    there.publish();
    assert_eq!(there.write(&records[..HEADER]), Ok(false));
    let mut taken = Vec::new();
    assert!(back.is_empty());
    back.take(&mut taken).unwrap();
    assert!(taken.is_empty());
}

#[test]
fn the_last_write_of_a_producer_that_is_gone_can_be_taken() {
    let (mut producer, mut consumer) = pair();
    let mut records = Vec::new();
    append(&mut records, 5, b"last words");
    assert_eq!(producer.write(&records), Ok(true));
    producer.publish();
    assert_eq!(producer.write(&records), Ok(true));
    drop(producer);
    let mut taken = Vec::new();
    consumer.take(&mut taken).unwrap();
    assert_eq!(contents(&taken), [(5, b"last words".to_vec())], "only what was published");
}

#[test]
fn damaged_headers_and_places_are_noticed() {
    let header = |word: u64, room: usize| Header::at(&[&word.to_ne_bytes()[..], &vec![0; room]].concat());
    assert_eq!(header(3 << TAG_AT | 8 << 2, 8), Ok(Header { length: 8, tag: Some(3) }));
    assert_eq!(header(8 << 2 | 2, 8), Ok(Header { length: 8, tag: None }));
    assert!(header(9 << 2, 8).is_err(), "its bytes are not there");
    assert!(header((1 << TAG_AT) - 4, 8).is_err(), "its bytes are not there by far");
    assert!(header(1, 8).is_err() && header(3, 8).is_err(), "its kind is not one");
    assert!(header(1 << TAG_AT | 2, 8).is_err(), "what is passed over has no tag");
    assert!(Header::at(&[0; 7]).is_err());

    /// The same memory, for a process that writes over it: the first word is where the tail is.
    #[derive(ShmSafe)]
    struct Forged {
        there: [AtomicU64; size_of::<Indices>() / 8],
    }
    let (producer, mut consumer) = pair();
    let indices = std::ptr::from_ref(&producer.head().there).cast::<Forged>();
    // SAFETY: both types are as many atomic words, and the memory stays mapped during the test.
    let forged = unsafe { &*indices };
    for word in &forged.there {
        word.store(0xFFFF_0000_1234_5678, std::sync::atomic::Ordering::Relaxed);
    }
    let mut taken = Vec::new();
    assert!(consumer.take(&mut taken).is_err() && taken.is_empty());
    assert!(producer.room().is_err());
}
