//! What goes to a process, comes back, or crosses a connection.

mod borrowed;
mod json;
mod paths;
mod travel;
mod values;
