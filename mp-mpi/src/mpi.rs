//! The MPI library: the only module that calls it, and the only one with `unsafe`.
//!
//! One thread initialises the library, makes every call and finalises it (`MPI_THREAD_FUNNELED`). A
//! [`Mpi`] is not `Send`, so it stays on that thread. Every call returns its error, because the
//! world's error handler is set to `MPI_ERRORS_RETURN` first.

use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use ::mpi::ffi;

/// What the library said about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MpiError {
    call: &'static str,
    text: String,
}

impl fmt::Display for MpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.text)
    }
}

impl std::error::Error for MpiError {}

/// Success is 0 in every MPI.
const SUCCESS: c_int = 0;

fn check(call: &'static str, code: c_int) -> Result<(), MpiError> {
    if code == SUCCESS {
        return Ok(());
    }
    let mut text = [0_u8; 4096];
    let mut length: c_int = 0;
    // SAFETY: the buffer is longer than MPI_MAX_ERROR_STRING of every MPI (256 to 1024), and may be
    // used before MPI_Init and after MPI_Finalize by MPI-3.1, 8.4.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast::<c_char>(), &mut length) };
    let text = text.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
    Err(MpiError { call, text: format!("{} (code {code})", String::from_utf8_lossy(text)) })
}

/// The library, initialised, on the thread that may call it.
pub(crate) struct Mpi {
    rank: usize,
    size: usize,
    _not_send: PhantomData<*const ()>,
}

/// A message that has come and was not received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) source: usize,
    pub(crate) length: usize,
    tag: c_int,
}

/// Bytes on their way.
pub(crate) struct Sending {
    requests: Vec<ffi::MPI_Request>,
    /// The library reads them until the requests are done.
    _buffers: [Vec<u8>; 2],
}

/// All messages have one tag: the order of a sender's messages says what they are.
const TAG: c_int = 0;

impl Mpi {
    /// Initialises the library. It can be done once in a process.
    pub(crate) fn init() -> Result<Self, MpiError> {
        let mut provided: c_int = 0;
        // SAFETY: reading a constant of the library, which was initialised when it was loaded.
        let funneled = unsafe { ffi::RSMPI_THREAD_FUNNELED };
        // SAFETY: MPI-2 allows null for both arguments. This process calls it once, because only
        // `role` and `leader` do, and they exclude each other and themselves.
        let code = unsafe { ffi::MPI_Init_thread(std::ptr::null_mut(), std::ptr::null_mut(), funneled, &mut provided) };
        check("MPI_Init_thread", code)?;
        if provided < funneled {
            return Err(MpiError {
                call: "MPI_Init_thread",
                text: "the library cannot be called by a thread".to_owned(),
            });
        }
        // SAFETY: reading a constant, as above.
        let returns = unsafe { ffi::RSMPI_ERRORS_RETURN };
        // SAFETY: the communicator and the handler are the library's own.
        check("MPI_Comm_set_errhandler", unsafe { ffi::MPI_Comm_set_errhandler(world(), returns) })?;
        let (mut rank, mut size) = (0, 0);
        // SAFETY: the library is initialised, and the result has a place.
        check("MPI_Comm_rank", unsafe { ffi::MPI_Comm_rank(world(), &mut rank) })?;
        // SAFETY: as above.
        check("MPI_Comm_size", unsafe { ffi::MPI_Comm_size(world(), &mut size) })?;
        Ok(Self { rank: rank as usize, size: size as usize, _not_send: PhantomData })
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Begins to send two pieces of bytes, each in messages of at most `most` bytes.
    pub(crate) fn send(&self, rank: usize, buffers: [Vec<u8>; 2], most: usize) -> Result<Sending, MpiError> {
        let mut requests = Vec::new();
        for piece in buffers.iter().flat_map(|buffer| buffer.chunks(most)) {
            // SAFETY: reading a constant of the library.
            let byte = unsafe { ffi::RSMPI_UINT8_T };
            let mut request = MaybeUninit::uninit();
            let (start, length) = (piece.as_ptr().cast::<c_void>(), piece.len() as c_int);
            // SAFETY: the bytes stay where they are until the request is done: the vectors are not
            // changed, and a `Sending` is dropped only when it is done or the process ends.
            let code =
                unsafe { ffi::MPI_Isend(start, length, byte, rank as c_int, TAG, world(), request.as_mut_ptr()) };
            check("MPI_Isend", code)?;
            // SAFETY: the call has succeeded, so there is a request.
            requests.push(unsafe { request.assume_init() });
        }
        Ok(Sending { requests, _buffers: buffers })
    }

    /// Whether the bytes have left, so that they can be dropped.
    pub(crate) fn is_sent(&self, sending: &mut Sending) -> Result<bool, MpiError> {
        while let Some(request) = sending.requests.last_mut() {
            let mut done: c_int = 0;
            // SAFETY: reading a constant of the library.
            let ignore = unsafe { ffi::RSMPI_STATUS_IGNORE };
            // SAFETY: the request is one of `send`, which was not done before.
            check("MPI_Test", unsafe { ffi::MPI_Test(request, &mut done, ignore) })?;
            if done == 0 {
                return Ok(false);
            }
            sending.requests.pop();
        }
        Ok(true)
    }

    /// Looks for a message from any rank.
    pub(crate) fn probe(&self) -> Result<Option<Waiting>, MpiError> {
        let mut found: c_int = 0;
        let mut status = MaybeUninit::<ffi::MPI_Status>::zeroed();
        // SAFETY: reading a constant of the library.
        let any = unsafe { ffi::RSMPI_ANY_SOURCE };
        // SAFETY: both results have a place.
        check("MPI_Iprobe", unsafe { ffi::MPI_Iprobe(any, TAG, world(), &mut found, status.as_mut_ptr()) })?;
        if found == 0 {
            return Ok(None);
        }
        // SAFETY: a status is plain numbers, which were zeroed and then written.
        let status = unsafe { status.assume_init() };
        let mut length: c_int = 0;
        // SAFETY: reading a constant of the library.
        let byte = unsafe { ffi::RSMPI_UINT8_T };
        // SAFETY: the status is of a message of bytes.
        check("MPI_Get_count", unsafe { ffi::MPI_Get_count(&status, byte, &mut length) })?;
        let length = usize::try_from(length)
            .map_err(|_| MpiError { call: "MPI_Get_count", text: format!("a message of {length} bytes") })?;
        Ok(Some(Waiting { source: status.MPI_SOURCE as usize, length, tag: status.MPI_TAG }))
    }

    /// Receives the message that was found, at the end of `bytes`.
    pub(crate) fn receive(&self, waiting: Waiting, bytes: &mut Vec<u8>) -> Result<(), MpiError> {
        let Waiting { source, length, tag } = waiting;
        let full =
            |error| MpiError { call: "MPI_Recv", text: format!("there is no memory for {length} bytes: {error}") };
        bytes.try_reserve_exact(length).map_err(full)?;
        let room = bytes.spare_capacity_mut().as_mut_ptr().cast::<c_void>();
        // SAFETY: reading a constant of the library.
        let byte = unsafe { ffi::RSMPI_UINT8_T };
        // SAFETY: as above.
        let ignore = unsafe { ffi::RSMPI_STATUS_IGNORE };
        // SAFETY: there is room for `length` bytes behind the vector's own, and the library writes
        // no more than it is told.
        let code = unsafe { ffi::MPI_Recv(room, length as c_int, byte, source as c_int, tag, world(), ignore) };
        check("MPI_Recv", code)?;
        // SAFETY: the message that was found has `length` bytes, and this thread alone receives, so
        // it is the one that was received.
        unsafe { bytes.set_len(bytes.len() + length) };
        Ok(())
    }

    /// Finalises the library, when all ranks do so.
    pub(crate) fn finalize(self) -> Result<(), MpiError> {
        // SAFETY: this thread has initialised it, and all requests are done.
        check("MPI_Finalize", unsafe { ffi::MPI_Finalize() })
    }

    /// Ends the job: every rank on every host.
    pub(crate) fn abort(&self) -> ! {
        // SAFETY: the library is initialised.
        unsafe { ffi::MPI_Abort(world(), 1) };
        // It does not return, unless it fails.
        std::process::abort()
    }
}

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> c_int;
}

/// Has a function called when this process exits. It must not unwind.
pub(crate) fn at_exit(function: extern "C" fn()) {
    // SAFETY: the function is of this executable, which is never unloaded. If there is no memory
    // for the entry, it is not called.
    unsafe { atexit(function) };
}

fn world() -> ffi::MPI_Comm {
    // SAFETY: reading a constant of the library, which was initialised when it was loaded.
    unsafe { ffi::RSMPI_COMM_WORLD }
}
