//! Following objects, and reading them in pieces.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use mp_core::{Sender, process_fn};
use mp_manager::{CallError, Cell, List, ListChange, Manager, Map, MapChange};
use mp_testing::faults::Random;
use mp_testing::victims::Held;
use mp_testing::{PROMPTLY, eventually, scenario};

#[process_fn]
fn double(old: Option<u64>, _: ()) -> (Option<u64>, ()) {
    (old.map(|old| old.wrapping_mul(2)), ())
}

#[process_fn]
fn change_all(seed: u64, map: Map<u64, u64>, list: List<u64>, times: u64) {
    let mut random = Random::seeded(seed);
    for _ in 0..times {
        let (key, value) = (random.below(8), random.next());
        match random.below(12) {
            0 => drop(map.remove(&key).unwrap()),
            1 => map.modify::<double>(&key, ()).unwrap(),
            2 => map.extend([(key, value), (key + 1, value)]).unwrap(),
            3 => drop(map.get_or_insert(key, value).unwrap()),
            4 => drop(map.compare_exchange(&key, None, Some(value)).unwrap()),
            5 if value % 8 == 0 => map.clear().unwrap(),
            6 => drop(list.pop().unwrap()),
            7 => drop(list.insert(key as usize, value)),
            8 => drop(list.remove(key as usize)),
            9 => drop(list.set(key as usize, value)),
            10 if value % 8 == 0 => list.clear().unwrap(),
            11 => list.extend([value, value]).unwrap(),
            _ => drop(map.insert(key, value).unwrap()),
        }
    }
    map.insert(u64::MAX, 0).unwrap();
    list.push(u64::MAX).unwrap();
}

fn follow_map(mut watch: mp_manager::Watch<MapChange<u64, u64>>) -> BTreeMap<u64, u64> {
    let mut copy = BTreeMap::new();
    while !copy.contains_key(&u64::MAX) {
        match watch.next().unwrap().unwrap() {
            MapChange::Snapshot(entries) => copy = entries.into_iter().collect(),
            MapChange::Set(key, value) => drop(copy.insert(key, value)),
            MapChange::Removed(key) => assert!(copy.remove(&key).is_some(), "what is not there was removed"),
            MapChange::Cleared => copy.clear(),
            other => panic!("{other:?}"),
        }
    }
    copy
}

fn follow_list(mut watch: mp_manager::Watch<ListChange<u64>>) -> Vec<u64> {
    let mut copy: Vec<u64> = Vec::new();
    while copy.last() != Some(&u64::MAX) {
        match watch.next().unwrap().unwrap() {
            ListChange::Snapshot(values) => copy = values,
            ListChange::Set(index, value) => copy[index] = value,
            ListChange::Inserted(index, value) => copy.insert(index, value),
            ListChange::Removed(index) => drop(copy.remove(index)),
            ListChange::Cleared => copy.clear(),
            other => panic!("{other:?}"),
        }
    }
    copy
}

scenario!(a_watch_gives_a_snapshot_and_then_every_change, {
    let manager = Manager::spawn().unwrap();
    let (map, list) = (Map::new(&manager).unwrap(), List::new(&manager).unwrap());
    map.insert(3, 4).unwrap();
    let (of_map, of_list) = (map.watch().unwrap(), list.watch().unwrap());
    let seed = Random::new().next();
    let child = change_all::spawn(seed, map.clone(), list.clone(), 2_000).unwrap();
    let copies = std::thread::scope(|scope| {
        let lists = scope.spawn(|| follow_list(of_list));
        (follow_map(of_map), lists.join().unwrap())
    });
    child.join().unwrap();
    assert_eq!(copies.0, map.snapshot().unwrap().into_iter().collect());
    assert_eq!(copies.1, list.snapshot().unwrap());
});

scenario!(every_change_is_told_once_and_in_order, {
    let manager = Manager::here().unwrap();
    let map = Map::<u32, u32>::new(&manager).unwrap();
    let mut watch = map.watch().unwrap();
    map.insert(1, 10).unwrap();
    map.remove(&2).unwrap();
    map.remove(&1).unwrap();
    map.insert(1, 11).unwrap();
    map.clear().unwrap();
    let told: Vec<_> = std::iter::from_fn(|| watch.try_next().unwrap()).collect();
    assert_eq!(
        told,
        [
            MapChange::Snapshot(Vec::new()),
            MapChange::Set(1, 10),
            MapChange::Removed(1),
            MapChange::Set(1, 11),
            MapChange::Cleared
        ]
    );
    assert_eq!(watch.next_timeout(Duration::from_millis(10)).unwrap(), None);
    let cell = Cell::new(&manager, 7).unwrap();
    let mut values = cell.watch().unwrap();
    cell.set(8).unwrap();
    assert_eq!([values.next().unwrap().unwrap(), values.next().unwrap().unwrap()], [7, 8]);
});

scenario!(who_lags_gets_a_new_snapshot_and_costs_no_memory, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u64, Vec<u8>>::new(&manager).unwrap();
    let mut watch = map.watch().unwrap();
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/statm", manager.pid())).unwrap();
        status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
    };
    map.insert(0, vec![1; 10_000]).unwrap();
    let before = resident();
    for number in 0..5_000_u64 {
        map.insert(0, vec![number as u8; 10_000]).unwrap();
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 10 << 10, "the server has grown by {grown} KiB for a watch that lags");
    assert!(matches!(watch.next(), Some(Ok(MapChange::Snapshot(entries))) if entries.is_empty()));
    assert!(matches!(watch.next(), Some(Ok(MapChange::Snapshot(entries))) if entries == [(0, vec![135; 10_000])]));
    map.insert(1, vec![2]).unwrap();
    assert_eq!(watch.next(), Some(Ok(MapChange::Set(1, vec![2]))));
});

scenario!(a_watch_that_ended_keeps_no_object_alive, {
    let manager = Manager::spawn().unwrap();
    let lists = Map::<u64, List<u64>>::new(&manager).unwrap();
    let mut watch = lists.watch().unwrap();
    lists.insert(1, List::new(&manager).unwrap()).unwrap();
    lists.remove(&1).unwrap();
    assert!(matches!(watch.next(), Some(Ok(MapChange::Snapshot(_)))));
    match watch.next().unwrap().unwrap() {
        MapChange::Set(1, list) => list.push(1).unwrap(),
        other => panic!("{other:?}"),
    }
    lists.insert(2, List::new(&manager).unwrap()).unwrap();
    lists.remove(&2).unwrap();
    drop(watch);
    eventually("the lists go", || manager.objects().unwrap().len() == 1);
});

#[process_fn]
fn wait_for_changes(there: Sender<()>, lists: Map<u64, List<u64>>) {
    let mut watch = lists.watch().unwrap();
    watch.next().unwrap().unwrap();
    there.send(()).unwrap();
    watch.next().unwrap().unwrap();
    std::thread::park();
}

scenario!(who_watches_holds_no_thread_and_leaves_at_once_when_killed, {
    let manager = Manager::spawn().unwrap();
    let lists = Map::<u64, List<u64>>::new(&manager).unwrap();
    let threads = || fs::read_dir(format!("/proc/{}/task", manager.pid())).unwrap().count();
    let watchers: Vec<_> = (0..20).map(|_| Held::start(|there| wait_for_changes::call(there, lists.clone()))).collect();
    assert!(threads() < 4, "{} threads", threads());
    watchers.into_iter().for_each(Held::kill);
    // Nobody is left who has not seen this.
    eventually("the changes are not kept", || {
        lists.insert(1, List::new(&manager).unwrap()).unwrap();
        lists.remove(&1).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        manager.objects().unwrap().len() == 1
    });
});

scenario!(a_watch_ends_with_the_server, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u64, u64>::new(&manager).unwrap();
    let mut watch = map.watch().unwrap();
    watch.next().unwrap().unwrap();
    let pid = rustix::process::Pid::from_raw(manager.pid() as i32).unwrap();
    let (begins, begun) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        begins.send(()).unwrap();
        (watch.next(), watch.next())
    });
    begun.recv().unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let begun = std::time::Instant::now();
    let (first, second) = waiting.join().unwrap();
    // The call may begin after the end.
    assert!(matches!((&first, second), (Some(Err(CallError::Disconnected { .. })), None)), "{first:?}");
    assert!(begun.elapsed() < PROMPTLY);
});

scenario!(a_snapshot_is_read_in_pieces_and_is_of_one_instant, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u64, Vec<u8>>::new(&manager).unwrap();
    map.extend((0..5_000).map(|key| (key, vec![key as u8; 100]))).unwrap();
    map.insert(5_000, vec![1; 3 << 20]).unwrap();
    let mut entries = map.iter().unwrap();
    assert_eq!(entries.next().unwrap().unwrap().0, 0);
    map.clear().unwrap();
    assert_eq!(manager.objects().unwrap().len(), 2);
    let rest: Vec<_> = entries.by_ref().map(|entry| entry.unwrap()).collect();
    assert!(rest.iter().map(|(key, _)| *key).eq(1..=5_000));
    assert_eq!(rest.last().unwrap().1.len(), 3 << 20);
    assert!(entries.next().is_none());
    drop(entries);
    eventually("the snapshot goes", || manager.objects().unwrap().len() == 1);
    let list = List::new(&manager).unwrap();
    list.extend(0..3_000_u32).unwrap();
    assert!(list.iter().unwrap().map(Result::unwrap).eq(0..3_000));
});

/// What a process gets that receives no message as long as the map is.
#[process_fn]
fn read_a_long_map(map: Map<u64, Vec<u8>>) {
    mp_core::set_message_limit(256 << 10);
    let Some(Ok(MapChange::Snapshot(entries))) = map.watch().unwrap().next() else { panic!("a snapshot comes first") };
    assert_eq!(entries.len(), 3_000);
    assert_eq!(map.snapshot().unwrap(), entries);
    assert_eq!(map.keys().unwrap(), (0..3_000).collect::<Vec<_>>());
}

scenario!(a_long_snapshot_comes_in_pieces_of_bounded_length, {
    let manager = Manager::spawn().unwrap();
    let map = Map::new(&manager).unwrap();
    map.extend((0..3_000).map(|key| (key, vec![key as u8; 1000]))).unwrap();
    read_a_long_map::spawn(map.clone()).unwrap().join().unwrap();
    eventually("the rest of each snapshot is gone", || manager.objects().unwrap().len() == 1);
});

scenario!(as_many_watches_as_an_object_may_have_go_on, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u8, u8>::new(&manager).unwrap();
    let mut watches: Vec<_> = (0..4096).map(|_| map.watch().unwrap()).collect();
    assert!(matches!(map.watch(), Err(CallError::Busy(_))));
    assert_eq!(watches[0].next(), Some(Ok(MapChange::Snapshot(Vec::new()))));
    map.insert(1, 2).unwrap();
    assert_eq!(watches[0].next(), Some(Ok(MapChange::Set(1, 2))));
    drop(watches.pop());
    map.watch().unwrap();
});
