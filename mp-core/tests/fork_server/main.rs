//! Fork servers: what they load, what their processes have, and how each of them can end.

mod preload;
