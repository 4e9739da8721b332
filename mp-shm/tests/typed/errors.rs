//! What every error of this crate is, so that `?` works into whatever a program has for errors.

use std::error::Error;

use mp_shm::{
    ArrayError, AttachError, BufferError, FreezeError, NameError, ReclaimError, RejoinError, RejoinErrorReason,
    ShareableListError, SharedMemoryError,
};

fn is_error<E: Error + Send + Sync + 'static>() {}

#[test]
fn every_error_can_be_passed_on() {
    is_error::<ArrayError>();
    is_error::<ArrayError<u64>>();
    is_error::<AttachError>();
    is_error::<BufferError>();
    is_error::<FreezeError<u8>>();
    is_error::<NameError>();
    is_error::<ReclaimError<u8>>();
    is_error::<RejoinError<u8>>();
    is_error::<RejoinErrorReason>();
    is_error::<ShareableListError>();
    is_error::<SharedMemoryError>();
}

/// The text says what could not be done; why is the source, and the text does not repeat it.
#[test]
fn no_text_repeats_its_source() {
    let mut errors: Vec<Box<dyn Error>> = vec![
        Box::new(AttachError::Io(std::io::ErrorKind::OutOfMemory.into())),
        Box::new(BufferError::Io(std::io::ErrorKind::OutOfMemory.into())),
        Box::new(RejoinErrorReason::Part(BufferError::InUse)),
        Box::new(FreezeError::<u8> { buffer: None, source: std::io::ErrorKind::ResourceBusy.into() }),
        Box::new(RejoinError::<u8> { parts: Vec::new(), reason: RejoinErrorReason::Empty }),
    ];
    if let Err(error) = mp_shm::SharedMemory::open("no such name") {
        errors.push(Box::new(error));
    }
    for error in errors {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.ends_with('.') && !text.starts_with(char::is_uppercase), "{text}");
        if let Some(source) = error.source() {
            assert!(!text.contains(&source.to_string()), "{text}: {source}");
        }
    }
}
