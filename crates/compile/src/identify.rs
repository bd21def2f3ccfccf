//! Telling kinds of input apart by their first bytes.

/// The first bytes of an artifact. The line ends show damage by programs that translate them.
pub(crate) const MAGIC: [u8; 8] = *b"SGM\0\r\n\x1a\n";

const WASM_MAGIC: &[u8] = b"\0asm";

/// The version of components' binary format. It stays before 1 until the format is final.
pub(crate) const COMPONENT_VERSION: u16 = 13;

/// What bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A WebAssembly module in binary format, of whatever version.
    Module,
    /// A WebAssembly component in binary format, of whatever version.
    Component,
    /// One of this crate's artifacts.
    Artifact,
    /// WebAssembly's text format, a module or a component.
    Wat,
    /// Anything else.
    Unknown,
}

/// Tells what bytes look like. Cheap: the binary formats are known by their first eight bytes, and
/// that the rest is valid is not checked.
#[must_use]
pub fn identify(bytes: &[u8]) -> Kind {
    if bytes.starts_with(&MAGIC) {
        return Kind::Artifact;
    }
    if bytes.starts_with(WASM_MAGIC) {
        return match header(bytes) {
            Some((_, 1)) => Kind::Component,
            _ => Kind::Module,
        };
    }
    match wat::Detect::from_bytes(bytes) {
        wat::Detect::WasmText => Kind::Wat,
        _ => Kind::Unknown,
    }
}

/// The version and the layer (0: module, 1: component) in the header of the binary format.
pub(crate) fn header(bytes: &[u8]) -> Option<(u16, u16)> {
    match bytes.get(4..8)? {
        [v0, v1, l0, l1] => Some((u16::from_le_bytes([*v0, *v1]), u16::from_le_bytes([*l0, *l1]))),
        _ => None,
    }
}

/// Words for bytes of no kind, for the message that refuses them.
pub(crate) fn describe(bytes: &[u8]) -> String {
    let known: [(&[u8], &str); 6] = [
        (b"\x7fELF", "an ELF file (a native program, or code compiled by another tool)"),
        (b"\x1f\x8b", "gzip-compressed data"),
        (b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
        (b"PK\x03\x04", "a zip archive"),
        (b"<", "markup (an error page?)"),
        (b"BC\xc0\xde", "LLVM bitcode"),
    ];
    if bytes.is_empty() {
        return "no bytes at all".to_owned();
    }
    if let Some((_, name)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return (*name).to_owned();
    }
    if WASM_MAGIC.starts_with(bytes) || MAGIC.starts_with(bytes) {
        return format!("only the first {} bytes of a header", bytes.len());
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => "text that does not begin with `(`".to_owned(),
        Err(_) => {
            let start: Vec<String> = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
            format!("data that begins with {}", start.join(" "))
        }
    }
}
