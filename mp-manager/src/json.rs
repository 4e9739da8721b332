//! Objects for programs in Python: calls as messages of JSON.
//!
//! A program connects as CPython's `multiprocessing.connection.Client` does, with the key. It sends
//! a message for each call, and the answer is one message:
//!
//! | message | |
//! |---|---|
//! | `{"object": "name", "method": "add", "args": [2]}` | an object by the name under which it was published |
//! | `{"value": 3}` | what the method returned |
//! | `{"error": "..."}` | why there is no value; the connection goes on |

use std::io;
use std::sync::Arc;

use mp_core::raw::error_chain;
use mp_listener::ByteConnection;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::class::CLASSES;
use crate::error::CallError;
use crate::handle::{Handle, ask};
use crate::link::Link;
use crate::wire::{Lease, Operation};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    object: String,
    method: String,
    #[serde(default)]
    args: Vec<Value>,
}

/// Serves one program until it ends.
pub(crate) fn serve(mut stream: ByteConnection, link: &Arc<Link>, first: Vec<u8>) -> io::Result<()> {
    let mut message = first;
    loop {
        let answer = match answer(link, &message) {
            Ok(value) => json!({ "value": value }),
            Err(error) => json!({ "error": error }),
        };
        stream.send_json(&answer).map_err(io::Error::other)?;
        message = stream.recv_bytes().map_err(io::Error::other)?;
    }
}

fn answer(link: &Arc<Link>, message: &[u8]) -> Result<Value, String> {
    let Call { object, method, args } = serde_json::from_slice(message).map_err(|error| error.to_string())?;
    let find = |interface: String| Operation::Find { name: object.clone(), interface };
    // No object has this interface, so the error names the one that it has.
    let interface = match ask::<Lease>(link, find(String::new())) {
        Err(CallError::WrongType { found, .. }) => found,
        Err(error) => return Err(error_chain(&error)),
        Ok(_) => return Err(format!("`{object}` has no type")),
    };
    let class = CLASSES.iter().find(|class| (class.interface)() == interface);
    let json = class.map(|class| class.json).filter(|json| !json.is_empty());
    let json = json.ok_or_else(|| format!("`{object}` is a `{interface}`, which has no `#[shared(json)]`"))?;
    let method = json.iter().find(|known| known.name == method);
    let method = method.ok_or_else(|| {
        let names: Vec<_> = json.iter().map(|known| known.name).collect();
        format!("`{object}` has only the methods {}", names.join(", "))
    })?;
    let handle =
        ask(link, find(interface)).and_then(|lease| Handle::new(link, lease)).map_err(|error| error_chain(&error))?;
    (method.call)(&handle, method.place, &Value::Array(args).to_string())
        .and_then(|value| serde_json::from_str(&value).map_err(|error| error.to_string()))
}
