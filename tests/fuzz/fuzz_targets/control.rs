//! Runs `targets::control` on what the fuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| phantom_frame_targets::control(data));
