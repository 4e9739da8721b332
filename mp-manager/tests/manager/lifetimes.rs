//! How long objects live.

use std::time::Duration;

use mp_core::{pipe, process_fn};
use mp_manager::{List, Manager, Map};
use mp_testing::victims::Held;
use mp_testing::{PROMPTLY, eventually, holds_within, scenario};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn count(manager: &Manager) -> usize {
    manager.objects().unwrap().len()
}

#[process_fn]
fn pass_on(inner: List<u32>, generations: u32) -> List<u32> {
    inner.push(generations).unwrap();
    match generations {
        0 => inner,
        more => pass_on::spawn(inner, more - 1).unwrap().join().unwrap(),
    }
}

#[process_fn]
fn hold(there: mp_core::Sender<()>, list: List<u32>) {
    list.push(1).unwrap();
    there.send(()).unwrap();
    loop {
        std::thread::park();
    }
}

scenario!(an_object_goes_with_its_last_proxy, {
    let manager = Manager::spawn().unwrap();
    let list = List::<u32>::new(&manager).unwrap();
    let other = list.clone();
    drop(list);
    other.push(1).unwrap();
    assert_eq!(count(&manager), 1);
    drop(other);
    eventually("the object goes", || count(&manager) == 0);
});

// Python: the key is not passed on, and a proxy does not work in a grandchild.
scenario!(a_proxy_is_complete_in_a_grandchild_and_as_a_result, {
    let manager = Manager::spawn().unwrap();
    let list = pass_on::spawn(List::new(&manager).unwrap(), 3).unwrap().join().unwrap();
    assert_eq!(list.snapshot().unwrap(), [3, 2, 1, 0]);
    drop(list);
    eventually("the object goes", || count(&manager) == 0);
});

// Python: an object is freed while a proxy of it is in flight.
scenario!(an_object_lives_while_its_proxy_is_in_flight, {
    let manager = Manager::spawn().unwrap();
    let (sender, receiver) = pipe().unwrap();
    sender.send(List::<u32>::new(&manager).unwrap()).unwrap();
    assert!(!holds_within(PROMPTLY / 10, || count(&manager) == 0));
    let list = receiver.recv().unwrap();
    list.push(7).unwrap();
    sender.send(list).unwrap();
    drop((sender, receiver));
    eventually("nobody can receive the proxy", || count(&manager) == 0);
});

scenario!(an_object_goes_with_its_last_holder_that_is_killed, {
    let manager = Manager::spawn().unwrap();
    let list = List::<u32>::new(&manager).unwrap();
    let held = Held::start(|there| hold::call_of(there, list));
    assert_eq!(count(&manager), 1);
    held.kill();
    assert!(holds_within(PROMPTLY, || count(&manager) == 0));
});

impl hold {
    fn call_of(there: mp_core::Sender<()>, list: List<u32>) -> mp_core::Call<hold> {
        mp_core::Call::new((there, list))
    }
}

// Python: a proxy inside another object leaks.
scenario!(a_proxy_inside_an_object_keeps_the_other_object_alive_as_long, {
    let manager = Manager::spawn().unwrap();
    let outer = Map::<u32, List<u32>>::new(&manager).unwrap();
    for number in 0..50 {
        let inner = List::new(&manager).unwrap();
        inner.push(number).unwrap();
        outer.insert(number, inner).unwrap();
    }
    assert_eq!(count(&manager), 51);
    eventually("only values refer to them", || manager.objects().unwrap().iter().filter(|o| o.leased).count() == 1);
    for number in 0..50 {
        assert_eq!(outer.get(&number).unwrap().unwrap().snapshot().unwrap(), [number]);
    }
    let kept = outer.remove(&7).unwrap().unwrap();
    drop(outer);
    eventually("they go together", || count(&manager) == 1);
    assert_eq!(kept.snapshot().unwrap(), [7]);
    drop(kept);
    eventually("the last one goes", || count(&manager) == 0);
});

scenario!(the_server_needs_no_descriptor_for_a_proxy_inside_a_value, {
    let manager = Manager::spawn().unwrap();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", manager.pid())).unwrap().count();
    let outer = List::<List<u32>>::new(&manager).unwrap();
    let inner = List::new(&manager).unwrap();
    let before = descriptors();
    outer.extend((0..500).map(|_| inner.clone())).unwrap();
    assert_eq!(outer.len().unwrap(), 500);
    eventually("what came with the message is closed", || descriptors() <= before);
    assert_eq!(outer.snapshot().unwrap().len(), 500);
});

// Cycles are documented: they live until one of their values is removed.
scenario!(a_cycle_of_objects_lives_until_it_is_broken, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u8, Map<u8, u8>>::new(&manager).unwrap();
    manager.publish("map", &map).unwrap();
    let inner = Map::<u8, u8>::new(&manager).unwrap();
    map.insert(1, inner).unwrap();
    drop(map);
    assert_eq!(count(&manager), 2);
    assert!(manager.unpublish("map").unwrap());
    eventually("the name was the last that held it", || count(&manager) == 0);
});

scenario!(ten_thousand_objects_live_at_once_as_far_as_there_are_descriptors, {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let objects = 10_000.min(hard / 2) as u32;
    // The server inherits the limit.
    let manager = Manager::spawn().unwrap();
    let lists: Vec<_> = (0..objects).map(|_| List::<u32>::new(&manager).unwrap()).collect();
    for (list, number) in lists.iter().zip(0..) {
        list.push(number).unwrap();
    }
    assert_eq!(count(&manager), objects as usize);
    assert_eq!(lists[objects as usize - 1].get(0).unwrap(), Some(objects - 1));
    drop(lists);
    eventually("they go", || count(&manager) == 0);
    setrlimit(Resource::Nofile, limit).unwrap();
});

// Its limit is for a busy machine with one core.
scenario!(a_value_of_a_gibibyte_is_a_descriptor_in_the_server, Duration::from_secs(300), {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u8, Vec<u8>>::new(&manager).unwrap();
    let mut value = vec![0_u8; 1 << 30];
    value[(1 << 30) - 1] = 7;
    map.insert(1, value).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", manager.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 100 << 10, "{kib} KiB in the server");
    let value = map.get(&1).unwrap().unwrap();
    assert_eq!((value.len(), value[0], value[(1 << 30) - 1]), (1 << 30, 0, 7));
});
