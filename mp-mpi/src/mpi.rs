//! The MPI library: the only module that calls it, and the only one with `unsafe`.
//!
//! One thread initialises the library, makes every call and finalises it (`MPI_THREAD_FUNNELED`). A
//! [`Mpi`] is not `Send`, so it stays on that thread. Every call returns its error, because the
//! world's error handler is set to `MPI_ERRORS_RETURN` first.

use std::ffi::{CStr, c_char, c_int, c_void};
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
    /// How to ask which ranks have failed, in a library that can go on without them.
    failures: Option<Failures>,
    _not_send: PhantomData<*const ()>,
}

/// Functions of ULFM (user level failure mitigation), an extension of MPI that a library has or has
/// not.
#[derive(Clone, Copy)]
struct Failures {
    acknowledge: unsafe extern "C" fn(ffi::MPI_Comm) -> c_int,
    acknowledged: unsafe extern "C" fn(ffi::MPI_Comm, *mut ffi::MPI_Group) -> c_int,
}

/// A message that has come and was not received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) source: usize,
    pub(crate) length: usize,
    tag: c_int,
}

/// Bytes on their way to a rank, or from one.
pub(crate) struct Transfer {
    pub(crate) rank: usize,
    requests: Vec<ffi::MPI_Request>,
    /// The library reads or writes them until the requests are done.
    buffers: [Vec<u8>; 2],
    /// How many bytes it writes into the first one.
    to_come: usize,
}

impl Transfer {
    /// Returns what was received. It is empty unless all of it [is done](Mpi::is_done).
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffers[0])
    }

    /// Gives up a transfer that may never be done, because its rank was lost. Its memory stays,
    /// because the library may still use it.
    pub(crate) fn abandon(mut self) {
        std::mem::forget(std::mem::take(&mut self.buffers));
    }
}

/// However a transfer is dropped, for an error that ends the job as well, its memory stays as long
/// as the library may use it.
impl Drop for Transfer {
    fn drop(&mut self) {
        if !self.requests.is_empty() {
            std::mem::forget(std::mem::take(&mut self.buffers));
        }
    }
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
        Ok(Self { rank: rank as usize, size: size as usize, failures: Failures::find(), _not_send: PhantomData })
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Begins to send two pieces of bytes, each in messages of at most `most` bytes. If that fails,
    /// some of them may be on their way.
    pub(crate) fn send(&self, rank: usize, buffers: [Vec<u8>; 2], most: usize) -> (Transfer, Result<(), MpiError>) {
        let (mut requests, mut result) = (Vec::new(), Ok(()));
        for piece in buffers.iter().flat_map(|buffer| buffer.chunks(most)) {
            // SAFETY: reading a constant of the library.
            let byte = unsafe { ffi::RSMPI_UINT8_T };
            let mut request = MaybeUninit::uninit();
            let (start, length) = (piece.as_ptr().cast::<c_void>(), piece.len() as c_int);
            // SAFETY: the bytes stay where they are until the request is done: the vectors are not
            // changed, and a `Transfer` that is dropped before leaves them in place.
            let code =
                unsafe { ffi::MPI_Isend(start, length, byte, rank as c_int, TAG, world(), request.as_mut_ptr()) };
            result = check("MPI_Isend", code);
            if result.is_err() {
                break;
            }
            // SAFETY: the call has succeeded, so there is a request.
            requests.push(unsafe { request.assume_init() });
        }
        (Transfer { rank, requests, buffers, to_come: 0 }, result)
    }

    /// Whether the library has done with the bytes. An error concerns one message, and the others
    /// are still to be asked about.
    pub(crate) fn is_done(&self, transfer: &mut Transfer) -> Result<bool, MpiError> {
        while let Some(request) = transfer.requests.last_mut() {
            let mut done: c_int = 0;
            // SAFETY: reading a constant of the library.
            let ignore = unsafe { ffi::RSMPI_STATUS_IGNORE };
            // SAFETY: the request is one of `send` or `receive`, which was not done before.
            let result = check("MPI_Test", unsafe { ffi::MPI_Test(request, &mut done, ignore) });
            if result.is_ok() && done == 0 {
                return Ok(false);
            }
            // A request that failed is done as well (MPI-4.0, 3.7.3).
            transfer.requests.pop();
            result?;
            let to_come = std::mem::take(&mut transfer.to_come);
            if to_come > 0 {
                // SAFETY: the message that was found has `to_come` bytes, for which there is room,
                // and this thread alone receives, so it is the one that was received.
                unsafe { transfer.buffers[0].set_len(to_come) };
            }
        }
        Ok(true)
    }

    /// Looks for a message: rank 0 for one of any rank, and the others for one of rank 0, so that
    /// they do not mind who else is lost.
    pub(crate) fn probe(&self) -> Result<Option<Waiting>, MpiError> {
        let mut found: c_int = 0;
        let mut status = MaybeUninit::<ffi::MPI_Status>::zeroed();
        // SAFETY: reading a constant of the library.
        let any = unsafe { ffi::RSMPI_ANY_SOURCE };
        let source = if self.rank == 0 { any } else { 0 };
        // SAFETY: both results have a place.
        check("MPI_Iprobe", unsafe { ffi::MPI_Iprobe(source, TAG, world(), &mut found, status.as_mut_ptr()) })?;
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

    /// Begins to receive the message that was found. If that fails, nothing is on its way.
    pub(crate) fn receive(&self, waiting: Waiting) -> Result<Transfer, MpiError> {
        let Waiting { source, length, tag } = waiting;
        let full =
            |error| MpiError { call: "MPI_Irecv", text: format!("there is no memory for {length} bytes: {error}") };
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(full)?;
        let room = bytes.spare_capacity_mut().as_mut_ptr().cast::<c_void>();
        // SAFETY: reading a constant of the library.
        let byte = unsafe { ffi::RSMPI_UINT8_T };
        let mut request = MaybeUninit::uninit();
        // SAFETY: there is room for `length` bytes, the library writes no more than it is told, and
        // the vector is not touched until the request is done, as in `send`.
        let code =
            unsafe { ffi::MPI_Irecv(room, length as c_int, byte, source as c_int, tag, world(), request.as_mut_ptr()) };
        check("MPI_Irecv", code)?;
        // SAFETY: the call has succeeded, so there is a request.
        let requests = vec![unsafe { request.assume_init() }];
        Ok(Transfer { rank: source, requests, buffers: [bytes, Vec::new()], to_come: length })
    }

    /// Returns the ranks that have failed until now, and lets the library go on without them. Until
    /// that is done it finds no message of any rank.
    pub(crate) fn lost(&self) -> Result<Vec<usize>, MpiError> {
        let Some(Failures { acknowledge, acknowledged }) = self.failures else { return Ok(Vec::new()) };
        // SAFETY: the function is the library's, and the communicator as well.
        check("MPIX_Comm_failure_ack", unsafe { acknowledge(world()) })?;
        let (mut failed, mut all) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: as above, and the result has a place.
        check("MPIX_Comm_failure_get_acked", unsafe { acknowledged(world(), failed.as_mut_ptr()) })?;
        // SAFETY: the result has a place.
        check("MPI_Comm_group", unsafe { ffi::MPI_Comm_group(world(), all.as_mut_ptr()) })?;
        // SAFETY: the call has succeeded, so there is a group.
        let mut failed = unsafe { failed.assume_init() };
        // SAFETY: as above.
        let mut all = unsafe { all.assume_init() };
        let mut count: c_int = 0;
        // SAFETY: the group is one.
        check("MPI_Group_size", unsafe { ffi::MPI_Group_size(failed, &mut count) })?;
        let own: Vec<c_int> = (0..count).collect();
        let mut ranks = own.clone();
        let (from, to) = (own.as_ptr(), ranks.as_mut_ptr());
        // SAFETY: both groups are ones, and both vectors have as many numbers as it says.
        let code = unsafe { ffi::MPI_Group_translate_ranks(failed, count, from, all, to) };
        check("MPI_Group_translate_ranks", code)?;
        for group in [&mut failed, &mut all] {
            // SAFETY: the group is this function's own, and not used any more.
            check("MPI_Group_free", unsafe { ffi::MPI_Group_free(group) })?;
        }
        Ok(ranks.into_iter().filter_map(|rank| usize::try_from(rank).ok()).collect())
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

impl Failures {
    /// Looks for the functions in the library that this process has loaded, whichever it was built
    /// with.
    fn find() -> Option<Self> {
        let [acknowledge, acknowledged] = [c"MPIX_Comm_failure_ack", c"MPIX_Comm_failure_get_acked"].map(symbol);
        if acknowledge.is_null() || acknowledged.is_null() {
            return None;
        }
        // SAFETY: a function of this name has this type (ULFM, 16.3), and is there as long as MPI.
        let acknowledge = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(_) -> _>(acknowledge) };
        // SAFETY: as above.
        let acknowledged = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(_, _) -> _>(acknowledged) };
        Some(Self { acknowledge, acknowledged })
    }
}

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> c_int;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The address of what has this name in any library of this process; null if nothing has.
fn symbol(name: &CStr) -> *mut c_void {
    // SAFETY: null is RTLD_DEFAULT, and the name ends with a NUL.
    unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) }
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
