//! The README's example, and what the default output does to files that are there already.

use std::fs;

use test_support::tarball::Image;
use test_support::tools::{is_root, require, run};
use test_support::world::World;

use crate::readers::{skopeo_inspects, umoci_agrees};
use crate::{testdata, world};

fn hello() -> World {
    let world = world();
    world.copy(&testdata("hello"), "context");
    world
}

#[test]
fn the_example_becomes_the_image_that_its_file_describes() {
    let world = hello();
    world
        .line("-t hello @/context")
        .exits(0)
        .says("wrote @/out/hello.tar");
    let archive = world.path("out/hello.tar");
    let image = Image::open(&archive);
    assert_eq!(
        image.paths(),
        ["/app", "/app/about.txt", "/app/greeting.txt"]
    );
    assert_eq!(image.text("/app/greeting.txt"), "hello, world\n");
    let about = &image.files()[&b"/app/about.txt"[..]];
    assert_eq!((about.mode, about.uid, about.gid), (0o644, 1000, 1000));
    let config = &image.config["config"];
    assert_eq!(config["User"], "1000:1000");
    assert_eq!(config["WorkingDir"], "/app");
    assert_eq!(config["Labels"]["org.opencontainers.image.title"], "hello");
    assert_eq!(config["Cmd"], serde_json::json!(["/app/greeting.txt"]));
    if let Some(seen) = skopeo_inspects(&format!("oci-archive:{}", archive.display())) {
        assert_eq!(seen["Digest"], image.digest);
    }
    umoci_agrees(&world, &archive, "latest");
}

#[test]
fn the_default_output_is_named_after_the_first_tag() {
    for (tags, name) in [
        ("", "image.tar"),
        ("-t registry.example.com:5000/team/app:1.2", "app.tar"),
        ("-t one -t two", "one.tar"),
        ("-o type=docker -t three", "three.tar"),
    ] {
        let world = hello();
        world.line(&format!("{tags} @/context")).exits(0);
        let there: Vec<_> = fs::read_dir(world.path("out"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(there, [name], "{tags}");
    }
}

#[test]
fn several_tags_are_several_names_of_one_image() {
    let world = hello();
    world
        .line("-t one:1 -t example.com/two:2 @/context")
        .exits(0);
    let contents = test_support::tarball::contents(&world.path("out/one.tar")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&contents["index.json"]).unwrap();
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            entry["annotations"]["io.containerd.image.name"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(names, ["docker.io/library/one:1", "example.com/two:2"]);
    let listed = world
        .line("images --format {{.Repository}}:{{.Tag}}")
        .exits(0);
    assert!(
        listed.text().contains("one:1") && listed.text().contains("example.com/two:2"),
        "{}",
        listed.text()
    );
}

#[test]
fn a_second_build_replaces_the_first_and_nothing_else() {
    let world = hello();
    let archive = world.path("out/hello.tar");
    world.line("-t hello @/context").exits(0);
    let first = Image::open(&archive).digest;
    world.write("context/src/about.txt", "changed\n");
    world.line("-t hello @/context").exits(0);
    assert_ne!(Image::open(&archive).digest, first);
    assert_eq!(Image::open(&archive).text("/app/about.txt"), "changed\n");

    fs::write(&archive, "a letter\n").unwrap();
    world.line("-t hello @/context").exits(8).says("hello.tar");
    assert_eq!(fs::read_to_string(&archive).unwrap(), "a letter\n");
}

#[test]
fn an_output_in_the_context_stays_out_of_the_next_image() {
    let world = world();
    world.write("out/Dockerfile", "FROM scratch\nCOPY . /\n");
    world.line("-t hello .").exits(0);
    let first = Image::open(&world.path("out/hello.tar")).paths();
    world.line("-t hello .").exits(0);
    assert_eq!(first, ["/Dockerfile"]);
    assert_eq!(Image::open(&world.path("out/hello.tar")).paths(), first);

    world.write("out/Dockerfile", "FROM scratch\nCOPY hello.tar /\n");
    world
        .line("-t other .")
        .exits(4)
        .says("hello.tar")
        .says("output");
    assert!(!world.path("out/other.tar").exists());

    // A file of that name that rbuild did not write is a file like any other.
    fs::write(world.path("out/hello.tar"), "mine now").unwrap();
    world.line("-t other .").exits(0);
    assert_eq!(
        Image::open(&world.path("out/other.tar")).text("/hello.tar"),
        "mine now"
    );
}

#[test]
fn skopeo_reads_the_tarball_as_an_ordinary_user_too() {
    let world = hello();
    world.line("-t hello @/context").exits(0);
    let archive = format!("oci-archive:{}", world.path("out/hello.tar").display());
    let (Some(skopeo), Some(setpriv)) = (require("skopeo"), require("setpriv")) else {
        return;
    };
    if !is_root() {
        return drop(skopeo_inspects(&archive));
    }
    let user = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        skopeo.to_str().unwrap(),
        "inspect",
        &archive,
    ];
    run(&setpriv, &user);
}
