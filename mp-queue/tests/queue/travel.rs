//! Queues are values: in arguments, results, pipes and other queues.

use std::collections::BTreeMap;

use mp_core::raw::Message;
use mp_core::{Receiver, Sender, pipe, process_fn};
use mp_queue::{Consumer, GetError, Producer, Queue};
use mp_testing::leaks::{Resources, descriptors};
use mp_testing::{eventually, scenario};
use serde::{Deserialize, Serialize};

use crate::has_no_receiver;
use crate::{next, put_soon, soon};

#[process_fn]
fn takes_one_of_each(queue: Queue<u32>, to: Producer<u32>, from: Consumer<u32>) {
    assert_eq!(next(&queue), 1);
    queue.put(2).unwrap();
    to.put(soon(&from) + 1).unwrap();
}

scenario!(queues_and_halves_are_arguments, {
    let (queue, other, third) = (Queue::new().unwrap(), Queue::new().unwrap(), Queue::new().unwrap());
    queue.put(1).unwrap();
    third.put(10).unwrap();
    takes_one_of_each::spawn(queue.clone(), other.producer(), third.consumer()).unwrap().join().unwrap();
    assert_eq!((next(&queue), next(&other), third.is_empty()), (2, 11, true));
});

#[process_fn]
fn makes() -> (Queue<String>, Consumer<u8>) {
    let (queue, other) = (Queue::bounded(2).unwrap(), Queue::new().unwrap());
    queue.put("from a process that has ended".to_owned()).unwrap();
    other.put(7).unwrap();
    (queue, other.consumer())
}

scenario!(a_queue_outlives_the_process_that_made_it, {
    let (queue, consumer) = makes::spawn().unwrap().join().unwrap();
    assert_eq!(queue.get().unwrap(), "from a process that has ended");
    assert!(matches!(queue.try_get(), Err(GetError::Disconnected)));
    assert_eq!(queue.capacity(), 2);
    assert_eq!(consumer.get().unwrap(), 7);
    assert!(matches!(consumer.get(), Err(GetError::Disconnected)));
});

/// Everything that a queue can be in.
#[derive(Serialize, Deserialize)]
struct Parcel {
    maybe: Option<Queue<u32>>,
    many: Vec<Queue<u32>>,
    halves: BTreeMap<String, (Producer<u32>, Consumer<u32>)>,
}

impl Parcel {
    fn new() -> Self {
        let queue = || Queue::new().unwrap();
        Self {
            maybe: Some(queue()),
            many: (0..5).map(|_| queue()).collect(),
            halves: (0..3).map(|number| (number.to_string(), queue().into_split())).collect(),
        }
    }

    fn copy(&self) -> Self {
        Self { maybe: self.maybe.clone(), many: self.many.clone(), halves: self.halves.clone() }
    }

    fn put(&self, number: u32) {
        self.maybe.iter().chain(&self.many).for_each(|queue| queue.put(number).unwrap());
        self.halves.values().for_each(|(to, _)| to.put(number).unwrap());
    }

    #[track_caller]
    fn check(&self, number: u32) {
        assert!(self.maybe.iter().chain(&self.many).all(|queue| next(queue) == number));
        assert!(self.halves.values().all(|(_, from)| soon(from) == number));
    }
}

#[process_fn]
fn unpacks(parcel: Parcel) -> Parcel {
    parcel.check(1);
    parcel.put(2);
    parcel
}

scenario!(queues_are_in_whatever_is_sent, {
    let parcel = Parcel::new();
    parcel.put(1);
    let back = unpacks::spawn(parcel.copy()).unwrap().join().unwrap();
    back.check(2);
    back.put(3);
    parcel.check(3);
    let (to, from) = pipe().unwrap();
    to.send(back).unwrap();
    parcel.put(4);
    from.recv().unwrap().check(4);
    let queue = Queue::new().unwrap();
    queue.put(parcel).unwrap();
    let parcel: Parcel = queue.get().unwrap();
    parcel.put(5);
    parcel.check(5);
});

/// Passes it on to a process of its own, and that to another.
#[process_fn]
fn nests(queue: Queue<u32>, depth: u32) {
    queue.put(depth).unwrap();
    if depth > 0 {
        nests::spawn(queue, depth - 1).unwrap().join().unwrap();
    }
}

scenario!(a_queue_goes_down_to_grandchildren, {
    let queue = Queue::new().unwrap();
    nests::spawn(queue.clone(), 3).unwrap().join().unwrap();
    assert_eq!(queue.drain().unwrap(), [3, 2, 1, 0]);
});

#[process_fn]
fn forwards(from: Receiver<Queue<u32>>, to: Sender<Queue<u32>>) {
    for queue in from.iter() {
        let queue = queue.unwrap();
        queue.put(1).unwrap();
        to.send(queue).unwrap();
    }
}

scenario!(a_queue_lives_in_a_message_and_so_do_its_values, {
    let ((first, from), (to, last)) = (pipe().unwrap(), pipe().unwrap());
    let child = forwards::spawn(from, to).unwrap();
    for _ in 0..20 {
        let queue = Queue::new().unwrap();
        queue.put(0).unwrap();
        // The only one: it is in the message, or with the child.
        first.send(queue).unwrap();
    }
    drop(first);
    child.join().unwrap();
    for _ in 0..20 {
        assert_eq!(last.recv().unwrap().drain().unwrap(), [0, 1]);
    }
});

#[process_fn]
fn answers_each(requests: Queue<(u32, Producer<u32>)>) {
    for request in requests.iter() {
        let (number, answer) = request.unwrap();
        answer.put(number * 2).unwrap();
    }
}

// What servers do: each request brings the queue for its answer along.
scenario!(a_queue_brings_queues, {
    let requests = Queue::bounded(4).unwrap();
    let servers: Vec<_> = (0..2).map(|_| answers_each::spawn(requests.clone()).unwrap()).collect();
    for number in 0..50 {
        let (to, from) = Queue::bounded(1).unwrap().into_split();
        requests.put((number, to)).unwrap();
        assert_eq!(soon(&from), number * 2);
        assert!(matches!(from.get(), Err(GetError::Disconnected)));
    }
    requests.close();
    servers.into_iter().for_each(|server| server.join().unwrap());
});

scenario!(queues_are_in_queues_that_are_in_queues, {
    let innermost = Queue::new().unwrap();
    let inner = Queue::new().unwrap();
    let outer = Queue::new().unwrap();
    innermost.put(7).unwrap();
    inner.put(innermost).unwrap();
    outer.put(inner).unwrap();
    let (to, from) = pipe().unwrap();
    to.send(outer).unwrap();
    let outer: Queue<Queue<Queue<u32>>> = from.recv().unwrap();
    assert_eq!(outer.get().unwrap().get().unwrap().get().unwrap(), 7);
});

#[derive(Serialize, Deserialize)]
struct Within {
    queue: Queue<Within>,
    _end: Option<Receiver<()>>,
}

// A loop, which the kernel has to find.
scenario!(a_queue_in_itself_comes_out_of_itself_and_ends_with_its_last_handle, {
    let queue = Queue::new().unwrap();
    queue.put(Within { queue: queue.clone(), _end: None }).unwrap();
    let within = queue.get().unwrap();
    drop(queue);
    within.queue.put(Within { queue: within.queue.clone(), _end: None }).unwrap();
    let (alive, end) = pipe().unwrap();
    within.queue.put(Within { queue: within.queue.clone(), _end: Some(end) }).unwrap();
    let again = within.queue.get().unwrap();
    alive.send(()).unwrap();
    drop(within);
    alive.send(()).unwrap();
    drop(again);
    eventually("the kernel has closed what was in it", || has_no_receiver(&alive));
});

scenario!(queues_that_hold_each_other_end, {
    let (one, other) = (Queue::new().unwrap(), Queue::new().unwrap());
    let (alive, end) = pipe().unwrap();
    one.put(Within { queue: other.clone(), _end: None }).unwrap();
    other.put(Within { queue: one.clone(), _end: Some(end) }).unwrap();
    drop((one, other));
    eventually("the kernel has closed what was in them", || has_no_receiver(&alive));
});

scenario!(a_queue_that_is_received_twice_is_one_queue, {
    let queue = Queue::new().unwrap();
    let copies: (Queue<u32>, Queue<u32>) = Message::encode(&(&queue, &queue)).unwrap().decode().unwrap();
    copies.0.put(1).unwrap();
    copies.1.put(2).unwrap();
    queue.put(3).unwrap();
    assert_eq!((copies.1.get().unwrap(), copies.0.get().unwrap(), copies.1.get().unwrap()), (1, 2, 3));
});

scenario!(a_queue_takes_five_descriptors_and_its_clones_take_none, {
    let before = descriptors().len();
    let queue = Queue::<u32>::new().unwrap();
    assert_eq!(descriptors().len(), before + 5);
    let copies: Vec<_> = (0..100).map(|_| (queue.clone(), queue.producer(), queue.consumer())).collect();
    assert_eq!(descriptors().len(), before + 5);
    drop(queue);
    copies[7].0.put(1).unwrap();
    let (to, from) = copies[8].0.clone().into_split();
    drop(copies);
    to.put(2).unwrap();
    assert_eq!((from.get().unwrap(), from.get().unwrap()), (1, 2));
    assert_eq!(descriptors().len(), before + 5);
    let copy: Consumer<u32> = Message::encode(&from).unwrap().decode().unwrap();
    assert_eq!(descriptors().len(), before + 10);
    drop(copy);
    drop((to, from));
    assert_eq!(descriptors().len(), before);
});

scenario!(a_message_that_is_never_received_closes_the_queue_in_it, {
    let before = Resources::of_this_process();
    let queue = Queue::<u32>::new().unwrap();
    drop(Message::encode(&queue).unwrap());
    let (to, from) = pipe().unwrap();
    to.send(queue).unwrap();
    drop((to, from));
    let outer = Queue::new().unwrap();
    outer.put(Queue::<u32>::new().unwrap()).unwrap();
    drop(outer);
    assert_eq!(Resources::of_this_process(), before);
});

scenario!(a_queue_is_of_the_type_of_both_ends, {
    // Nothing says of what type the values are, and another one decodes them if it can.
    let queue = Queue::<u32>::new().unwrap();
    let other: Queue<Vec<u64>> = Message::encode(&queue).unwrap().decode().unwrap();
    queue.put(1).unwrap();
    assert!(matches!(other.get(), Err(GetError::Decode(_))));
    other.put(vec![]).unwrap();
    assert!(matches!(queue.get(), Err(GetError::Decode(_))));
    put_soon(&queue.producer(), 5);
    assert_eq!(queue.get().unwrap(), 5);
});
