//! The generated code is what the `.proto` files say.
//!
//! `QUORATE_UPDATE=1` writes it instead of comparing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost_build::Module;

/// The files, in the order of the compiler's command line; imports come by themselves.
const FILES: &[&str] = &[
    "auth.proto",
    "authstore.proto",
    "cluster.proto",
    "election.proto",
    "header.proto",
    "health.proto",
    "kv.proto",
    "lease.proto",
    "lock.proto",
    "maintenance.proto",
    "mvcc.proto",
    "watch.proto",
];

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// File name -> content.
fn generate() -> BTreeMap<String, String> {
    let descriptors = protox::compile(FILES, [crate_dir().join("proto")]).unwrap();
    let requests = descriptors
        .file
        .into_iter()
        .map(|file| (Module::from_protobuf_package_name(file.package()), file))
        .collect();
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    let modules = config.generate(requests).unwrap();
    modules
        .into_iter()
        // The generator takes URLs for a word of four letters.
        .map(|(module, code)| (module.to_file_name_or(""), code.replace("ur_ls", "urls")))
        .collect()
}

fn committed(dir: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn generated_code_is_current() {
    let dir = crate_dir().join("src/gen");
    let generated = generate();
    if std::env::var_os("QUORATE_UPDATE").is_some() {
        for (name, code) in &generated {
            std::fs::write(dir.join(name), code).unwrap();
        }
    }
    let committed = committed(&dir);
    assert_eq!(
        committed.keys().collect::<Vec<_>>(),
        generated.keys().collect::<Vec<_>>(),
        "the files of src/gen"
    );
    for (name, code) in &generated {
        assert!(
            committed[name] == *code,
            "src/gen/{name} is not what the .proto files say: \
             QUORATE_UPDATE=1 cargo test -p quorate-proto"
        );
    }
}

#[test]
fn every_method_of_the_files_has_its_path() {
    let descriptors = protox::compile(FILES, [crate_dir().join("proto")]).unwrap();
    let mut declared = BTreeMap::new();
    for file in &descriptors.file {
        for service in &file.service {
            let methods: Vec<_> = service.method.iter().map(|m| m.name().to_owned()).collect();
            declared.insert(format!("{}.{}", file.package(), service.name()), methods);
        }
    }
    let named: BTreeMap<_, _> = proto::method::ALL
        .iter()
        .map(|(service, methods)| {
            ((*service).to_owned(), methods.iter().map(|m| (*m).to_owned()).collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(named, declared);
}
