//! The text of errors.

use std::error::Error;

/// Returns the text of an error, followed by the text of each of its sources, separated by `: `.
///
/// # Examples
///
/// ```
/// use mp_core::raw::{Message, error_chain};
/// use mp_core::JoinError;
///
/// let error = JoinError::Decode(Message::encode("text")?.decode::<bool>().unwrap_err());
/// assert_eq!(error_chain(&error), error.to_string());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn error_chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", error_chain(source)),
        None => error.to_string(),
    }
}
