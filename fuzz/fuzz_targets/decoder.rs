//! One program for all targets, so that it is linked once: `QUORATE_FUZZ_TARGET` names the one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::under_libfuzzer(data));
