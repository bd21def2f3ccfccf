//! The abi's codec, both ways: whatever bytes come are a message or an error, and what was decoded or
//! made is encoded to what decodes to the same.

#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use sandgrain_abi::Encode;
use sandgrain_abi::message::{Boot, Command, HostReply, Request};
use sandgrain_abi::types::ModuleInfo;
use sandgrain_fuzz::{bytes_of, command, noise, reply, request, write_seeds};
use std::fmt::Debug;

/// Bytes as a message, and back.
fn decode<T: Encode + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = T::decode_from(bytes) {
        let again = bytes_of(&message);
        // Not always the same bytes: where only the heap type of a reference matters, another
        // nullability is ignored.
        assert_eq!(again.len(), bytes.len(), "{message:?}");
        assert_eq!(T::decode_from(&again).as_ref(), Ok(&message));
    }
}

/// A message as bytes, and back; and with a byte too few or too many it is none.
fn encode<T: Encode + PartialEq + Debug>(message: arbitrary::Result<T>) {
    if let Ok(message) = message {
        let mut bytes = bytes_of(&message);
        assert_eq!(T::decode_from(&bytes).as_ref(), Ok(&message));
        assert!(T::decode_from(&bytes[..bytes.len() - 1]).is_err(), "{message:?}");
        bytes.push(0);
        assert!(T::decode_from(&bytes).is_err(), "{message:?}");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let seed = |number| {
        let noise = noise(number, 256);
        let mut u = Unstructured::new(&noise);
        let message = match number % 8 {
            1 => command(&mut u).map(|message| bytes_of(&message)),
            2 => request(&mut u).map(|message| bytes_of(&message)),
            3 => reply(&mut u).map(|message| bytes_of(&message)),
            _ => Ok(noise),
        };
        message.map(|bytes| [vec![number as u8], bytes].concat()).unwrap_or_default()
    };
    (0..128).map(seed).collect()
}

fuzz_target!(init: write_seeds(seeds), |data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    let mut u = Unstructured::new(bytes);
    match kind % 8 {
        0 => decode::<Boot>(bytes),
        1 => decode::<Command>(bytes),
        2 => decode::<Request>(bytes),
        3 => decode::<HostReply>(bytes),
        4 => decode::<ModuleInfo>(bytes),
        5 => encode(command(&mut u)),
        6 => encode(request(&mut u)),
        _ => encode(reply(&mut u)),
    }
});
