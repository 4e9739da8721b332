//! What is received while another value is being decoded.

use std::cell::Cell;
use std::rc::Rc;

use rustix::fs::fstat;
use serde::Deserializer;

use super::*;

thread_local!(static ASIDE: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) });

/// A handle, before which something else happens.
struct After(OwnedFd);

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ASIDE.take().expect("there is something to do")();
        Handle::deserialize(deserializer).map(|Handle(handle)| Self(handle))
    }
}

#[test]
fn handles_of_a_message_that_is_received_in_the_middle_of_a_value_are_not_the_value_s() {
    scenario!(handles_of_a_message_in_the_middle_of_a_value, {
        let attack = Rc::new(Attack::<ByteBuf>::new());
        let part = |handles: u8| (frame(PART, handles, 0, b""), handles.into());
        let scripts: [Script; 3] = [
            vec![part(1), value(), honest(END, &[])],
            vec![value(), part(1), honest(END, &[])],
            vec![part(2), value(), part(3), (frame(END, 1, 0, b""), 1)],
        ];
        for (script, way) in scripts.iter().flat_map(|script| WAYS.map(|way| (script, way))) {
            let file: OwnedFd = tempfile::tempfile().unwrap().into();
            let expected = fstat(&file).unwrap().st_ino;
            let message = Message::encode(&Handle(file)).unwrap();

            let (near, far) = sockets(SocketType::STREAM);
            perform(near, script, Pace::Before);
            send(&attack.raw, &packet(OFFER, 0, 0, 0, &[]), &[far.as_fd()]);
            drop(far);
            let aside = Rc::clone(&attack);
            ASIDE.set(Some(Box::new(move || {
                let received = receive(&aside.receiver, way);
                assert!(matches!(received, Err(RecvError::Decode(_))), "{received:?}");
            })));
            let After(handle) = message.decode().unwrap_or_else(|error| panic!("{script:?} {way:?}: {error}"));
            assert_eq!(fstat(&handle).unwrap().st_ino, expected, "{script:?} {way:?}");
            drop(handle);
            attack.goes_on();
        }
    });
}
