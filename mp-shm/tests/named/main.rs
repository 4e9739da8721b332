//! Memory with a name.

mod attach;
mod named_faults;
mod named_python;
mod names;
mod shareable_list;
mod shared_memory;
