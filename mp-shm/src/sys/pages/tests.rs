use std::fs::File;
use std::path::PathBuf;

use memmap2::MmapRaw;

use super::*;
use crate::sys::memfd;

const MEMINFO: &str = "MemTotal:       24683996 kB
MemFree:         1024000 kB
MemAvailable:    2000 kB
SwapCached:            0 kB
SwapTotal:             1000 kB
SwapFree:               500 kB
";

#[test]
fn what_the_machine_has_left_includes_swap() {
    assert_eq!(left_of_machine(MEMINFO), Some(2500 * 1024));
    assert_eq!(left_of_machine("MemAvailable: 7 kB\n"), Some(7 * 1024), "without swap");
    assert_eq!(left_of_machine("SwapFree: 1 kB\nMemAvailable: 18446744073709551615 kB"), Some(u64::MAX));
}

#[test]
fn what_says_nothing_of_memory_is_no_limit() {
    for text in [
        "",
        "MemTotal: 1 kB",
        "MemAvailable 1 kB",
        "MemAvailable: many kB",
        "MemAvailable: -1 kB",
        "MemAvailable: 7 MB",
    ] {
        assert_eq!(left_of_machine(text), None, "{text}");
    }
    assert_eq!(left_of_machine("MemAvailable: 7 kB\nSwapFree: some kB"), Some(7 * 1024));
}

/// The files of a system of control groups.
fn limit(cgroup: &str, files: &[(&str, &str)]) -> Option<u64> {
    let read = |path: &Path| {
        let (_, text) = files.iter().find(|(name, _)| path == Path::new(name))?;
        Some((*text).to_owned())
    };
    limit_of_groups(cgroup, read)
}

#[test]
fn the_least_limit_from_the_group_up_to_the_root_counts() {
    let files = [
        ("/sys/fs/cgroup/memory.max", "9000\n"),
        ("/sys/fs/cgroup/a/memory.max", "500\n"),
        ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
        ("/sys/fs/cgroup/a/b/c/memory.max", "7000\n"),
        ("/sys/fs/cgroup/other/memory.max", "1\n"),
    ];
    assert_eq!(limit("0::/a/b/c\n", &files), Some(500));
    assert_eq!(limit("0::/a/b/c\n", &files[2..]), Some(7000));
    assert_eq!(limit("0::/a/b\n", &files[2..]), None, "max is no limit");
    assert_eq!(limit("0::/\n", &files), Some(9000));
    assert_eq!(limit("0::/", &files), Some(9000));
}

#[test]
fn groups_of_the_first_version_have_a_place_of_their_own() {
    let files = [
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n"),
        ("/sys/fs/cgroup/a/memory.max", "1\n"),
    ];
    let cgroup = "12:cpu,cpuacct:/x\n5:memory:/a\n1:name=systemd:/a/b\n";
    assert_eq!(limit(cgroup, &files), Some(4096));
    assert_eq!(limit("5:hugetlb,memory:/\n", &files), Some(9_223_372_036_854_771_712));
    assert_eq!(limit("5:cpu:/a\n", &files), None, "it is of no controller of memory");
    // Both versions at once: each controller is in one of them.
    assert_eq!(limit("5:memory:/a\n0::/a\n", &files), Some(1));
}

#[test]
fn what_is_no_list_of_groups_is_no_limit() {
    let everywhere = |_: &Path| Some("1".to_owned());
    for text in ["", "\n\n", "0", "0:", "memory", "5:cpu:/a"] {
        assert_eq!(limit_of_groups(text, everywhere), None, "{text:?}");
    }
    for text in ["no number", "", "-1", "99999999999999999999999"] {
        assert_eq!(limit_of_groups("0::/a", |_| Some(text.to_owned())), None, "{text:?}");
    }
}

#[test]
fn groups_are_looked_for_below_their_root_alone() {
    let asked = std::cell::RefCell::new(Vec::new());
    // Joined as it is, an absolute path would take the place of the root.
    limit_of_groups("0:://a/b\n", |path| {
        asked.borrow_mut().push(path.to_owned());
        None
    });
    let asked: Vec<PathBuf> = asked.into_inner();
    assert!(!asked.is_empty() && asked.iter().all(|path| path.starts_with("/sys/fs/cgroup")), "{asked:?}");
}

#[test]
fn this_machine_has_some_memory() {
    assert!(most_available().is_some_and(|most| most > 1 << 20));
    assert!(size().is_power_of_two() && size() >= 4096);
}

/// How many bytes of the file are in memory.
fn resident(file: &File) -> u64 {
    use std::os::linux::fs::MetadataExt;
    file.metadata().unwrap().st_blocks() * 512
}

fn populated(size: usize) {
    let file = File::from(memfd::create(size as u64).unwrap());
    let mapping = MmapRaw::map_raw(&file).unwrap();
    assert!(resident(&file) == 0 || never_overcommits());
    match populate(&mapping, 0..mapping.len()) {
        Ok(()) => assert!(resident(&file) >= size as u64),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}"),
    }
}

#[test]
fn populating_brings_every_page_with_one_thread_or_several() {
    populated(STEP + size());
    populated(SEVERAL + STEP / 2);
}

#[test]
fn populating_what_cannot_be_written_is_an_error() {
    let file = File::from(memfd::create(size() as u64).unwrap());
    // Beyond the end of a file is no memory: touching it would be a SIGBUS.
    let mapping = memmap2::MmapOptions::new().len(8 * size()).map_raw(&file).unwrap();
    assert!(populate(&mapping, 0..mapping.len()).is_err());
}

#[test]
fn asking_for_huge_pages_changes_nothing_else() {
    let file = File::from(memfd::create(4 << 20).unwrap());
    let mapping = MmapRaw::map_raw(&file).unwrap();
    prefer_huge(&mapping);
    populate(&mapping, 0..mapping.len())
        .or_else(|error| if error.kind() == io::ErrorKind::Unsupported { Ok(()) } else { Err(error) })
        .unwrap();
    assert_eq!(mapping.len(), 4 << 20);
}
