//! Types that cannot be in shared memory, recognised by how they are written. rustc detects the
//! others.

use syn::{GenericArgument, Path, PathArguments, Type};

use crate::errors::{Errors, display};
use crate::types::bare;

/// Types that contain a value in place, so that they have the same errors as the value.
const AROUND: [&str; 7] = ["Option", "Mutex", "ReentrantMutex", "RwLock", "OnceLock", "Wrapping", "Saturating"];

/// Crates with locks for the threads of one process.
const THREADS: [&str; 4] = ["std", "parking_lot", "spin", "tokio"];

/// Reports the parts of `ty` that cannot be in shared memory.
pub(crate) fn check(ty: &Type, errors: &mut Errors) {
    match bare(ty) {
        Type::Reference(reference) => errors.at(
            reference,
            format!("a reference is an address in one process: {}", instead_of_pointing_at(&reference.elem)),
        ),
        Type::Ptr(pointer) => errors.at(
            pointer,
            "a raw pointer is an address in one process: use the value itself, or an index into an array beside it",
        ),
        Type::FnPtr(pointer) => errors.at(
            pointer,
            "a function pointer is an address in one process: use a value that says which function to call, such as an enum",
        ),
        Type::Slice(slice) => errors.at(slice, format!("a slice has no size of its own: {}", array(&slice.elem))),
        Type::TraitObject(object) => errors.at(
            object,
            format!("a trait object finds its functions by an address in one process: {CONCRETE}"),
        ),
        Type::ImplTrait(opaque) => errors.at(
            opaque,
            "`impl Trait` hides the type that the other processes have to know: use a concrete type, or a type parameter",
        ),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|element| check(element, errors)),
        Type::Array(array) => check(&array.elem, errors),
        Type::Path(ty) if ty.qself.is_none() => path(&ty.path, errors),
        _ => {}
    }
}

/// Tells whether values of type `ty` have a size.
pub(crate) fn is_sized(ty: &Type) -> bool {
    match bare(ty) {
        Type::Slice(_) | Type::TraitObject(_) => false,
        Type::Path(ty) => !ty.path.is_ident("str"),
        _ => true,
    }
}

/// What to use instead of text in other memory.
const TEXT: &str = "use an array of bytes, `[u8; N]`, and its length";

/// What to use instead of a value of unknown type.
const CONCRETE: &str = "use a concrete type, such as an enum of the possible ones";

/// What to use instead of an address of a `ty`.
fn instead_of_pointing_at(ty: &Type) -> String {
    match bare(ty) {
        Type::Slice(slice) => array(&slice.elem),
        Type::Path(ty) if is_text(&ty.path) => TEXT.to_owned(),
        Type::TraitObject(_) => CONCRETE.to_owned(),
        ty => format!("use the value itself, `{}`", display(ty)),
    }
}

fn is_text(path: &Path) -> bool {
    let texts = ["str", "Path", "OsStr", "CStr"];
    path.segments.last().is_some_and(|last| last.arguments.is_none() && texts.iter().any(|text| last.ident == text))
}

/// What to use instead of several values in other memory.
fn array(element: &Type) -> String {
    format!("use an array, `[{}; N]`, or an `mp_shm::Array` beside it", display(element))
}

fn path(path: &Path, errors: &mut Errors) {
    let (Some(first), Some(last)) = (path.segments.first(), path.segments.last()) else { return };
    let (first, name) = (first.ident.to_string(), last.ident.to_string());
    let arguments = Arguments::from(&last.arguments);
    let is_single = path.segments.len() == 1;
    let message = if !is_single && THREADS.contains(&&*first) { lock(&first, &name, &arguments) } else { None };
    let message = message.or_else(|| {
        let is_of_std = is_single || ["std", "core", "alloc"].contains(&&*first);
        if is_of_std { elsewhere(&name, &arguments) } else { None }
    });
    match message {
        Some(message) => errors.at(path, message),
        None if AROUND.contains(&&*name) => arguments.types.iter().for_each(|ty| check(ty, errors)),
        None => {}
    }
}

/// The arguments between `<` and `>`.
#[derive(Default)]
struct Arguments<'a> {
    count: usize,
    types: Vec<&'a Type>,
}

impl<'a> From<&'a PathArguments> for Arguments<'a> {
    fn from(arguments: &'a PathArguments) -> Self {
        let PathArguments::AngleBracketed(arguments) = arguments else { return Self::default() };
        let types = arguments.args.iter().filter_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        });
        Self { count: arguments.args.len(), types: types.collect() }
    }
}

/// The error for a type of std that stores its value elsewhere or works in one thread only. The
/// number of arguments distinguishes most of them from other types of that name.
fn elsewhere(name: &str, arguments: &Arguments) -> Option<String> {
    let types = arguments.types.as_slice();
    let shown: Vec<String> = types.iter().map(display).collect();
    let article = if name == "Rc" || name.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    let a_name = format!("{article} `{name}`");
    let message = match (name, arguments.count, types) {
        ("Vec" | "VecDeque" | "LinkedList" | "BinaryHeap", 1, [element]) => {
            format!("{a_name} has its elements in the memory of one process: {}", array(element))
        }
        ("HashSet", 1 | 2, [element, ..]) | ("BTreeSet", 1, [element]) => {
            format!("{a_name} has its elements in the memory of one process: {}", array(element))
        }
        ("HashMap", 2 | 3, [_, _, ..]) | ("BTreeMap", 2, [_, _]) => format!(
            "{a_name} has its entries in the memory of one process: use an array, `[({}, {}); N]`, or an \
             `mp_shm::Array` beside it",
            shown[0], shown[1]
        ),
        ("String" | "PathBuf" | "OsString" | "CString", 0, _) => {
            format!("{a_name} has its text in the memory of one process: {TEXT}")
        }
        ("str", 0, _) => format!("a `str` has no size of its own: {TEXT}"),
        ("Box", 1, [inner]) => {
            format!("a `Box` has its value in the memory of one process: {}", instead_of_pointing_at(inner))
        }
        ("Rc" | "Arc" | "Weak", 1, [inner]) => format!(
            "{a_name} counts its owners in one process: {}, and put the whole value into an `mp_shm::Shared`",
            instead_of_pointing_at(inner)
        ),
        ("Cow", 2, _) => "a `Cow` has its value in the memory of one process: use the value itself".to_owned(),
        ("NonNull" | "AtomicPtr", 1, [_]) => {
            format!("{a_name} is an address in one process: use an index into an array beside it")
        }
        ("Cell" | "RefCell" | "UnsafeCell", 1, [_]) => {
            format!("{a_name} works in one thread only: use an atomic, or `mp_sync::Mutex<{}>`", shown[0])
        }
        ("OnceCell" | "LazyCell" | "LazyLock", 1 | 2, [_, ..]) => {
            format!("{a_name} works inside one process only: use `mp_sync::OnceLock<{}>`", shown[0])
        }
        _ => return None,
    };
    Some(message)
}

/// What to use instead of a lock for threads.
fn lock(krate: &str, name: &str, arguments: &Arguments) -> Option<String> {
    let inner = arguments.types.first().map(|inner| format!("<{}>", display(inner)));
    let instead = match (name, &inner) {
        ("Mutex", Some(_)) => "Mutex",
        ("ReentrantMutex" | "ReentrantLock", Some(_)) => "ReentrantMutex",
        ("RwLock", Some(_)) => "RwLock",
        ("OnceLock" | "OnceCell", Some(_)) => "OnceLock",
        ("Condvar", None) => "Condvar",
        ("Barrier", None) => "Barrier",
        ("Semaphore", None) => "Semaphore",
        ("Once", None) => {
            return Some(format!("the `Once` of {krate} works inside one process only: use `mp_sync::OnceLock<()>`"));
        }
        _ => return None,
    };
    let inner = inner.unwrap_or_default();
    Some(format!("the `{name}` of {krate} works inside one process only: use `mp_sync::{instead}{inner}`"))
}
