//! Sealed texts: nobody makes one without the key, one opens whole, for its purpose and to what was sealed, and any
//! change of it never opens.
//!
//! Input: 32 bytes of key, 2 that say which bit flips and where it is cut, then the text: as an id that somebody sends,
//! as the plain text of a seal, and, if it is long enough, as the fields of a ticket.
#![no_main]

use corelane::shard::seal::{NONCE_BYTES, Purpose, Sealer};
use corelane::shard::session::SessionTicket;
use libfuzzer_sys::fuzz_target;

const PURPOSES: [Purpose; 4] = [Purpose::Session, Purpose::State, Purpose::Task, Purpose::Stream];
/// Nonce and tag.
const SEAL_BYTES: usize = NONCE_BYTES + 16;

fuzz_target!(|input: &[u8]| {
    let Some((key, [flip, cut, text @ ..])) = input.split_first_chunk::<32>() else { return };
    let mut sealer = Sealer::new(key, [*cut; NONCE_BYTES]);
    for purpose in PURPOSES {
        assert_eq!(sealer.open(purpose, text), None, "whoever made this has no key");
    }
    assert_eq!(SessionTicket::open(&sealer, text), None);

    let purpose = PURPOSES[usize::from(*flip) % PURPOSES.len()];
    let sealed = sealer.seal(purpose, text);
    check(&sealer, purpose, &sealed, text, *flip, *cut);
    assert_ne!(sealer.seal(purpose, text), sealed, "no nonce is used twice");
    let mut stranger = *key;
    stranger[usize::from(*cut) % 32] ^= 1 << (flip % 8);
    assert_eq!(Sealer::new(&stranger, [*cut; NONCE_BYTES]).open(purpose, sealed.as_bytes()), None, "another key");

    // Even a text of ours is a ticket only if it is one to the byte.
    let odd = sealer.seal(Purpose::Session, text);
    if let Some(ticket) = SessionTicket::open(&sealer, odd.as_bytes()) {
        let again = ticket.seal(&mut sealer);
        assert_eq!(sealer.open(Purpose::Session, again.as_bytes()).as_deref(), Some(text));
    }

    let Some(ticket) = SessionTicket::read(&mut &*text) else { return };
    let id = ticket.seal(&mut sealer);
    assert_eq!(SessionTicket::open(&sealer, id.as_bytes()), Some(ticket));
    let plain = sealer.open(Purpose::Session, id.as_bytes()).expect("just sealed");
    check(&sealer, Purpose::Session, &id, &plain, *flip, *cut);
    let other = SessionTicket { boot: ticket.boot ^ 1, ..ticket }.seal(&mut sealer);
    assert_ne!(SessionTicket::open(&sealer, other.as_bytes()), Some(ticket));
});

fn check(sealer: &Sealer, purpose: Purpose, sealed: &str, plain: &[u8], flip: u8, cut: u8) {
    assert!(sealed.bytes().all(|byte| byte.is_ascii_graphic()), "it has to fit in a header and a path");
    assert_eq!(sealed.len(), ((plain.len() + SEAL_BYTES) * 4).div_ceil(3));
    assert_eq!(sealer.open(purpose, sealed.as_bytes()).as_deref(), Some(plain));
    for other in PURPOSES.into_iter().filter(|other| *other != purpose) {
        assert_eq!(sealer.open(other, sealed.as_bytes()), None);
    }
    // One place near either end, where it is decoded by another path, and one that the input chooses.
    let (bit, last) = (flip % 8, sealed.len() - 1);
    for place in [0, last, last - 1, usize::from(cut) * 257 % sealed.len()] {
        let mut forged = sealed.as_bytes().to_vec();
        forged[place] ^= 1 << bit;
        assert_eq!(sealer.open(purpose, &forged), None, "bit {bit} of byte {place}");
    }
    let end = usize::from(cut) * 257 % sealed.len();
    assert_eq!(sealer.open(purpose, &sealed.as_bytes()[..end]), None, "cut at {end}");
    assert_eq!(sealer.open(purpose, &sealed.as_bytes()[end + 1..]), None, "without its first {end}");
    for more in [b"A".as_slice(), b"AA", b"=", b"\n", b" ", b"AAAA"] {
        assert_eq!(sealer.open(purpose, &[sealed.as_bytes(), more].concat()), None, "lengthened by {more:?}");
        assert_eq!(sealer.open(purpose, &[more, sealed.as_bytes()].concat()), None, "after {more:?}");
    }
}
