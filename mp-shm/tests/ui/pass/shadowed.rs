//! What the output uses is not what the user's names say.

#![allow(non_camel_case_types, dead_code, non_upper_case_globals, non_snake_case)]

struct Layout;
struct Type;
struct Sized;
struct Drop;
struct Option;
struct None;
struct Some;
struct u64;
struct i128;
struct isize;
const discriminant: ::core::primitive::u8 = 4;
const LAYOUT: ::core::primitive::u8 = 5;
const value: ::core::primitive::u8 = 6;
fn identity() {}

mod core {}
mod std {}
mod mp_sync {}

trait ShmSafe {
    const LAYOUT: ::core::primitive::u8 = 0;
    fn with(&self) {}
    fn digest(&self) {}
}
impl<T> ShmSafe for T {}
trait Zeroable {}
trait AnyBits {}

#[derive(::mp_shm::ShmSafe)]
#[shm_safe(invariants)]
struct Fields<T, const discriminator: ::core::primitive::usize> {
    LAYOUT: [T; discriminator],
    discriminant: ::core::primitive::u64,
}

#[derive(::mp_shm::ShmSafe)]
#[repr(u8)]
enum Variants {
    None = discriminant,
    Some(::core::primitive::u8) = LAYOUT,
}

#[derive(::mp_shm::ShmSafe)]
struct Parts;

#[derive(::mp_shm::ShmSafe)]
struct Nothing(Parts);

#[derive(::mp_shm::ShmSafe)]
enum Never {}

/// Types of one's own by names that std has.
mod own {
    use mp_shm::ShmSafe;

    #[derive(ShmSafe, Clone, Copy)]
    pub(crate) enum Cell {
        Dead,
        Alive,
    }

    #[derive(ShmSafe)]
    pub(crate) struct Vec<T, const N: usize> {
        elements: [T; N],
    }

    #[derive(ShmSafe)]
    pub(crate) struct Box<T>(T);

    #[derive(ShmSafe)]
    pub(crate) struct Mutex {
        one: self::Box<u8>,
    }

    #[derive(ShmSafe)]
    pub(crate) struct Game {
        cells: [Cell; 4],
        some: Vec<Cell, 4>,
        lock: Mutex,
    }
}

#[derive(::mp_shm::ShmSafe)]
struct Games {
    one: own::Box<own::Game>,
    two: own::Vec<own::Game, 2>,
}

#[test]
fn it_works() {
    fn is_shm_safe<T: ::mp_shm::ShmSafe>() {}
    is_shm_safe::<Fields<::core::primitive::u8, 3>>();
    is_shm_safe::<Games>();
    let (four, five) = (Variants::None, Variants::Some(1));
    assert!(matches!((four, five), (Variants::None, Variants::Some(1))));
    is_shm_safe::<Variants>();
    fn is_zeroable<T: ::mp_shm::Zeroable>() {}
    is_zeroable::<Nothing>();
}
