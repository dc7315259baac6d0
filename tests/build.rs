//! Takes the Rust code out of README.md and sim/GUIDE.md, so that `tests/written_code.rs` compiles and runs what is written there.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The Rust blocks of a text in Markdown.
fn blocks(path: &Path) -> Vec<String> {
    println!("cargo::rerun-if-changed={}", path.display());
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let blocks = text.split("```rust\n").skip(1);
    blocks.map(|rest| rest.split_once("```").expect("a block has an end").0.to_owned()).collect()
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where"));
    let write = |name: &str, text: &str| fs::write(out.join(name), text).expect("it can be written");

    // The second block tests the server of the first.
    write("readme.rs", &blocks(Path::new("../README.md")).join("\n"));

    let guide = blocks(Path::new("../sim/GUIDE.md"));
    let [chat, test, mended] = &guide[..] else {
        panic!("sim/GUIDE.md has {} blocks, and not 3", guide.len())
    };
    write("guide_chat.rs", chat);
    write("guide_test.rs", test);
    // The third block is a method to be put in the place of that of the first.
    let begin = chat.find("    fn on_data(").expect("the first block has the method");
    let length = chat[begin..].find("\n    }\n").expect("it ends") + "\n    }\n".len();
    write("guide_chat_mended.rs", &[&chat[..begin], mended, &chat[begin + length..]].concat());
}
