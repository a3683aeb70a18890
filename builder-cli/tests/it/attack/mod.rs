//! What attacks on rbuild have found, kind by kind: nothing of the user's is lost, nothing hangs, nothing costs more than
//! its size.

mod damage;
mod deep;
mod fsck;
mod git;
mod layers;
mod limits;
mod terminal;

#[test]
fn no_file_of_the_attacks_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/attack");
    let modules = std::fs::read_to_string(folder.join("mod.rs")).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            name == "mod" || modules.contains(&format!("\nmod {name};\n")),
            "{} is in no module",
            path.display()
        );
    }
}
