//! What the fuzz targets share: values of every shape, descriptors of every kind, and what must
//! hold after each input.

pub mod descriptors;
pub mod limits;
pub mod values;
