//! What two processes have to agree on before they share a value in place.

/// The layout of a type in memory: a digest of its structure, and whether it contains locks.
///
/// A memory segment contains the layout of its values. A process that attaches it as another type,
/// or as another version of the type, gets an error. [`derive(ShmSafe)`](derive@crate::ShmSafe)
/// makes the layout. If you implement [`ShmSafe`](trait@crate::ShmSafe) by hand, begin with
/// [`Layout::of`].
///
/// # Examples
///
/// An implementation by hand:
///
/// ```
/// use std::sync::atomic::AtomicU64;
///
/// use mp_shm::{Layout, ShmSafe, Shared, Zeroable};
///
/// /// Two counts in one word: the lower half, and the upper one.
/// pub struct Pair(AtomicU64);
///
/// // SAFETY: it is an atomic and nothing else.
/// unsafe impl ShmSafe for Pair {
///     // Another version of it would have another name.
///     const LAYOUT: Layout = Layout::of::<Self>("example.pair.v1");
/// }
///
/// // SAFETY: zeros are two counts of 0.
/// unsafe impl Zeroable for Pair {}
///
/// let pair = Shared::<Pair>::zeroed()?;
/// # assert_eq!(pair.0.load(std::sync::atomic::Ordering::Relaxed), 0);
/// assert_ne!(Pair::LAYOUT.digest(), AtomicU64::LAYOUT.digest());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    digest: u64,
    locks: bool,
}

/// A variant of an enum: its name, its explicit discriminant, and its fields.
type Variant<'a> = (&'a str, Option<i128>, &'a [(&'a str, Layout)]);

impl Layout {
    /// Returns a layout that identifies `T` by `name`, its size and its alignment. The name has to
    /// change when the meaning of the bytes changes.
    pub const fn of<T>(name: &str) -> Self {
        Self { digest: Digest::of::<T>().text(name).0, locks: false }
    }

    /// Returns the same layout, for a type that contains a lock of `mp-sync` which no field of the
    /// layout shows.
    #[must_use]
    pub const fn locks(self) -> Self {
        Self { locks: true, ..self }
    }

    /// Tells whether the type contains a lock whose owner's death the kernel reports. Such a value
    /// cannot be lent mutably in shared memory: it could be replaced while a thread holds the lock,
    /// and at the end of that thread the kernel would write where the lock was.
    pub const fn has_locks(self) -> bool {
        self.locks
    }

    /// Returns the layout for a value that is lent mutably.
    ///
    /// # Panics
    ///
    /// If it has locks. In a constant, that is an error of compilation.
    #[must_use]
    pub(crate) const fn lent(self) -> Self {
        assert!(
            !self.locks,
            "a value with a lock in it cannot be lent mutably in shared memory: put the lock beside what it \
             does not protect, not inside another lock"
        );
        self
    }

    /// Returns the digest of the type's structure, by which segments are compared.
    pub const fn digest(self) -> u64 {
        self.digest
    }

    /// Returns the same layout with a number in its digest that distinguishes the type from others,
    /// such as a version, the value of a const parameter, or the digest of a type parameter that no
    /// field contains.
    #[must_use]
    pub const fn with(self, number: u64) -> Self {
        Self { digest: Digest(self.digest).number(number).0, ..self }
    }

    /// Returns the layout of a struct or a tuple `T`, from its fields with their names and offsets.
    pub const fn structure<T>(name: &str, fields: &[(&str, usize, Self)]) -> Self {
        let mut digest = Digest::of::<T>().text("struct").text(name).number(fields.len() as u64);
        let mut locks = false;
        let mut index = 0;
        while index < fields.len() {
            let (field, offset, layout) = fields[index];
            digest = digest.text(field).number(offset as u64).number(layout.digest);
            locks |= layout.locks;
            index += 1;
        }
        Self { digest: digest.0, locks }
    }

    /// Returns the layout of an enum `T`, from the name of each variant, its discriminant unless
    /// that is one more than the previous one, and its fields with their names.
    ///
    /// `tagged` means that the discriminant is stored at the beginning, as with `#[repr(u8)]` or
    /// `#[repr(C)]`.
    pub const fn enumeration<T>(name: &str, tagged: bool, variants: &[Variant]) -> Self {
        let mut digest = Digest::of::<T>().text("enum").text(name).number(tagged as u64).number(variants.len() as u64);
        let mut locks = false;
        let mut next: i128 = 0;
        let mut index = 0;
        while index < variants.len() {
            let (variant, explicit, fields) = variants[index];
            let discriminant = if let Some(explicit) = explicit { explicit } else { next };
            next = discriminant.wrapping_add(1);
            digest = digest.text(variant).number(discriminant as u64).number(fields.len() as u64);
            let mut field = 0;
            while field < fields.len() {
                let (field_name, layout) = fields[field];
                digest = digest.text(field_name).number(layout.digest);
                locks |= layout.locks;
                field += 1;
            }
            index += 1;
        }
        Self { digest: digest.0, locks }
    }

    /// Returns the layout of a `T` that consists of `count` values of another layout.
    pub(crate) const fn array<T>(element: Self, count: usize) -> Self {
        Self { digest: Digest::of::<T>().text("[]").number(element.digest).number(count as u64).0, ..element }
    }

    /// Returns the layout of a `T` that wraps a value of another layout.
    pub(crate) const fn around<T>(name: &str, inner: Self) -> Self {
        let digest = Digest::of::<T>().text(name).number(inner.digest);
        Self { digest: digest.0, locks: inner.locks }
    }
}

/// [FNV-1a](https://datatracker.ietf.org/doc/html/draft-eastlake-fnv), which can be computed in a
/// constant. It detects mistakes, not attacks.
#[derive(Clone, Copy)]
struct Digest(u64);

impl Digest {
    const fn of<T>() -> Self {
        Self(0xcbf2_9ce4_8422_2325).number(size_of::<T>() as u64).number(align_of::<T>() as u64)
    }

    const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }

    const fn number(self, number: u64) -> Self {
        let bytes = number.to_le_bytes();
        let mut digest = self;
        let mut index = 0;
        while index < bytes.len() {
            digest = digest.byte(bytes[index]);
            index += 1;
        }
        digest
    }

    const fn text(self, text: &str) -> Self {
        // Includes the length, so that two texts with the same bytes but another boundary differ.
        let mut digest = self.number(text.len() as u64);
        let mut index = 0;
        while index < text.len() {
            digest = digest.byte(text.as_bytes()[index]);
            index += 1;
        }
        digest
    }
}
