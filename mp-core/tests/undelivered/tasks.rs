//! The same for tasks that wait for room.

use std::pin::pin;

use futures_lite::future::{block_on, poll_once};
use mp_core::{duplex, pipe};
use serde_bytes::ByteBuf;

use crate::only::Only;
use crate::reactor::async_scenario;
use crate::{fill, given_back, gone};

#[test]
fn a_value_that_a_task_sends_is_gone_or_given_back() {
    async_scenario!(a_value_that_a_task_sends_is_gone_or_given_back, {
        let (sender, receiver) = pipe().unwrap();
        let (only, history) = Only::new();
        block_on(sender.send_async(only)).unwrap();
        gone(&history);
        receiver.recv().unwrap().check();
        drop(receiver);
        let (only, history) = Only::new();
        given_back(block_on(sender.send_async(only)), &history);

        let (mine, theirs) = duplex::<Only, Only>().unwrap();
        let (only, history) = Only::new();
        block_on(mine.send_async(only)).unwrap();
        gone(&history);
        drop(theirs);
        let (only, history) = Only::new();
        given_back(block_on(mine.send_async(only)), &history);
    });
}

#[test]
fn a_task_that_is_dropped_while_it_waits_gives_the_value_back() {
    async_scenario!(a_task_that_is_dropped_while_it_waits_gives_the_value_back, {
        let (sender, receiver) = pipe().unwrap();
        fill(&sender);
        let (only, history) = Only::new();
        {
            let mut waiting = pin!(sender.send_async(only));
            assert!(block_on(poll_once(&mut waiting)).is_none());
            gone(&history);
        }
        assert_eq!(history.counts(), (1, 1));

        // And one that goes on has sent it.
        let (only, history) = Only::new();
        let mut waiting = pin!(sender.send_async(only));
        assert!(block_on(poll_once(&mut waiting)).is_none());
        while receiver.try_recv_bytes().unwrap().is_some() {}
        block_on(waiting).unwrap();
        gone(&history);
        receiver.recv().unwrap().check();
    });
}

#[test]
fn a_task_that_is_dropped_while_it_waits_for_its_turn_gives_the_value_back() {
    async_scenario!(a_task_that_is_dropped_while_it_waits_for_its_turn_gives_the_value_back, {
        let (sender, receiver) = pipe().unwrap();
        let long = || ByteBuf::from(vec![1; 100_000]);
        let (first, first_history) = Only::new();
        block_on(sender.send_async((first, long()))).unwrap();
        gone(&first_history);
        let (second, history) = Only::new();
        {
            let mut waiting = pin!(sender.send_async((second, long())));
            assert!(block_on(poll_once(&mut waiting)).is_none());
        }
        assert_eq!(history.counts(), (1, 1));
        receiver.recv().unwrap().0.check();
    });
}
