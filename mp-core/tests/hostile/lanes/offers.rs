//! Offers, and what can be offered.

use rustix::net::SocketAddrUnix;

use super::*;

#[test]
fn a_lane_that_is_no_connected_stream_is_an_error() {
    scenario!(a_lane_that_is_no_connected_stream_is_an_error, {
        let attack = Attack::<ByteBuf>::new();
        let offer = packet(OFFER, 0, 0, 0, &[]);
        for way in WAYS {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            let (datagram, _datagram_peer) = sockets(SocketType::DGRAM);
            let (packets, _packets_peer) = sockets(SocketType::SEQPACKET);
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let remote = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
            let lanes = [
                ("/dev/null", null()),
                ("the reading end of a pipe", reader),
                ("the writing end of a pipe", writer),
                ("a memory file", memory(&[0; 64], ALL_SEALS)),
                ("datagrams", datagram),
                ("packets", packets),
                ("a listening TCP socket", tcp.into()),
                ("a TCP connection", remote.into()),
            ];
            for (what, lane) in &lanes {
                send(&attack.raw, &offer, &[lane.as_fd()]);
                let result = receive(&attack.receiver, way);
                assert!(matches!(result, Err(RecvError::Malformed(_))), "{what}, {way:?}: {result:?}");
            }
            let unconnected = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            let listening = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            rustix::net::bind(&listening, &SocketAddrUnix::new_unnamed()).unwrap();
            rustix::net::listen(&listening, 1).unwrap();
            for lane in [&unconnected, &listening] {
                send(&attack.raw, &offer, &[lane.as_fd()]);
                let result = receive(&attack.receiver, way);
                let refused = matches!(result, Err(RecvError::Malformed(_) | RecvError::Io(_) | RecvError::Truncated));
                assert!(refused, "{lane:?}, {way:?}: {result:?}");
            }
            drop((lanes, unconnected, listening, _datagram_peer, _packets_peer));
            attack.goes_on();
        }
    });
}

#[test]
fn an_offer_of_another_form_is_malformed_and_not_answered() {
    scenario!(an_offer_of_another_form_is_malformed_and_not_answered, {
        let attack = Attack::<ByteBuf>::new();
        // Flags, handles, length, body, and how many descriptors come.
        let cases: [(u8, u32, u64, &[u8], usize); 13] = [
            (0, 0, 0, &[], 0),
            (0, 0, 0, &[], 2),
            (0, 0, 0, &[], 253),
            (0, 1, 0, &[], 1),
            (0, 1, 0, &[], 2),
            (0, u32::MAX, 0, &[], 1),
            (RECEIPT, 0, 0, &[], 1),
            (RECEIPT, 0, 0, &[], 2),
            (BUNDLE, 0, 0, &[], 2),
            (4, 0, 0, &[], 1),
            (0, 0, 4, &[], 1),
            (0, 0, 0, &[1, 2, 3, 4], 1),
            (0, 0, 4, &[1, 2, 3, 4], 1),
        ];
        let handle = null();
        let offers = cases.map(|(flags, count, length, body, come)| (packet(OFFER, flags, count, length, body), come));
        let mut padded = [packet(OFFER, 0, 0, 0, &[]), packet(OFFER, 0, 0, 0, &[])];
        padded[0][2] = 1;
        padded[1][3] = 1;
        for (packet, come) in offers.into_iter().chain(padded.map(|packet| (packet, 1))) {
            for way in WAYS.map(Some).into_iter().chain([None]) {
                let (near, far) = sockets(SocketType::STREAM);
                let mut beside = vec![far.as_fd(); come.min(1)];
                beside.resize(come, handle.as_fd());
                let error = match way {
                    Some(way) => {
                        send(&attack.raw, &packet, &beside);
                        receive(&attack.receiver, way).unwrap_err()
                    }
                    None => attack.send(&packet, &beside),
                };
                assert!(matches!(error, RecvError::Malformed(_)), "{packet:?}, {come}, {way:?}: {error:?}");
                drop(far);
                assert_eq!(read(&near, &mut [0; 1]), Ok(0), "{packet:?}, {come}, {way:?} was answered");
            }
        }
        drop(handle);
        attack.goes_on();
    });
}

#[test]
fn who_has_a_deadline_declines_an_offer() {
    scenario!(who_has_a_deadline_declines_an_offer, {
        let attack = Attack::<ByteBuf>::new();
        for timeout in [Duration::ZERO, Duration::from_millis(1)] {
            let (near, far) = sockets(SocketType::STREAM);
            send(&attack.raw, &packet(OFFER, 0, 0, 0, &[]), &[far.as_fd()]);
            drop(far);
            assert!(attack.receiver.recv_timeout(timeout).unwrap().is_none());
            assert_eq!(read(&near, &mut [0; 1]), Ok(0));
            drop(near);
            attack.goes_on();
        }
    });
}
