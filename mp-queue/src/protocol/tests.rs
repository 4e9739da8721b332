use std::collections::VecDeque;
use std::ptr::NonNull;

use proptest::prelude::*;

use super::access::{Damaged, Kind, Reader, Ring, Writer};
use super::index::{Index, Indices, UNIT};

/// A ring in memory of this process alone.
struct Memory {
    indices: Indices,
    words: Box<[u64]>,
}

impl Memory {
    fn new(size: usize) -> Self {
        Self { indices: Indices::new(), words: vec![0; size / UNIT].into() }
    }

    fn ring(&mut self, limit: u32) -> Ring<'_> {
        let size = self.words.len() * UNIT;
        let start = NonNull::from(&mut self.words[..]).cast();
        // SAFETY: the words are borrowed for as long as the ring, and nobody has a reference to
        // them meanwhile. The sizes in these tests are powers of two.
        unsafe { Ring::new(&self.indices, start, size, limit) }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Publish,
    Find,
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = || prop_oneof![8 => 0_usize..40, 2 => 0_usize..2040, 1 => Just(2040_usize), 1 => 2041_usize..5000];
    let step = prop_oneof![
        10 => length().prop_map(Step::Write),
        8 => Just(Step::Publish),
        10 => Just(Step::Find),
        6 => Just(Step::Take),
    ];
    prop::collection::vec(step, 0..400)
}

/// Remembers nothing from one step to the next, or all of it.
fn remember(cached: Index, does: bool, now: Index) -> Index {
    if does { cached } else { now }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_ring_is_a_queue(steps in steps(), limit in prop_oneof![Just(u32::MAX >> 1), 1_u32..20], remembers: bool) {
        let mut memory = Memory::new(4096);
        let ring = memory.ring(limit);
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        let (mut written, mut published, mut found) = (0_usize, 0_usize, 0_usize);
        let mut seen_tail = ring.indices.tail();
        let mut number = 0_u8;
        let mut reader = Reader::new(ring, seen_tail);
        let mut writer = Writer::new(ring, ring.indices.head());
        for step in steps {
            match step {
                Step::Write(length) => {
                    number = number.wrapping_add(1);
                    let bytes = vec![number; length];
                    let fits = writer.has_room(length).unwrap();
                    prop_assert_eq!(writer.write(Kind::Message, &bytes).unwrap(), fits);
                    if fits {
                        model.push_back(bytes);
                        written += 1;
                    } else if model.is_empty() {
                        prop_assert!(length > 2040, "the ring is empty, and has no room for {}", length);
                    }
                    prop_assert!(model.len() <= limit as usize);
                }
                Step::Publish => {
                    prop_assert_eq!(writer.publish(), written as u32);
                    published += written;
                    written = 0;
                    writer = Writer::new(ring, remember(writer.head(), remembers, ring.indices.head()));
                }
                Step::Find => match reader.find().unwrap() {
                    Some(record) => {
                        let mut bytes = Vec::new();
                        reader.copy(&record, &mut bytes);
                        prop_assert!(published > 0);
                        prop_assert_eq!(&bytes, &model[found]);
                        reader.pass(&record);
                        found += 1;
                        published -= 1;
                    }
                    None => prop_assert!(published == 0),
                },
                Step::Take => {
                    prop_assert_eq!(reader.passed() as usize, found);
                    reader.take();
                    model.drain(..found);
                    found = 0;
                    seen_tail = remember(reader.tail(), remembers, ring.indices.tail());
                    reader = Reader::new(ring, seen_tail);
                }
            }
        }
    }

    #[test]
    fn whatever_the_words_are_a_reader_and_a_writer_stay_in_the_ring_and_come_to_an_end(
        words in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..20_000], 64),
        (head, tail) in prop_oneof![any::<(u64, u64)>(), (0_u64..200, 0_u64..200)],
        (seen, other) in any::<(u64, u64)>(),
        limit in 1_u32..100,
    ) {
        let mut memory = Memory::new(512);
        memory.words.copy_from_slice(&words);
        memory.indices = Indices::of(Index::from_bits(tail), Index::from_bits(head));
        let ring = memory.ring(limit);
        let mut reader = Reader::new(ring, Index::from_bits(seen));
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            match reader.find() {
                Ok(Some(record)) => {
                    reader.copy(&record, &mut bytes);
                    reader.pass(&record);
                }
                Ok(None) | Err(Damaged(_)) => break,
            }
        }
        prop_assert!(bytes.len() <= 512);
        bytes.clear();
        let taken = Reader::new(ring, Index::from_bits(seen)).take_all(&mut bytes);
        prop_assert!(bytes.len() <= taken.map_or(0, |()| 512));
        let mut writer = Writer::new(ring, Index::from_bits(other));
        let mut left = 1000;
        while let (Ok(room), 1..) = (writer.room(), left) {
            prop_assert!(room <= 512);
            let records = &[7; 512][..room.min(left % 100 / 8 * 8 + 8)];
            if records.is_empty() || writer.write_records(records) != Ok(true) {
                break;
            }
            left -= 1;
        }
        for length in 0..300 {
            match writer.write(Kind::Message, &vec![1; length % 200]) {
                Ok(true) => {}
                Ok(false) | Err(Damaged(_)) => break,
            }
        }
        writer.publish();
    }
}

#[test]
fn a_queue_that_is_mostly_empty_uses_its_first_pages() {
    let mut memory = Memory::new(1 << 20);
    let ring = memory.ring(u32::MAX >> 1);
    let (mut head, mut tail) = (ring.indices.head(), ring.indices.tail());
    for _ in 0..3000 {
        let mut writer = Writer::new(ring, head);
        assert_eq!(writer.write(Kind::Message, &[1; 1000]), Ok(true));
        writer.publish();
        head = writer.head();
        let mut reader = Reader::new(ring, tail);
        let Ok(Some(record)) = reader.find() else { panic!("it was published") };
        reader.pass(&record);
        reader.take();
        tail = reader.tail();
    }
    let used = memory.words.iter().rposition(|word| *word != 0).unwrap() * UNIT;
    assert!(used < 70 << 10, "{used} bytes");
}

#[test]
fn a_ring_that_was_taken_for_full_and_is_empty_has_room_for_many() {
    let mut memory = Memory::new(128 << 10);
    let ring = memory.ring(u32::MAX >> 1);
    let remembered = ring.indices.head();
    for _ in 0..10_000 {
        let mut writer = Writer::new(ring, remembered);
        let before = ring.indices.tail();
        assert_eq!(writer.write(Kind::Message, &[1; 64]), Ok(true));
        writer.publish();
        let used = ring.indices.tail().units_since(before) as usize * UNIT;
        // A record, or with what is skipped about every 64 KiB.
        let crosses = before.position() as usize * UNIT % (64 << 10) + 72 >= (64 << 10);
        assert!(used == 72 || crosses, "{used} bytes at {}", before.position() as usize * UNIT);
        let mut reader = Reader::new(ring, ring.indices.tail());
        let Ok(Some(record)) = reader.find() else { panic!("it was published") };
        reader.pass(&record);
        reader.take();
    }
}

// One message after another, published over what the consumer has passed over and not taken.
#[test]
fn a_producer_that_goes_on_for_ever_ends_a_batch() {
    let mut memory = Memory::new(512);
    let ring = memory.ring(u32::MAX >> 1);
    let mut tail = ring.indices.tail();
    let mut reader = Reader::new(ring, tail);
    let found = (0..).take_while(|_| {
        // A record without bytes is a word that is zero.
        tail = tail.plus(1, 1);
        ring.indices.publish(tail);
        let found = reader.find();
        if let Ok(Some(record)) = &found {
            reader.pass(record);
        }
        found.is_ok()
    });
    assert_eq!(found.count(), 512 / UNIT);
}
