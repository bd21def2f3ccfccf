//! The one unsafe call of this crate: wasmtime has no other way to name CPU features for a target.
#![allow(unsafe_code)]

use wasmtime::Config;

/// What can be used: the hypervisor's name of a CPU feature, and the code generator's flag for it.
/// In this order features are listed everywhere. A hypervisor offers many more, which no generated
/// code uses.
const FLAGS: [(&str, &str); 19] = [
    ("sse3", "has_sse3"),
    ("ssse3", "has_ssse3"),
    ("sse41", "has_sse41"),
    ("sse42", "has_sse42"),
    ("popcnt", "has_popcnt"),
    ("cmpxchg16b", "has_cmpxchg16b"),
    ("lzcnt", "has_lzcnt"),
    ("bmi1", "has_bmi1"),
    ("bmi2", "has_bmi2"),
    ("fma", "has_fma"),
    ("avx", "has_avx"),
    ("avx2", "has_avx2"),
    ("avxvnni", "has_avx_vnni"),
    ("avx512f", "has_avx512f"),
    ("avx512dq", "has_avx512dq"),
    ("avx512vl", "has_avx512vl"),
    ("avx512bitalg", "has_avx512bitalg"),
    ("avx512vbmi", "has_avx512vbmi"),
    ("avx512vnni", "has_avx512vnni"),
];

/// The features among `names` that generated code can use, each once, in a fixed order.
pub(crate) fn usable(names: &[String]) -> Vec<String> {
    let wanted = FLAGS.iter().map(|(name, _)| (*name).to_owned());
    wanted.filter(|name| names.contains(name)).collect()
}

/// Lets generated code use the CPU features among `names` that it can use.
pub(crate) fn enable(config: &mut Config, names: &[String]) {
    for (name, flag) in FLAGS {
        if names.iter().any(|candidate| candidate == name) {
            // SAFETY: a wrong flag could break what the engine relies on; all flags of this table
            // only allow an instruction set. Code with instructions that a CPU lacks never runs in
            // process: the engine compares these very flags with the CPU before it loads code.
            unsafe { config.cranelift_flag_enable(flag) };
        }
    }
}
