//! What a guest's CPU can do.

use std::fmt;

macro_rules! features {
    ($($name:ident $bit:literal $what:literal)*) => {
        /// What a guest's CPU can do, beyond what every 64-bit x86 CPU can.
        ///
        /// A set of named features. A name and its bit mean the same in every version of this crate,
        /// so that they can be part of the key of compiled code or of a snapshot.
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        pub struct CpuFeatures(u64);

        impl CpuFeatures {
            /// Every feature's name and bit.
            const ALL: &[(&str, u32)] = &[$((stringify!($name), $bit)),*];

            $(
                #[doc = $what]
                pub fn $name(&self) -> bool {
                    self.0 & (1 << $bit) != 0
                }
            )*
        }
    };
}

// Append only: bits and names are part of keys on disk.
features! {
    sse3 0 "SSE3."
    ssse3 1 "SSSE3."
    sse41 2 "SSE4.1."
    sse42 3 "SSE4.2."
    popcnt 4 "`popcnt`."
    cmpxchg16b 5 "`cmpxchg16b`."
    lzcnt 6 "`lzcnt`."
    bmi1 7 "BMI1."
    bmi2 8 "BMI2."
    xsave 9 "XSAVE. Every feature with wider registers than SSE's counts only together with it."
    avx 10 "AVX."
    avx2 11 "AVX2."
    fma 12 "FMA3."
    avxvnni 13 "AVX-VNNI."
    avx512f 14 "AVX-512 Foundation."
    avx512vl 15 "AVX-512 on short vectors."
    avx512dq 16 "AVX-512 on double and quad words."
    avx512bw 17 "AVX-512 on bytes and words."
    avx512bitalg 18 "AVX-512 bit algorithms."
    avx512vbmi 19 "AVX-512 byte permutations."
    avx512vnni 20 "AVX-512 VNNI."
    smep 21 "Ring 0 can be kept from executing ring 3's pages."
    smap 22 "Ring 0 can be kept from accessing ring 3's pages."
    umip 23 "Ring 3 can be kept from reading the addresses of descriptor tables."
    fsgsbase 24 "`rdfsbase` and its kin."
    erms 25 "Fast `rep movsb`."
    fsrm 26 "Fast short `rep movsb`."
    movbe 27 "`movbe`."
    aes 28 "AES instructions."
    pclmulqdq 29 "Carry-less multiplication."
    rdrand 30 "`rdrand`."
    rdseed 31 "`rdseed`."
    adx 32 "`adcx` and `adox`."
    sha 33 "SHA instructions."
    gib_pages 34 "Pages of 1 GiB."
}

impl CpuFeatures {
    /// The features in the order of their bits.
    pub fn names(&self) -> Vec<&'static str> {
        Self::ALL.iter().filter(|(_, bit)| self.0 >> bit & 1 == 1).map(|(name, _)| *name).collect()
    }

    /// The set as bits.
    pub fn bits(&self) -> u64 {
        self.0
    }

    /// Adds the feature of that name.
    ///
    /// # Panics
    /// When there is none: the tables of a backend and the one above do not match.
    pub(crate) fn insert(&mut self, name: &str) {
        let (_, bit) = Self::ALL.iter().find(|(known, _)| *known == name).expect("a known feature");
        self.0 |= 1 << bit;
    }
}

impl fmt::Debug for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::CpuFeatures;

    #[test]
    fn every_feature_has_a_bit_of_its_own() {
        let mut seen = CpuFeatures::default();
        for (name, bit) in CpuFeatures::ALL {
            assert_eq!(seen.bits() >> bit & 1, 0, "{name} shares its bit");
            seen.insert(name);
        }
        assert_eq!(seen.names().len(), CpuFeatures::ALL.len());
    }

    #[test]
    fn names_and_bits_agree() {
        let mut features = CpuFeatures::default();
        features.insert("avx2");
        features.insert("sse3");
        assert!(features.avx2() && features.sse3() && !features.avx());
        assert_eq!(features.names(), ["sse3", "avx2"]);
        assert_eq!(features.bits(), 1 << 11 | 1);
    }
}
