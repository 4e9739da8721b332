//! Bounded queues between any number of processes, in shared memory.
//!
//! A [`Queue`] has any number of producers and consumers, in any processes and threads. Values come
//! out in the order in which they were put, and each goes to one consumer. A queue is itself a
//! value: clone it, send it in arguments, results and messages, or put it into another queue.
//!
//! ```
//! use mp_core::process_fn;
//! use mp_queue::{Consumer, Producer, Queue};
//!
//! #[process_fn]
//! fn square(numbers: Consumer<u64>, squares: Producer<u64>) {
//!     for number in numbers.iter() {
//!         let number = number.expect("a number");
//!         squares.put(number * number).expect("the parent gets it");
//!     }
//! }
//!
//! let (numbers, to_square) = Queue::bounded(64)?.into_split();
//! let (squared, squares) = Queue::bounded(64)?.into_split();
//! let children = [square::spawn(to_square.clone(), squared.clone())?, square::spawn(to_square, squared)?];
//! numbers.put_many(1..=10)?;
//! drop(numbers); // the end for both children
//! assert_eq!(squares.iter().sum::<Result<u64, _>>()?, 385);
//! # for child in children { child.join()?; }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The example `pipeline` joins three stages of processes and survives the death of one of them.
//!
//! # Overview
//!
//! | Python | here | |
//! |---|---|---|
//! | `Queue(n)` | [`Queue::bounded`] | [`Queue::with_bytes`] bounds the memory instead |
//! | `Queue()`, `SimpleQueue()` | [`Queue::new`] | bounded by its memory, 4 MiB |
//! | `JoinableQueue(n)` | [`JoinableQueue::bounded`] | |
//! | `put(x)`, `put(x, timeout=t)`, `put_nowait(x)` | [`put`](Queue::put), [`put_timeout`](Queue::put_timeout), [`try_put`](Queue::try_put) | An error gives the value back. |
//! | `get()`, `get(timeout=t)`, `get_nowait()` | [`get`](Queue::get), [`get_timeout`](Queue::get_timeout), [`try_get`](Queue::try_get) | |
//! | `Full`, `Empty` | [`PutErrorReason::Full`], [`TimedOut`](PutErrorReason::TimedOut); `None` | |
//! | `qsize()`, `empty()`, `full()` | [`len`](Queue::len), [`is_empty`](Queue::is_empty), [`is_full`](Queue::is_full) | |
//! | `close()` | dropping the handle | [`Queue::close`] closes the queue for all handles. |
//! | a `None` for each consumer | [`close`](Queue::close), or dropping the last [`Producer`] | |
//! | `join_thread()`, `cancel_join_thread()` | not needed | The value is in the queue when `put` returns. |
//! | `task_done()`, `join()` | [`task_done`](JoinableQueue::task_done), [`join`](JoinableQueue::join), [`join_timeout`](JoinableQueue::join_timeout) | |
//! | | [`put_many`](Queue::put_many), [`get_many`](Queue::get_many), [`drain`](Queue::drain), [`iter`](Queue::iter) | |
//! | | [`readable`](Queue::readable), [`writable`](Queue::writable) | for [`mp_core::wait`] and poll(2) |
//! | | `put_async`, `get_async` | with the feature `async` |
//!
//! [`Queue::producer`] and [`Queue::consumer`] make handles of one side, [`Producer`] and
//! [`Consumer`]. Use them where you can: a loop over a `Consumer` then ends by itself when the last
//! `Producer` has gone. [`ring`] has one producer and one consumer, and no locks.
//!
//! # When a process dies
//!
//! A process can receive SIGKILL between any two instructions.
//!
//! | process | when | result |
//! |---|---|---|
//! | producer | in the middle of a put | the value is in the queue or not, as a whole; of a `put_many`, the first ones are |
//! | producer | after `put` returned | a consumer gets the value |
//! | consumer | in the middle of a get | the next consumer gets the value, or it is lost with the process; of a `get_many`, all of its values can be |
//! | the last producer | at any time | consumers get what is left, and then [`GetError::Disconnected`] |
//! | the last consumer | at any time | producers get [`PutErrorReason::Disconnected`], at the latest when the queue is full |
//! | the last handle | at any time | the kernel frees the memory |
//! | consumer of a [`JoinableQueue`] | before `task_done` | [`join`](JoinableQueue::join) returns [`JoinError::Abandoned`] |
//!
//! No other process loses a value or waits longer, except that the end of a killed process is
//! noticed within 100 ms. The kernel records who holds a queue, so a process need not say goodbye.
//! A handle in a message or in another queue counts as well. So does the copy of a handle in a
//! process that was made by `fork()` without exec.
//!
//! # What it costs
//!
//! A put encodes the value, copies it into the shared memory, and publishes it by one write to that
//! memory. A get does the reverse. They make system calls only to wait, to wake a thread that
//! waits, and, without waiting, to ask whether the other side of an empty or a full queue exists.
//! Before a thread sleeps it looks for up to 50 µs, if that has paid before and it has more than
//! one processor, and then yields its processor once, if that has paid before. While it sleeps it
//! wakes ten times a second to ask whether the other side still exists.
//! [`put_many`](Queue::put_many) and [`get_many`](Queue::get_many) share the costs of a call among
//! many values.
//!
//! Producers exclude each other while they copy, and so do consumers. Encoding and decoding happen
//! outside of that, so a slow `Serialize` delays no other process, and may use the same queue.
//!
//! A queue takes five descriptors each time a process makes or receives it, however often the
//! process clones it, and as many in each message that holds it. The first wait of a process for
//! [`readable`](Queue::readable), [`writable`](Queue::writable) or a future takes two more for each
//! side. A process that puts values longer than half the memory keeps three descriptors, and the
//! memory, of up to eight of them until they were gotten, and of up to three to use them again.
//!
//! The kernel allocates the memory of a queue as it is first used. One that is mostly empty uses
//! the first 64 KiB again and again.
//!
//! # Limits
//!
//! | | |
//! |---|---|
//! | memory of a queue | 4 KiB to 8 GiB, a power of two |
//! | values in a queue | 2<sup>29</sup>, or as given to [`bounded`](Queue::bounded) |
//! | a value in it | its encoded form, rounded up to 8 bytes, and 8 bytes more |
//! | the longest value | [`mp_core::message_limit`] |
//! | values with descriptors, or longer than half the memory | They travel beside the memory, through a socket, and take 16 bytes of the memory. The socket holds about 270 of them, then a put waits (`net.core.wmem_default`). |
//!
//! # Whom it trusts
//!
//! Share a queue with processes that you trust like your own. One that overwrites the memory can
//! forge, lose and repeat values, and keep the locks, so that calls without a timeout wait
//! indefinitely. It cannot make others read or write outside the memory: its size is sealed, and
//! each position and length is checked when it is used. Damage that is noticed is
//! [`GetError::Damaged`] or [`PutErrorReason::Damaged`]. A value is copied out before it is
//! decoded, and decoding resists hostile bytes as in `mp-core`.
//!
//! Values carry no type tags. All handles of a queue must agree on its type.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `async` | no | `put_async` and `get_async`, on any executor |
//!
//! # Platforms
//!
//! Linux 5.4 or later with `/proc` mounted, on 64-bit targets, with glibc (for the locks).

#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod batch;
mod deadline {
    pub(crate) use mp_sync::futex::Deadline;
}
mod error;
mod event;
mod get;
mod holder;
mod joinable;
#[allow(unsafe_code, reason = "it hands the ring's bytes to `protocol::access`")]
mod memory;
mod primitive;
mod protocol;
mod put;
mod queue;
pub mod ring;
mod role;
mod tasks;
mod transfer;

pub use error::{GetError, GetManyError, JoinError, PutError, PutErrorReason, PutManyError, TooManyTasksDone};
pub use get::Iter;
pub use joinable::JoinableQueue;
pub use queue::{Consumer, Producer, Queue};
pub use role::{Both, Get, Gets, Put, Puts, Role};
