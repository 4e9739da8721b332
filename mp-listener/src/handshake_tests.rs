use super::*;

fn credentials(key: &[u8], legacy: bool) -> Credentials {
    Credentials { key: key.into(), legacy }
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

/// The response of a client to a challenge.
fn respond(credentials: &Credentials, challenge: &[u8]) -> Result<Vec<u8>, AuthenticationError> {
    credentials.respond(Role::Client, &[CHALLENGE, challenge].concat())
}

#[test]
fn the_right_key_is_accepted_and_no_other() {
    let (key, another) = (credentials(b"key", false), credentials(b"another", false));
    let challenge = Challenge::new(Role::Listener).unwrap().message();
    let response = respond(&key, &challenge).unwrap();
    assert!(challenge.starts_with(b"{sha256}") && response.starts_with(b"{sha256}"));
    assert_eq!((challenge.len(), response.len()), (8 + 40, 8 + 32));
    key.verify(&challenge, &response).unwrap();
    assert!(matches!(another.verify(&challenge, &response), Err(AuthenticationError::WrongKey)));
    let next = Challenge::new(Role::Listener).unwrap().message();
    assert!(matches!(key.verify(&next, &response), Err(AuthenticationError::WrongKey)));
}

#[test]
fn a_peer_that_names_no_digest_is_answered_with_md5_unless_that_is_refused() {
    let (legacy, modern) = (credentials(b"key", true), credentials(b"key", false));
    let old = Digest::Md5.sign(&legacy.key, &[7; 20]).unwrap();
    assert_eq!(respond(&legacy, &[7; 20]).unwrap(), old);
    let named = [&b"{md5}"[..], &[7; 40]].concat();
    assert!(respond(&legacy, &named).unwrap().starts_with(b"{md5}"));
    for challenge in [&[7; 20][..], &named] {
        assert!(matches!(respond(&modern, challenge), Err(AuthenticationError::LegacyDigest)));
    }
    let other = [&b"{sha384}"[..], &[7; 40]].concat();
    assert_eq!(respond(&modern, &other).unwrap().len(), 8 + 48);

    // An old response to a new challenge.
    let challenge = Challenge::new(Role::Listener).unwrap().message();
    let response = Digest::Md5.sign(&legacy.key, &challenge).unwrap();
    legacy.verify(&challenge, &response).unwrap();
    assert!(matches!(modern.verify(&challenge, &response), Err(AuthenticationError::LegacyDigest)));
}

#[test]
fn a_challenge_of_the_same_side_of_this_process_is_not_answered_until_it_is_forgotten() {
    let key = credentials(b"key", true);
    for (role, other) in [(Role::Listener, Role::Client), (Role::Client, Role::Listener)] {
        let challenge = Challenge::new(role).unwrap();
        let question = [CHALLENGE, &challenge.message()].concat();
        // The second one names another digest.
        let dressed = [CHALLENGE, b"{sha384}", &question[question.len() - 40..]].concat();
        for question in [&question, &dressed] {
            assert!(matches!(key.respond(role, question), Err(AuthenticationError::Reflected)));
            key.respond(other, question).unwrap();
        }
        drop(challenge);
        key.respond(role, &question).unwrap();
    }
}

#[test]
fn what_is_not_part_of_a_handshake_is_refused() {
    let key = credentials(b"key", true);
    let problems: [&[u8]; 8] = [
        b"",
        b"{",
        b"}",
        b"{}",
        b"{sha256",
        b"{sha1}0123456789012345678901234567890123456789",
        b"#CHALLENGE#",
        b"#CHALLENGE#{sha3_256}0123456789012345678901234567890123456789",
    ];
    for problem in problems {
        let error = key.verify(b"challenge", problem).unwrap_err();
        assert!(matches!(error, AuthenticationError::Protocol(_)), "{error:?}");
        let error = key.respond(Role::Client, problem).unwrap_err();
        assert!(matches!(error, AuthenticationError::Protocol(_)), "{error:?}");
    }
    assert!(matches!(key.verify(b"challenge", b"{sha256}"), Err(AuthenticationError::WrongKey)));
    // Signing a challenge that is hardly more than the digest's name would give every peer the same
    // response.
    let short = [&b"{sha256}"[..], &[7; 11]].concat();
    assert!(matches!(respond(&key, &short), Err(AuthenticationError::Protocol(_))));
}

#[test]
fn an_empty_key_is_refused() {
    assert!(Credentials::new(Some(b"".into()), true).is_err());
    assert!(Credentials::new(Some(b"k".into()), true).unwrap().is_some());
    assert!(Credentials::new(None, true).unwrap().is_none());
}
