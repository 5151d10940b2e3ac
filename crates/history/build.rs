//! Sets `cfg(peers)` when `QUORATE_PEERS=1` asks for the tests that need material from elsewhere; without it they are
//! listed as ignored.

fn main() {
    println!("cargo:rerun-if-env-changed=QUORATE_PEERS");
    println!("cargo:rustc-check-cfg=cfg(peers)");
    if std::env::var_os("QUORATE_PEERS").is_some_and(|value| value == "1") {
        println!("cargo:rustc-cfg=peers");
    }
}
