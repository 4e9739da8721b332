use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde::{Deserialize, Serialize, Serializer, ser};

use crate::{DecodeError, EncodeError, Message, SendErrorReason, fd, pipe};

/// A value of which there is only one, and which counts how often it was given back.
#[derive(Clone, Default)]
struct Only {
    sent: Arc<AtomicBool>,
    undone: Arc<AtomicU32>,
}

impl Only {
    /// Whether the owner may use it, and how often it came back.
    fn look(&self) -> (bool, u32) {
        (!self.sent.load(Ordering::SeqCst), self.undone.load(Ordering::SeqCst))
    }
}

impl Serialize for Only {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.sent.swap(true, Ordering::SeqCst) {
            return Err(ser::Error::custom("it was sent already"));
        }
        let Self { sent, undone } = self.clone();
        let inside = fd::if_undelivered(move || {
            assert!(sent.swap(false, Ordering::SeqCst), "it was not sent");
            undone.fetch_add(1, Ordering::SeqCst);
        });
        if !inside {
            return Err(ser::Error::custom("it is no text"));
        }
        serializer.serialize_u32(7)
    }
}

fn encode<T: Serialize>(value: &T) -> Message {
    Message::encode(value).unwrap()
}

#[test]
fn a_message_that_is_dropped_gives_back_and_one_that_is_decoded_does_not() {
    let only = Only::default();
    let message = encode(&only);
    assert_eq!(only.look(), (false, 0));
    assert!(Message::encode(&only).is_err());
    drop(message);
    assert_eq!(only.look(), (true, 1));

    assert_eq!(encode(&only).decode::<u32>(), Ok(7));
    assert_eq!(only.look(), (false, 1));
    assert_eq!(Arc::strong_count(&only.sent), 1, "what was to be done is dropped");
}

#[test]
fn a_value_that_cannot_be_decoded_here_counts_as_delivered() {
    let only = Only::default();
    encode(&only).decode::<String>().unwrap_err();
    assert_eq!(only.look(), (false, 0));
}

#[test]
fn encoding_that_fails_or_panics_later_gives_back() {
    struct Bad(bool);
    impl Serialize for Bad {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            if self.0 {
                std::panic::resume_unwind(Box::new("on purpose"))
            } else {
                Err(ser::Error::custom("on purpose"))
            }
        }
    }
    let (only, other) = (Only::default(), Only::default());
    Message::encode(&(&only, &other, Bad(false))).unwrap_err();
    assert_eq!((only.look(), other.look()), ((true, 1), (true, 1)));
    std::panic::catch_unwind(|| drop(Message::encode(&(&only, Bad(true))))).unwrap_err();
    assert_eq!(only.look(), (true, 2));
    // Twice in one message.
    Message::encode(&(&only, &only)).unwrap_err();
    assert_eq!(only.look(), (true, 3));
}

#[test]
fn outside_a_message_it_is_refused_and_given_back_at_once() {
    let only = Only::default();
    assert!(serde_json::to_string(&only).is_err());
    assert_eq!(only.look(), (true, 1));
}

#[test]
fn a_message_shares_the_fate_of_the_one_around_it() {
    let only = Only::default();
    let inner = encode(&only);
    let outer = encode(&("first", &inner));
    drop(inner);
    assert_eq!(only.look(), (false, 0));
    drop(outer);
    assert_eq!(only.look(), (true, 1));

    let (_, received) = encode(&("second", encode(&only))).decode::<(String, Message)>().unwrap();
    assert_eq!(only.look(), (false, 1));
    drop(received);
    assert_eq!(only.look(), (false, 1), "it belongs to the receiver");
}

#[test]
fn a_message_can_be_put_into_another_one_again_when_that_was_not_delivered() {
    let only = Only::default();
    let inner = encode(&only);
    for _ in 0..3 {
        drop(encode(&&inner));
        assert_eq!(only.look(), (false, 0));
    }
    encode(&&inner).decode::<Message>().unwrap();
    drop(inner);
    assert_eq!(only.look(), (false, 0));
}

#[test]
fn a_message_is_delivered_once() {
    let only = Only::default();
    let inner = encode(&only);
    let outer = encode(&&inner);
    let refused = "only one";
    assert!(Message::encode(&inner).unwrap_err().to_string().contains(refused), "it is inside another");
    let received: Message = outer.decode().unwrap();
    assert!(Message::encode(&inner).unwrap_err().to_string().contains(refused), "it was delivered");
    assert!(inner.decode::<u32>().unwrap_err().to_string().contains(refused));

    // He who received it, and knows nothing of what is inside, is held to it as well.
    let (sender, receiver) = pipe::<Message>().unwrap();
    sender.send_ref(&received).unwrap();
    assert!(matches!(sender.send(received).unwrap_err().reason, SendErrorReason::Encode(_)));
    let received = receiver.recv().unwrap();
    let outer = encode(&&received);
    assert!(received.decode::<u32>().is_err(), "it is inside another");
    let received: Message = outer.decode().unwrap();
    assert_eq!(received.decode::<u32>(), Ok(7));
    assert_eq!(only.look(), (false, 0));
}

#[test]
fn a_message_that_asks_for_nothing_can_be_sent_as_often_as_one_likes() {
    let message = encode(&7u32);
    let (first, second) = (encode(&&message), encode(&&message));
    for outer in [first, second] {
        let received: Message = outer.decode().unwrap();
        drop((encode(&&received), encode(&&received)));
        assert_eq!(received.decode(), Ok(7u32));
    }
}

#[test]
fn of_many_that_put_a_message_into_another_at_once_one_succeeds() {
    for _ in 0..200 {
        let only = Only::default();
        let inner = encode(&only);
        let outer: Vec<Message> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| Message::encode(&inner))).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
        });
        assert_eq!(outer.len(), 1);
        thread::scope(|scope| {
            scope.spawn(|| drop(outer));
            scope.spawn(|| drop(inner));
        });
        assert_eq!(only.look(), (true, 1));
    }
}

#[test]
fn messages_stand_inside_each_other_only_so_deep() {
    let only = Only::default();
    let mut message = encode(&only);
    let mut depth = 0;
    let error: EncodeError = loop {
        match Message::encode(&message) {
            Ok(outer) => message = outer,
            Err(error) => break error,
        }
        depth += 1;
    };
    assert!(error.to_string().contains("too many messages"), "{error}");
    assert_eq!(depth, crate::codec::MAX_DEPTH);
    drop(message);
    assert_eq!(only.look(), (true, 1));
}

#[test]
fn the_last_is_undone_first_and_a_panic_keeps_none_from_it() {
    struct Asks(u32, Arc<Mutex<Vec<u32>>>);
    impl Serialize for Asks {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            struct PanicsToo;
            impl Drop for PanicsToo {
                fn drop(&mut self) {
                    std::panic::resume_unwind(Box::new(()));
                }
            }
            let (number, seen) = (self.0, Arc::clone(&self.1));
            fd::if_undelivered(move || {
                seen.lock().unwrap().push(number);
                if number == 2 {
                    std::panic::resume_unwind(Box::new(PanicsToo));
                }
            });
            serializer.serialize_unit()
        }
    }
    let seen = Arc::default();
    let three = [1, 2, 3].map(|number| Asks(number, Arc::clone(&seen)));
    drop(encode(&three));
    assert_eq!(*seen.lock().unwrap(), [3, 2, 1]);
    // While this thread is unwinding, too.
    let message = encode(&three);
    std::panic::catch_unwind(move || {
        let _message = message;
        std::panic::resume_unwind(Box::new(()));
    })
    .unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [3, 2, 1, 3, 2, 1]);
}

#[test]
fn what_is_done_may_encode_and_send() {
    struct Reports(Arc<crate::Sender<u32>>, Only);
    impl Serialize for Reports {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            let (sender, only) = (Arc::clone(&self.0), self.1.clone());
            fd::if_undelivered(move || {
                sender.send(1).unwrap();
                drop(Message::encode(&only).unwrap());
            });
            Err(ser::Error::custom("on purpose"))
        }
    }
    /// Puts its first part into the message although the second one cannot be encoded.
    struct Around(Only, Reports);
    impl Serialize for Around {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let encoded = self.0.serialize(serializer);
            assert!(Message::encode(&self.1).is_err());
            encoded
        }
    }
    let (sender, receiver) = pipe().unwrap();
    let (around, inside) = (Only::default(), Only::default());
    let message = encode(&Around(around.clone(), Reports(Arc::new(sender), inside.clone())));
    assert_eq!(receiver.try_recv().unwrap(), Some(1));
    assert_eq!((around.look(), inside.look()), ((false, 0), (true, 1)), "the outer message has nothing to do with it");
    drop(message);
    assert_eq!((around.look(), inside.look()), ((true, 1), (true, 1)));
}

#[test]
fn a_received_message_says_whether_it_may_be_passed_on_again() {
    #[derive(Serialize, Deserialize)]
    struct Pair(Message, Message);
    let only = Only::default();
    let received: Pair = encode(&Pair(encode(&only), encode(&8u32))).decode().unwrap();
    let result: Result<(u32, u32), DecodeError> = received.0.decode().and_then(|a| Ok((a, received.1.decode()?)));
    assert_eq!(result, Ok((7, 8)));
}
