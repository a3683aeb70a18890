//! Layers that other tools take: hard links into lower layers, files below a lower layer's link, sparse files.

use std::fs;
use std::path::Path;

use test_support::archive::{Member, Packing};
use test_support::image::Base;
use test_support::tarball::Image;
use test_support::world::World;

use crate::run::{Way, image_of, ways};

/// A base of three layers: busybox with a merged `/usr`, what `upper` says on top of it, and a quiet one.
fn write_base(world: &World, upper: Vec<Member>) {
    let busybox = fs::read(world.path("bb/bin/busybox")).unwrap();
    let program = Member {
        content: busybox,
        mode: 0o755,
        ..Member::file("bin/busybox", "")
    };
    let data = Member {
        mode: 0o640,
        uid: 7,
        ..Member::file("data/f", "lower\n")
    };
    let lower = vec![
        Member::directory("bin"),
        program,
        Member::symlink("bin/sh", "busybox"),
        Member::directory("data"),
        data,
        Member::directory("usr"),
        Member::directory("usr/lib"),
        Member::file("usr/lib/old", "old\n"),
        Member::symlink("lib", "usr/lib"),
        Member::file("opt", "no directory\n"),
    ];
    let mut base = Base::new(lower);
    base.layers.push((Packing::Gzip, upper));
    base.layers
        .push((Packing::None, vec![Member::file("top", "t")]));
    base.write(&world.path("layout"));
}

/// What RUN sees of the layer.
const SCRIPT: &str = "cat linked again through
stat -c '%n %a %u' linked
readlink lib || echo no link
ls lib opt usr/lib
cat lib/new opt/new
wc -c < sparse
tr -d '\\0' < sparse; echo
sha256sum < sparse";

fn upper() -> Vec<Member> {
    vec![
        Member::hardlink("linked", "data/f"),
        Member::hardlink("again", "linked"),
        Member::hardlink("through", "lib/old"),
        Member::file("lib/new", "new\n"),
        Member::file("opt/new", "newer\n"),
        Member::sparse("sparse", 3_000_000, &[(5, "one"), (2_000_000, "two")]),
    ]
}

fn built(way: Way, world: &World) -> String {
    let line = "--build-context base=oci-layout://@/layout";
    let lines = format!(
        "FROM base\nENV PATH=/bin\nRUN <<END\nbusybox --install -s /bin\n{{\n{SCRIPT}\n}} > /shown\nEND\n\
         COPY --from=base /linked /through /lib /opt /sparse /copied/\n",
    );
    let outcome = way.build(world, &lines, line).exits(0);
    let told: Vec<&str> = outcome
        .stderr
        .lines()
        .filter(|said| said.contains("has files below"))
        .collect();
    assert_eq!(told.len(), 2, "{}", outcome.stderr);
    for path in [
        "`/lib`, which is a symbolic link",
        "`/opt`, which is no directory",
    ] {
        assert!(
            told.iter()
                .any(|said| said.contains(path) && said.contains("sha256:")),
            "{told:?}"
        );
    }
    let files = Image::open(&image_of(world)).files();
    for (name, content) in [
        ("/copied/linked", &b"lower\n"[..]),
        ("/copied/through", b"old\n"),
        ("/copied/new", b"newer\n"),
    ] {
        assert_eq!(files[name.as_bytes()].content, content, "{name}");
    }
    assert_eq!(files[&b"/copied/sparse"[..]].content.len(), 3_000_000);
    String::from_utf8(files[&b"/shown"[..]].content.clone()).unwrap()
}

#[test]
fn layers_that_others_take_look_the_same_everywhere() {
    let mut whole = vec![0_u8; 3_000_000];
    whole[5..8].copy_from_slice(b"one");
    whole[2_000_000..2_000_003].copy_from_slice(b"two");
    let digest = test_support::tarball::digest(&whole).replace("sha256:", "");
    let expected = format!(
        "lower\nlower\nold\nlinked 640 7\nno link\nlib:\nnew\n\nopt:\nnew\n\nusr/lib:\nold\nnew\nnewer\n3000000\nonetwo\n{digest}  -\n"
    );
    for way in ways() {
        let world = way.world();
        write_base(&world, upper());
        assert_eq!(built(way, &world), expected, "{}", way.name);
        // The files of an output are the same.
        world.write("context/Dockerfile", "FROM base\nCOPY Dockerfile /d\n");
        let line = "--build-context base=oci-layout://@/layout -o type=local,dest=@/out/root";
        let outcome = world.line(&way.line(line)).exits(0);
        assert_eq!(outcome.stderr.matches("has files below").count(), 2);
        let read = |path: &str| fs::read(world.path("out/root").join(path)).unwrap();
        assert_eq!(read("linked"), b"lower\n");
        assert_eq!(read("through"), b"old\n");
        assert!(read("sparse") == whole);
        assert!(
            world
                .path("out/root/lib")
                .symlink_metadata()
                .unwrap()
                .is_dir()
        );
        assert_eq!(read("opt/new"), b"newer\n");
        assert!(!Path::new(&world.path("out/root/lib/old")).exists());
    }
}

/// A link to what no layer has, or that comes before its file, is refused where it is looked at, with its layer.
#[test]
fn a_hard_link_to_nothing_is_refused() {
    let world = crate::world();
    for members in [
        vec![Member::hardlink("a", "nothing")],
        vec![Member::hardlink("a", "a")],
        vec![Member::hardlink("a", "late"), Member::file("late", "l")],
        vec![Member::directory("d"), Member::hardlink("a", "d")],
    ] {
        Base::new(members).write(&world.path("layout"));
        for (dockerfile, more) in [
            ("FROM scratch\nCOPY --from=base /a /\n", ""),
            (
                "FROM base\nCOPY Dockerfile /\n",
                "-o type=local,dest=@/out/root",
            ),
        ] {
            world.write("context/Dockerfile", dockerfile);
            let line = format!("--build-context base=oci-layout://@/layout {more} @/context");
            world.line(&line).exits(5).says("hard link");
            assert!(!world.path("out/root").exists());
        }
        fs::remove_dir_all(world.path("layout")).unwrap();
    }
}
