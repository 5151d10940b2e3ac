#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::under_libfuzzer("sim_plan", data));
