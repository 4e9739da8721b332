use super::*;

fn credentials(key: &[u8]) -> Credentials {
    Credentials { key: key.into(), legacy: true }
}

fn modern(key: &[u8]) -> Credentials {
    Credentials { key: key.into(), legacy: false }
}

/// A listener that has sent its challenge, and that challenge.
fn listener(credentials: Credentials) -> (Handshake, Vec<u8>) {
    Handshake::listener(credentials).unwrap()
}

fn client(credentials: Credentials) -> Handshake {
    Handshake::client(credentials).unwrap()
}

/// What `hmac.new(key, message, digest).digest()` of Python gives.
fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn codes_are_those_of_python() {
    let (key, message) = (AuthKey::from(b"key"), b"message");
    let expected = [
        (Digest::Md5, "4e4748e62b463521f6775fbf921234b5"),
        (Digest::Sha256, "6e9ef29b75fffc5b7abae527d58fdadb2fe42e7219011976917343065f58ed4a"),
        (
            Digest::Sha384,
            "0fd3ae3237be98c64a075b7394989fc6789f31788fada42eada85ee6698bde2feae20b66271b67544b9062c773b2d86f",
        ),
    ];
    for (digest, code) in expected {
        assert_eq!(digest.sign(&key, message).unwrap(), hex(code), "{digest:?}");
        assert!(digest.verify(&key, message, &hex(code)).unwrap());
        assert!(!digest.verify(&key, message, &hex(code)[1..]).unwrap());
        assert!(!digest.verify(&key, b"messages", &hex(code)).unwrap());
    }
}

/// Takes the step of a side and gives its reply.
#[track_caller]
fn reply(handshake: &mut Handshake, message: &[u8]) -> Vec<u8> {
    let step = handshake.receive(message);
    assert!(!matches!(step.then, Then::Fail(_)));
    step.reply.unwrap()
}

#[track_caller]
fn failure(handshake: &mut Handshake, message: &[u8]) -> (Option<Vec<u8>>, AuthenticationError) {
    match handshake.receive(message) {
        Step { reply, then: Then::Fail(error) } => (reply, error),
        _ => panic!("it was accepted"),
    }
}

#[test]
fn two_sides_with_one_key_come_together() {
    let (mut listener, challenge) = listener(modern(b"key"));
    let mut client = client(modern(b"key"));
    let response = reply(&mut client, &challenge);
    assert!(response.starts_with(b"{sha256}"));
    assert_eq!((challenge.len(), response.len()), (11 + 8 + 40, 8 + 32));
    let welcome = reply(&mut listener, &response);
    assert_eq!(welcome, WELCOME);
    let challenge = reply(&mut client, &welcome);
    let response = reply(&mut listener, &challenge);
    let last = client.receive(&response);
    assert!(matches!(last.then, Then::Done));
    let last = listener.receive(&last.reply.unwrap());
    assert!(matches!(last, Step { reply: None, then: Then::Done }));
}

#[test]
fn another_key_is_refused_and_the_other_side_is_told() {
    let (mut listener, challenge) = listener(credentials(b"key"));
    let mut client = client(credentials(b"another"));
    let response = reply(&mut client, &challenge);
    let (verdict, error) = failure(&mut listener, &response);
    assert_eq!(verdict.as_deref(), Some(FAILURE));
    assert!(matches!(error, AuthenticationError::WrongKey));
    assert!(matches!(failure(&mut client, FAILURE), (None, AuthenticationError::Rejected)));
}

#[test]
fn a_listener_with_another_key_is_refused_by_the_client() {
    // One that welcomes everybody, and does not know the key.
    let mut client = client(credentials(b"key"));
    reply(&mut client, &[CHALLENGE, &[7; 20]].concat());
    let challenge = reply(&mut client, WELCOME);
    let guess = Digest::Sha256.sign(&AuthKey::from(b"another"), &challenge[CHALLENGE.len()..]).unwrap();
    let (verdict, error) = failure(&mut client, &[b"{sha256}", guess.as_slice()].concat());
    assert_eq!(verdict.as_deref(), Some(FAILURE));
    assert!(matches!(error, AuthenticationError::WrongKey));
}

#[test]
fn who_asks_in_the_old_way_is_answered_in_the_old_way() {
    let old = [CHALLENGE, &[7; 20]].concat();
    let response = reply(&mut client(credentials(b"key")), &old);
    assert_eq!(response, Digest::Md5.sign(&AuthKey::from(b"key"), &[7; 20]).unwrap());
    assert!(matches!(failure(&mut client(modern(b"key")), &old), (None, AuthenticationError::LegacyDigest)));
    let named = [CHALLENGE, b"{md5}", &[7; 40]].concat();
    assert!(reply(&mut client(credentials(b"key")), &named).starts_with(b"{md5}"));
    assert!(matches!(failure(&mut client(modern(b"key")), &named), (None, AuthenticationError::LegacyDigest)));
    let other = [CHALLENGE, b"{sha384}", &[7; 40]].concat();
    assert_eq!(reply(&mut client(modern(b"key")), &other).len(), 8 + 48);
}

#[test]
fn an_old_response_to_a_new_challenge_counts_unless_it_was_refused() {
    for (credentials, welcome) in [(credentials(b"key"), true), (modern(b"key"), false)] {
        let (mut listener, challenge) = listener(credentials);
        let response = Digest::Md5.sign(&AuthKey::from(b"key"), &challenge[CHALLENGE.len()..]).unwrap();
        if welcome {
            assert_eq!(reply(&mut listener, &response), WELCOME);
        } else {
            let (verdict, error) = failure(&mut listener, &response);
            assert_eq!(verdict.as_deref(), Some(FAILURE));
            assert!(matches!(error, AuthenticationError::LegacyDigest));
        }
    }
}

#[test]
fn a_challenge_of_the_same_side_of_this_process_is_not_answered() {
    // To one who has no key, two clients connect; he asks the second what the first asks him.
    let mut first = client(credentials(b"key"));
    reply(&mut first, &[CHALLENGE, &[7; 20]].concat());
    let question = reply(&mut first, WELCOME);
    let mut second = client(credentials(b"key"));
    assert!(matches!(failure(&mut second, &question), (None, AuthenticationError::Reflected)));
    // Also if it is dressed up.
    let mut second = client(credentials(b"key"));
    let dressed = [CHALLENGE, b"{sha384}", &question[question.len() - 40..]].concat();
    assert!(matches!(failure(&mut second, &dressed), (None, AuthenticationError::Reflected)));
    // A client that has the key, and gives the listener its own challenge back.
    let (mut listener, question) = listener(credentials(b"key"));
    let response = reply(&mut client(credentials(b"key")), &question);
    assert_eq!(reply(&mut listener, &response), WELCOME);
    assert!(matches!(failure(&mut listener, &question), (None, AuthenticationError::Reflected)));
}

#[test]
fn a_challenge_is_forgotten_with_its_handshake() {
    let (listener, question) = listener(credentials(b"key"));
    let asked = question[CHALLENGE.len()..].to_vec();
    assert!(Challenge::is_reflected(Role::Listener, &asked));
    assert!(!Challenge::is_reflected(Role::Client, &asked));
    drop(listener);
    assert!(!Challenge::is_reflected(Role::Listener, &asked));
}

#[test]
fn what_has_no_place_in_a_handshake_ends_it() {
    let problems: [&[u8]; 9] = [
        b"",
        b"{",
        b"}",
        b"{}",
        b"{sha256",
        b"{sha256}",
        b"{sha1}0123456789012345678901234567890123456789",
        b"#CHALLENGE#",
        b"#CHALLENGE#{sha3_256}0123456789012345678901234567890123456789",
    ];
    for problem in problems {
        let (verdict, error) = failure(&mut listener(credentials(b"key")).0, problem);
        assert_eq!(verdict.as_deref(), Some(FAILURE));
        let wrong = problem == b"{sha256}";
        assert!(matches!(error, AuthenticationError::WrongKey) == wrong, "{error:?}");
        assert!(wrong || matches!(error, AuthenticationError::Protocol(_)), "{error:?}");
        let (nothing, error) = failure(&mut client(credentials(b"key")), problem);
        assert_eq!(nothing, None);
        assert!(matches!(error, AuthenticationError::Protocol(_)), "{error:?}");
    }
    // A challenge of no more than the digest's name would have this side sign the same for everyone.
    let short = [CHALLENGE, b"{sha256}", &[7; 11]].concat();
    assert!(matches!(failure(&mut client(credentials(b"key")), &short), (None, AuthenticationError::Protocol(_))));
    let mut waits = client(credentials(b"key"));
    reply(&mut waits, &[CHALLENGE, &[7; 20]].concat());
    assert!(matches!(failure(&mut waits, b"#WELCOME"), (None, AuthenticationError::Protocol(_))));
}

#[test]
fn an_empty_key_is_refused() {
    assert!(Credentials::new(Some(b"".into()), true).is_err());
    assert!(Credentials::new(Some(b"k".into()), true).unwrap().is_some());
    assert!(Credentials::new(None, true).unwrap().is_none());
}
