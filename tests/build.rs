//! Lists `traces/` as Rust source, so that `samples` carries the files inside the binary: the demo runs in a container
//! without the source tree. A file added later is seen, because Cargo watches the folder.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=traces");
    let mut names: Vec<String> = fs::read_dir("traces")
        .expect("tests/traces is part of the repository")
        .map(|entry| entry.expect("tests/traces can be listed").file_name())
        .map(|name| name.into_string().expect("names in tests/traces are UTF-8"))
        .filter(|name| {
            [".json", ".log", ".lines"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .collect();
    names.sort();
    let mut source = String::from("&[\n");
    for name in names {
        writeln!(
            source,
            "({name:?}, include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/traces/{name}\"))),"
        )
        .expect("writing to a string cannot fail");
    }
    source.push_str("]\n");
    let folder = env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR");
    fs::write(Path::new(&folder).join("traces.rs"), source).expect("OUT_DIR can be written");
}
