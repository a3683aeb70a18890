//! `commit`: directories and tars as images.

use std::fs;
use std::os::unix::fs::symlink;

use test_support::archive::{Member, Packing, pack, tar};
use test_support::registry::Registry;
use test_support::tarball::Image;
use test_support::tools::is_root;
use test_support::world::{World, set_mode};

use super::{built, listed};
use crate::readers::umoci_agrees;
use crate::world;

/// The image of a name, saved and read by the independent reader.
fn saved(world: &World, name: &str) -> Image {
    world.line(&format!("save -o saved.tar {name}")).exits(0);
    Image::open(&world.path("out/saved.tar"))
}

fn root() -> World {
    let world = world();
    world.write("root/etc/app.conf", "port = 80\n");
    world.write("root/bin/tool", "tool");
    set_mode(&world.path("root/bin/tool"), 0o4755);
    fs::hard_link(world.path("root/bin/tool"), world.path("root/bin/alias")).unwrap();
    symlink("bin/tool", world.path("root/link")).unwrap();
    world
}

#[test]
fn a_directory_is_an_image_with_what_is_in_it() {
    let world = root();
    if is_root() {
        std::os::unix::fs::chown(world.path("root/etc/app.conf"), Some(1234), Some(99)).unwrap();
    }
    let changes = [
        "commit",
        "-a",
        "me",
        "-m",
        "by hand",
        "--change",
        "CMD [\"/bin/tool\"]",
        "-c",
        "ENV A=1 B=2",
        "-c",
        "LABEL a=b",
        "--change",
        "EXPOSE 80",
        "--change",
        "WORKDIR /srv",
        "--source-date-epoch",
        "1000000000",
        "../root",
        "app:1",
    ];
    let digest = world.run(changes).exits(0);
    assert_eq!(
        listed(&world, "{{.Repository}}:{{.Tag}} {{.Digest}}"),
        [format!("app:1 {}", digest.text().trim())]
    );
    let image = saved(&world, "app:1");
    let files = image.files();
    assert_eq!(image.text("/etc/app.conf"), "port = 80\n");
    assert_eq!(files[&b"/bin/tool"[..]].mode, 0o4755);
    assert_eq!(files[&b"/bin/alias"[..]].content, b"tool");
    assert_eq!(files[&b"/link"[..]].link, b"bin/tool");
    if is_root() {
        assert_eq!(
            (
                files[&b"/etc/app.conf"[..]].uid,
                files[&b"/etc/app.conf"[..]].gid
            ),
            (1234, 99)
        );
    }
    umoci_agrees(&world, &world.path("out/saved.tar"), "1");
    for (template, expected) in [
        ("{{json .Config.Cmd}}", r#"["/bin/tool"]"#),
        ("{{.Author}}/{{.Comment}}", "me/by hand"),
        ("{{index .Config.Env 0}}", "A=1"),
        ("{{.Config.WorkingDir}}", "/srv"),
        ("{{.Created}}", "2001-09-09T01:46:40Z"),
        ("{{len .RootFS.Layers}}", "1"),
    ] {
        let found = world.run(["inspect", "-f", template, "app:1"]).exits(0);
        assert_eq!(found.text().trim(), expected, "{template}");
    }
    // The same again is the same.
    let again = world.run(changes).exits(0);
    assert_eq!(again.text(), digest.text());
}

#[test]
fn a_tar_is_an_image_and_lies_on_another() {
    let (world, _) = built();
    let members = [
        Member::directory("etc"),
        Member::file("etc/new", "new\n"),
        Member::hardlink("etc/other", "etc/new"),
    ];
    let bytes = tar(&members);
    for packing in [Packing::None, Packing::Gzip, Packing::Xz, Packing::Zstd] {
        world.write("out/root.tar", pack(packing, &bytes));
        world.line("commit --from app:1 root.tar next:1").exits(0);
        let image = saved(&world, "next:1");
        assert_eq!(image.text("/about.txt"), "hello\n");
        assert_eq!(image.text("/etc/other"), "new\n");
        world
            .line_with_input("commit - piped", pack(packing, &bytes))
            .exits(0);
        assert_eq!(saved(&world, "piped").text("/etc/new"), "new\n");
    }
    // What lies below keeps its config, and the history goes on.
    let env = world
        .run(["inspect", "-f", "{{json .Config.Env}}", "next:1"])
        .exits(0);
    assert!(env.text().contains("A=1"));
    let history = world.line("history -q next:1").exits(0);
    assert_eq!(history.text().lines().count(), 6);
    // It may lie in a registry, and its layers stay there.
    let registry = Registry::start();
    let name = format!("{}/base:1", registry.name());
    world.line(&format!("copy app:1 docker://{name}")).exits(0);
    let other = crate::world();
    other.write("out/root.tar", &bytes);
    other
        .line(&format!("commit --from {name} root.tar next"))
        .exits(0);
    assert_eq!(saved(&other, "next").text("/about.txt"), "hello\n");
    // An exported root becomes an image again.
    world.line("export -o tree/ next:1").exits(0);
    world.line("commit tree back").exits(0);
    assert_eq!(saved(&world, "back").text("/etc/new"), "new\n");
}

#[test]
fn a_deep_directory_is_committed() {
    let world = world();
    let mut path = world.path("deep");
    for _ in 0..1500 {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    world.line("commit ../deep app").exits(0);
    let layers = world.run(["inspect", "-f", "{{len .RootFS.Layers}}", "app"]);
    assert_eq!(layers.exits(0).text(), "1\n");
}

#[test]
fn what_can_not_be_committed_is_said_and_leaves_nothing() {
    let world = root();
    world.write("bad/.wh.secret", "");
    world.write("out/text", "no tar\n".repeat(300));
    let whole = pack(
        Packing::Gzip,
        &tar(&[Member::file("a", &"x".repeat(100_000))]),
    );
    world.write("out/half.tar", &whole[..whole.len() / 2]);
    for (words, status, said) in [
        (&["commit", "../nowhere", "x"][..], 4, "nowhere"),
        (&["commit", "text", "x"], 4, "text"),
        (&["commit", "half.tar", "x"], 4, "half.tar"),
        (&["commit", "../bad", "x"], 4, ".wh."),
        (
            &["commit", "-c", "RUN true", "../root", "x"],
            3,
            "CMD, ENTRYPOINT",
        ),
        (
            &["commit", "-c", "COPY a b", "../root", "x"],
            3,
            "CMD, ENTRYPOINT",
        ),
        (&["commit", "-c", "FROM other", "../root", "x"], 3, "--from"),
        (&["commit", "-c", "ENVV A=1", "../root", "x"], 3, "ENV"),
        (
            &[
                "commit",
                "-c",
                "CMD [",
                "../root",
                "x",
                "--from",
                "nothing:1",
                "--registry-mirror",
                "http://127.0.0.1:1",
            ],
            5,
            "nothing",
        ),
        (&["commit", "../root", "X"], 2, "`x`"),
        (
            &["commit", "--compression", "lz4", "../root", "x"],
            2,
            "gzip",
        ),
    ] {
        world.run(words).exits(status).says(said);
    }
    assert_eq!(listed(&world, "{{.Repository}}"), [""; 0]);
    assert_eq!(fs::read_dir(world.path("store/tmp")).unwrap().count(), 0);
}

#[test]
fn a_directory_that_changes_while_it_is_read_is_no_image() {
    let world = world();
    for number in 0..300 {
        world.write(format!("root/d/{number}"), vec![b'x'; 20_000]);
    }
    let path = world.path("root/d");
    let running = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while running.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                fs::write(path.join(format!("new{}", number % 50)), number.to_string()).unwrap();
                let _ = fs::remove_file(path.join(format!("new{}", (number + 25) % 50)));
            }
        });
        let outcome = world.line("commit ../root app");
        running.store(false, std::sync::atomic::Ordering::Relaxed);
        outcome.exits(4);
    });
    assert_eq!(listed(&world, "{{.Repository}}"), [""; 0]);
    world.line("commit ../root app").exits(0);
}
