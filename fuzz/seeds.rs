//! Writes the inputs that fuzzing begins with, made by honest senders: `seeds CORPUS`, the folder
//! that holds one for each target.

use std::fs;
use std::io;
use std::path::Path;

use mp_core::__fuzzing::{Report, Start, encode};
use mp_core::raw::{Message, Outcome};
use mp_core::{duplex, pipe};
use mp_fuzz::descriptors::pair;
use mp_fuzz::values::{Handles, Opened, echo, samples};
use rustix::net::SocketType;
use serde::Serialize;
use serde_bytes::ByteBuf;

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1).ok_or(io::ErrorKind::InvalidInput)?;
    let mut seeds = Seeds { folder: Path::new(&folder), count: 0 };
    for target in ["codec", "packet", "manager"] {
        fs::create_dir_all(seeds.folder.join(target))?;
    }
    for value in samples() {
        seeds.add(0, &value, &[])?;
        seeds.add(2, &Message::encode(&value).map_err(io::Error::other)?, &[])?;
        let call = || echo::call(value.clone(), ByteBuf::from(vec![1; 40])).encode().map_err(io::Error::other);
        seeds.add(6, &call()?, &[])?;
        let start = Start::new(Some("seed".to_owned()), call()?, rustix::pipe::pipe()?.0, Some(b"program".to_vec()));
        seeds.add(3, &start, &[1])?;
        seeds.add(4, &Report::from(call()?.run()), &[])?;
    }
    seeds.add(4, &Report::from(Outcome::UnknownFunction("nobody".to_owned())), &[])?;
    seeds.add(5, &vec![(1_u32, Some("one")), (2, None)], &[])?;
    let file = || Ok::<_, io::Error>(Opened(fs::File::open("/dev/null")?.into()));
    seeds.add(1, &Handles::File(file()?), &[0])?;
    seeds.add(1, &Handles::Files(vec![file()?, file()?, file()?]), &[0, 0, 0])?;
    seeds.add(1, &Handles::Sender(pipe()?.0), &[6])?;
    seeds.add(1, &Handles::Receiver(Some(pipe()?.1)), &[6])?;
    seeds.add(1, &Handles::Connection { first: duplex()?.0, rest: Box::new(Handles::File(file()?)) }, &[6, 0])?;
    seeds.add(1, &Handles::Message(Message::encode(&file()?).map_err(io::Error::other)?), &[0])?;
    let (near, _far) = pair(SocketType::SEQPACKET);
    seeds.add(1, &Handles::File(Opened(near)), &[5])?;
    seeds.sealed(b"\x05\0\0\0\0\0\0\0hello")?;
    seeds.requests()?;
    println!("{} seeds for each target", seeds.count);
    Ok(())
}

struct Seeds<'a> {
    folder: &'a Path,
    count: usize,
}

impl Seeds<'_> {
    /// One for each target: the value as type number `kind`, with descriptors of these kinds.
    fn add<T: Serialize>(&mut self, kind: u8, value: &T, beside: &[u8]) -> io::Result<()> {
        let (body, handles) = encode(value).map_err(io::Error::other)?;
        assert_eq!(handles.len(), beside.len(), "each handle has a kind");
        let count = beside.len() as u8;
        self.write("codec", &[&[kind, count], beside, &body].concat())?;
        let mut packet = vec![0; 4];
        packet.extend(u32::from(count).to_le_bytes());
        packet.extend((body.len() as u64).to_le_bytes());
        packet.extend(body);
        let length = (packet.len() as u16).to_le_bytes();
        // Twice, the second time with a header that says the truth whatever becomes of the packet.
        let honest = [&[0x80 | count], beside, &length, &packet].concat();
        let kind = if kind > 4 { 0 } else { kind };
        self.write("packet", &[&[kind, count], beside, &length, &packet, &honest].concat())
    }

    /// A body in a memory file, a bundle, and a receipt.
    fn sealed(&mut self, body: &[u8]) -> io::Result<()> {
        let memory = [&[3, body.len() as u8, 0, 1, 0], body].concat();
        let header = |kind, flags, handles| [[kind, flags, 0, 0, handles, 0, 0, 0], [0; 8]].concat();
        for kind in [5, 6, 7] {
            let plain = [&[kind, 0x81][..], &memory, &[16, 0], &header(1, 0, 0)].concat();
            self.write("packet", &plain)?;
            let receipt = [&[kind, 0x82][..], &memory, &[2], &[16, 0], &header(1, 2, 0)].concat();
            self.write("packet", &receipt)?;
        }
        let bundle = [11, 2, 2, 1, 1, 1];
        // The files of `Handles::Files`.
        let body = [&[1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0][..], &[0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]].concat();
        let packet = [&header(0, 1, 3)[..], &body].concat();
        self.write("packet", &[&[1, 0x81][..], &bundle, &[packet.len() as u8, 0], &packet].concat())
    }

    /// One request of each kind for each of the first objects, with nothing in it.
    fn requests(&self) -> io::Result<()> {
        for kind in 0..48_u32 {
            let requests = (0..10_u64).map(|object| {
                let body = [&1_u64.to_le_bytes()[..], &[object as u8 + 1, 0, 0, 0, 0, 0, 0, 0], &object.to_le_bytes()];
                let body = [&body.concat()[..], &kind.to_le_bytes(), &[0; 32]].concat();
                [&[0, body.len() as u8, 0][..], &body].concat()
            });
            let path = self.folder.join("manager").join(format!("seed-{kind}"));
            fs::write(path, requests.collect::<Vec<_>>().concat())?;
        }
        Ok(())
    }

    fn write(&mut self, target: &str, seed: &[u8]) -> io::Result<()> {
        self.count += usize::from(target == "packet");
        fs::write(self.folder.join(target).join(format!("seed-{:03}-{}", self.count, seed[0])), seed)
    }
}
