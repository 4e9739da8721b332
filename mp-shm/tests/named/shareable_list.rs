//! Lists in named memory: what they hold, what they refuse, and that nothing in the memory can do
//! harm.

use std::time::Duration;

use crate::names::{all_of, exists, own, path};
use mp_core::{Sender, pipe, process_fn};
use mp_shm::{Item, ShareableList, ShareableListError, SharedMemory};
use mp_testing::faults::{Killer, Random, count, limit};
use mp_testing::{PATIENCE, scenario, watched};
use proptest::prelude::*;

fn items(list: &ShareableList) -> Vec<Item> {
    list.iter().collect::<Result<_, _>>().unwrap()
}

/// One of each kind, and the edges of each.
fn all_kinds() -> Vec<Item> {
    let mut all = vec![Item::None, true.into(), false.into(), i64::MIN.into(), i64::MAX.into(), 0.into()];
    all.extend([0.0, -0.0, f64::INFINITY, f64::MIN_POSITIVE].map(Item::from));
    all.extend(["", "a", "seven77", "eight888", "grün ☂", "\0", "a\0b\0\0"].map(Item::from));
    all.extend(
        [&b""[..], b"\xff", b"\0", b"seven77", b"eight888", b"eight88\0", b"\0\0\0\0\0\0\0\0\0"].map(Item::from),
    );
    all
}

scenario!(all_kinds_of_values_come_back, {
    let list = ShareableList::new(all_kinds()).unwrap();
    assert_eq!((list.len(), list.is_empty()), (all_kinds().len(), false));
    let opened = ShareableList::open(list.name()).unwrap();
    for list in [&list, &opened] {
        assert_eq!(items(list), all_kinds());
        for (index, item) in all_kinds().iter().enumerate() {
            assert_eq!(list.get(index).unwrap(), *item);
        }
    }
    assert!(matches!(list.get(list.len()), Err(ShareableListError::OutOfBounds { .. })));
    assert!(matches!(list.set(usize::MAX, 1), Err(ShareableListError::OutOfBounds { .. })));

    let empty = ShareableList::new(Vec::<Item>::new()).unwrap();
    let opened = ShareableList::open(empty.name()).unwrap();
    assert!(opened.is_empty() && items(&opened).is_empty() && opened.format().unwrap().is_empty());
    assert!(matches!(opened.get(0), Err(ShareableListError::OutOfBounds { index: 0, len: 0 })));
});

scenario!(a_slot_takes_any_kind_that_fits, {
    let list = ShareableList::new(["sixteen letters", "seven", "3"]).unwrap();
    for item in all_kinds() {
        // Room for 16 bytes.
        list.set(0, item.clone()).unwrap();
        assert_eq!(list.get(0).unwrap(), item);
    }
    list.set(0, "exactly sixteen!").unwrap();
    list.set(0, "short").unwrap();
    assert_eq!(list.get(0).unwrap(), "short".into());
    let error = list.set(0, "seventeen letters").unwrap_err();
    assert!(matches!(error, ShareableListError::TooLong { length: 17, room: 16 }), "{error:?}");
    list.set(1, 1.5).unwrap();
    list.set(1, b"8 bytes!").unwrap();
    assert_eq!(items(&list), ["short".into(), b"8 bytes!".into(), "3".into()]);
    assert_eq!(list.format().unwrap(), "16s8s8s");
    list.set(2, "nul\0").unwrap();
    assert_eq!(list.format().unwrap(), "16s8s4s ");

    assert!(matches!(
        ShareableList::new([vec![1; 10_000_000]]),
        Err(ShareableListError::TooLong { length: 10_000_000, room: 9_999_991 })
    ));
    assert!(matches!(ShareableList::new([vec![0; 1_000_000]]), Err(ShareableListError::TrailingNul { .. })));
    let long = ShareableList::new([vec![1; 9_999_991]]).unwrap();
    assert_eq!(long.get(0).unwrap(), vec![1; 9_999_991].into());
    assert_eq!(items(&long), [Item::from(vec![1; 9_999_991])]);
});

scenario!(many_slots_are_set_at_once_up_to_one_that_cannot_be, {
    let room = |index: usize| index % 50 * 60;
    let list = ShareableList::new((0..5_000).map(|index| "x".repeat(room(index)))).unwrap();
    let value = |index: usize| match index % 3 {
        0 => Item::from(index as i64),
        1 => Item::from(vec![index as u8; room(index)]),
        _ => Item::None,
    };
    list.set_from(7, (7..5_000).map(value)).unwrap();
    let expected: Vec<_> =
        (0..5_000).map(|index| if index < 7 { "x".repeat(room(index)).into() } else { value(index) }).collect();
    assert!(items(&list) == expected);

    let error = list.set_from(1, ["fits".into(), Item::from(1), vec![1; 999].into(), "not set".into()]).unwrap_err();
    assert!(matches!(error, ShareableListError::TooLong { length: 999, room: 184 }), "{error:?}");
    assert_eq!((list.get(1).unwrap(), list.get(2).unwrap()), ("fits".into(), 1.into()));
    assert!((3..7).all(|index| list.get(index).unwrap() == expected[index]));

    let error = list.set_from(4_999, ["last", "one too many"]).unwrap_err();
    assert!(matches!(error, ShareableListError::OutOfBounds { index: 5_000, len: 5_000 }));
    assert_eq!(list.get(4_999).unwrap(), "last".into());
    for first in [5_000, usize::MAX] {
        list.set_from(first, [0; 0]).unwrap();
        assert!(list.set_from(first, [1]).is_err());
    }
});

scenario!(values_are_found_and_counted, {
    let list = ShareableList::new([Item::from(1), 1.0.into(), true.into(), "1".into(), 1.into(), ().into()]).unwrap();
    let find = |item: Item| (list.index(&item).unwrap(), list.count(&item).unwrap());
    assert_eq!(find(1.into()), (Some(0), 2));
    assert_eq!(find(1.0.into()), (Some(1), 1));
    assert_eq!(find(true.into()), (Some(2), 1));
    assert_eq!(find("1".into()), (Some(3), 1));
    assert_eq!(find(Item::None), (Some(5), 1));
    assert_eq!(find(b"1".into()), (None, 0));
});

scenario!(a_list_that_is_longer_than_what_is_read_at_once_comes_back, {
    let value = |index: usize| match index % 4 {
        0 => Item::from(index as i64),
        1 => Item::from("x".repeat(index % 1000)),
        2 => Item::from(vec![index as u8; index % 70_000]),
        _ => Item::None,
    };
    let values: Vec<_> = (0..9_000).map(value).chain([Item::from(vec![7; 200_000]), 1.into()]).collect();
    let list = ShareableList::new(values.clone()).unwrap();
    assert!(items(&list) == values);
    assert_eq!(list.index(&1.into()).unwrap(), Some(9_001));
});

#[process_fn]
fn increments(list: ShareableList) -> ShareableList {
    let Item::Int(value) = list.get(0).unwrap() else { panic!("it is an int") };
    list.set(0, value + 1).unwrap();
    list
}

scenario!(it_travels_and_its_name_is_kept_and_unlinked_as_its_memory_is, {
    let name = own("list");
    let mut list = ShareableList::create(&*name, [1]).unwrap();
    let sent = increments::spawn(ShareableList::open(&name).unwrap()).unwrap().join().unwrap();
    assert_eq!(items(&sent), [Item::Int(2)]);
    list.keep().unwrap();
    drop(list);
    assert_eq!(all_of(sent.memory().name()).len(), 1);
    sent.unlink().unwrap();
    assert!(!exists(&name));

    let memory = SharedMemory::create(None, 100).unwrap();
    memory.write_at(0, &[0xff; 100]).unwrap();
    let message = mp_core::raw::Message::encode(&memory).unwrap();
    let error = message.decode::<ShareableList>().unwrap_err();
    assert!(mp_testing::error_chain(&error).contains("does not hold a list"), "{error}");
});

/// What a list as Python makes it is of, for tests that break it.
fn image(of: &[Item]) -> Vec<u8> {
    let list = ShareableList::new(of.to_vec()).unwrap();
    let mut bytes = vec![0; list.memory().size()];
    list.memory().read_at(0, &mut bytes).unwrap();
    bytes
}

/// Does everything with a list that consists of these bytes.
fn use_all(bytes: &[u8]) {
    let memory = SharedMemory::create(None, bytes.len()).unwrap();
    memory.write_at(0, bytes).unwrap();
    let Ok(list) = ShareableList::open(memory.name()) else { return };
    assert!(list.len() <= bytes.len());
    assert!(list.iter().take(20_000).count() <= list.len());
    let _ = (list.index(&Item::None), list.count(&7.into()), list.format());
    for index in (0..list.len().min(40)).chain([list.len(), usize::MAX]) {
        let _ = list.get(index);
        let _ = list.set_from(index, all_kinds());
        let _ = list.set(index, "text");
        let _ = list.set(index, 1);
        let _ = list.set(index, b"\0");
        let _ = list.get(index);
    }
    assert_eq!(list.memory().size(), bytes.len(), "nothing was written behind the end");
    assert_eq!(SharedMemory::open(memory.name()).unwrap().size(), bytes.len());
}

scenario!(memory_that_holds_no_list_is_an_error, {
    let refused = |bytes: &[u8]| {
        let memory = SharedMemory::create(None, bytes.len()).unwrap();
        memory.write_at(0, bytes).unwrap();
        match ShareableList::open(memory.name()) {
            Err(ShareableListError::NotAList { name, reason }) if name == memory.name() => reason,
            other => panic!("{other:?}"),
        }
    };
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    assert_eq!(refused(&[0; 7]), "it is too short");
    assert_eq!(refused(&words(&[u64::MAX, 0, 0])), "its length is impossible");
    assert_eq!(refused(&words(&[1 << 50, 0, 0])), "it is too short for its length");
    assert_eq!(refused(&words(&[2, 0, 8, 16])), "it is too short for its length");
    let mut whole = image(&[1.into(), "two".into()]);
    assert_eq!(refused(&whole[..whole.len() - 1]), "it is too short for its slots");
    whole[24..32].copy_from_slice(&u64::MAX.to_ne_bytes());
    assert_eq!(refused(&whole), "the lengths of its slots are impossible");
    assert!(matches!(
        ShareableList::open("mp-core-test-no-list"),
        Err(ShareableListError::Memory(mp_shm::SharedMemoryError::NotFound { .. }))
    ));
});

scenario!(a_broken_slot_is_an_error_and_the_others_are_not, {
    let list = ShareableList::new(["one", "two", "three"]).unwrap();
    let memory = list.memory();
    // Where the formats and the codes begin: a length, four offsets, three slots.
    let (formats, codes) = (64, 88);
    let reason = |index: usize| match list.get(index) {
        Err(ShareableListError::BadSlot { index: at, reason }) if at == index => reason,
        other => panic!("{other:?}"),
    };
    memory.write_at(formats + 8, b"9s").unwrap();
    assert_eq!(reason(1), "its format is longer than it is");
    memory.write_at(formats + 8, b"8z").unwrap();
    assert_eq!(reason(1), "its format is unknown");
    memory.write_at(formats + 8, b"8s").unwrap();
    memory.write_at(codes + 1, &[9]).unwrap();
    assert_eq!(reason(1), "its kind is unknown");
    memory.write_at(codes + 1, &[1]).unwrap();
    memory.write_at(40 + 8, b"\xff").unwrap();
    assert_eq!(reason(1), "its text is not UTF-8");
    memory.write_at(16, &u64::to_ne_bytes(1 << 40)).unwrap();
    assert_eq!(reason(1), "it is not inside the list");
    assert!(matches!(list.set(1, 1), Err(ShareableListError::BadSlot { index: 1, .. })));
    memory.write_at(16, &u64::to_ne_bytes(8)).unwrap();
    let all: Vec<_> = list.iter().collect();
    assert!(matches!(&all[..], [Ok(Item::Str(one)), Err(_), Ok(Item::Str(three))] if one == "one" && three == "three"));
    list.set(1, "again").unwrap();
    assert_eq!(items(&list), ["one", "again", "three"].map(Item::from));
});

scenario!(a_list_with_the_layout_of_python_3_8_is_read_and_set, {
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    // The length, how long each slot is, the slots, their formats, their codes.
    let parts = [words(&[3, 8, 16, 8]), words(&[7]), b"two\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), words(&[0])];
    let bytes = [&parts.concat()[..], b"q\0\0\0\0\0\0\x0016s\0\0\0\0\0xxxxxx?x", &[0, 1, 3]].concat();
    let memory = SharedMemory::create(None, bytes.len()).unwrap();
    memory.write_at(0, &bytes).unwrap();
    let list = ShareableList::open(memory.name()).unwrap();
    assert_eq!(items(&list), [7.into(), "two".into(), Item::None]);
    list.set(0, "7 bytes").unwrap();
    list.set(1, "sixteen letters!").unwrap();
    list.set(2, 2.5).unwrap();
    assert!(list.set(2, "nine byte").is_err());
    assert_eq!(items(&list), ["7 bytes".into(), "sixteen letters!".into(), 2.5.into()]);
    assert_eq!(list.format().unwrap(), "8s16sd");
    for end in 0..bytes.len() {
        use_all(&bytes[..=end]);
    }

    let empty = SharedMemory::create(None, 8).unwrap();
    assert_eq!(ShareableList::open(empty.name()).unwrap().len(), 0);
});

/// Sets the slot in the middle until it is killed.
#[process_fn]
fn sets_again_and_again(list: ShareableList, there: Sender<()>) {
    there.send(()).unwrap();
    for item in all_kinds().iter().cycle() {
        list.set(1, item.clone()).unwrap();
    }
}

scenario!(one_that_is_killed_while_it_sets_a_slot_harms_no_other_slot, limit(count(60)), {
    let (mut random, killer) = (Random::new(), Killer::new());
    let list = ShareableList::new(["before", "sixteen letters", "behind"]).unwrap();
    for _ in 0..count(60) {
        let (there, come) = pipe().unwrap();
        let process = sets_again_and_again::spawn(ShareableList::open(list.name()).unwrap(), there).unwrap();
        come.recv_timeout(PATIENCE).unwrap().expect("it begins");
        killer.kill(&process, random.moment(Duration::from_micros(300)));
        killer.finish();
        process.join().unwrap_err();
        match list.get(1) {
            Ok(_) | Err(ShareableListError::BadSlot { index: 1, .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!((list.get(0).unwrap(), list.get(2).unwrap()), ("before".into(), "behind".into()));
        list.set(1, "set again").unwrap();
        assert_eq!(items(&list), ["before", "set again", "behind"].map(Item::from));
    }
    killer.end();
});

scenario!(a_list_of_holes_costs_no_memory, {
    let name = own("holes");
    let file = std::fs::File::create_new(path(&name)).unwrap();
    // 56 thousand million slots, it says.
    let len = 56_000_000_000_u64;
    file.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, &len.to_ne_bytes(), 0).unwrap();
    let list = ShareableList::open(&name).unwrap();
    assert_eq!(list.len() as u64, len);
    assert!(list.get(len as usize - 1).is_err());
    assert_eq!(list.iter().take(100_000).filter(Result::is_ok).count(), 0);
    // As 3.8 would have it, whose lengths are added up: there are none.
    std::os::unix::fs::FileExt::write_at(&file, &8_u64.to_ne_bytes(), 8).unwrap();
    assert!(matches!(ShareableList::open(&name), Err(ShareableListError::NotAList { .. })));
    assert!(mp_testing::leaks::status_kib("VmHWM") < 200 << 10);
    list.unlink().unwrap();
});

fn config() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

fn any_item() -> impl Strategy<Value = Item> {
    prop_oneof![
        Just(Item::None),
        any::<bool>().prop_map(Item::from),
        any::<i64>().prop_map(Item::from),
        (-1e300..1e300).prop_map(Item::from),
        "[a-zß☂\0]{0,20}".prop_map(Item::from),
        prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..40).prop_map(Item::from),
    ]
}

#[test]
fn any_values_come_back() {
    watched(|| {
        proptest!(config(), |(values in prop::collection::vec(any_item(), 0..30), more in prop::collection::vec(any_item(), 0..30))| {
            let list = ShareableList::new(values.clone()).unwrap();
            let mut expected = values;
            for (index, item) in more.into_iter().enumerate() {
                if list.set(index, item.clone()).is_ok() {
                    expected[index] = item;
                }
            }
            prop_assert_eq!(items(&ShareableList::open(list.name()).unwrap()), expected);
        });
    });
}

#[test]
fn any_bytes_do_no_harm() {
    watched(|| {
        let word = || prop_oneof![0..20_u64, Just(u64::MAX), Just(1 << 63), any::<u64>()];
        proptest!(config(), |(bytes in prop::collection::vec(any::<u8>(), 1..400))| use_all(&bytes));
        proptest!(config(), |(words in prop::collection::vec(word(), 1..60))| {
            use_all(&words.into_iter().flat_map(u64::to_ne_bytes).collect::<Vec<_>>());
        });
        let changes = || prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12);
        proptest!(config(), |(values in prop::collection::vec(any_item(), 1..12), changes in changes(), end in any::<prop::sample::Index>())| {
            let mut bytes = image(&values);
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            use_all(&bytes);
            use_all(&bytes[..1 + end.index(bytes.len())]);
        });
    });
}
