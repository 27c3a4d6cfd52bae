#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inhaul_fuzz::recipe(bytes));
