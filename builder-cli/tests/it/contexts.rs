//! Where a build's input may come from: standard input, other folders, named contexts, other images.

use test_support::archive::{Member, Packing, pack, tar};
use test_support::image::{Base, architecture};
use test_support::tarball::Image;
use test_support::world::World;

use crate::world;

#[track_caller]
fn built(world: &World) -> Image {
    Image::open(&world.path("out/a.tar"))
}

#[test]
fn a_tar_on_standard_input_is_the_context() {
    let members = [
        Member::file(
            "Dockerfile",
            "FROM scratch\nCOPY --chown=1:2 d /d\nCOPY f* /\n",
        ),
        Member::file("other", "FROM scratch\nCOPY f1 /only\n"),
        Member::directory("d"),
        Member {
            mode: 0o755,
            ..Member::file("d/tool", "tool")
        },
        Member::file("f1", "one"),
        Member::symlink("d/link", "tool"),
    ];
    for packing in [
        Packing::None,
        Packing::Gzip,
        Packing::Bzip2,
        Packing::Xz,
        Packing::Zstd,
    ] {
        let world = world();
        let archive = pack(packing, &tar(&members));
        world.line_with_input("-t a -", archive.clone()).exits(0);
        assert_eq!(
            built(&world).paths(),
            ["/d", "/d/link", "/d/tool", "/f1"],
            "{packing:?}"
        );
        let tool = &built(&world).files()[&b"/d/tool"[..]];
        assert_eq!(
            (tool.mode, tool.uid, tool.gid),
            (0o755, 1, 2),
            "{packing:?}"
        );
        world.line_with_input("-t a -f other -", archive).exits(0);
        assert_eq!(built(&world).paths(), ["/only"], "{packing:?}");
    }
}

#[test]
fn a_dockerfile_may_come_on_standard_input() {
    let world = world();
    world
        .line_with_input("-t a -", "FROM scratch\nCOPY <<end /f\ntext\nend\n")
        .exits(0);
    assert_eq!(built(&world).text("/f"), "text\n");
    world
        .line_with_input("-t a -", "FROM scratch\nCOPY f /f\n")
        .exits(4)
        .says("`f`");

    world.write("context/f", "of the context");
    world.write("context/.dockerignore", "skip\n");
    world.write("context/skip", "");
    world
        .line_with_input("-t a -f - @/context", "FROM scratch\nCOPY . /\n")
        .exits(0);
    assert_eq!(built(&world).paths(), ["/.dockerignore", "/f"]);
    world
        .line_with_input("-t a -f - -", "")
        .exits(2)
        .says("standard input");
}

#[test]
fn a_dockerfile_elsewhere_brings_its_own_ignore_file() {
    let world = world();
    world.write("context/.dockerignore", "one\n");
    world.write("context/Dockerfile", "FROM scratch\nCOPY . /here/\n");
    world.write("context/one", "1");
    world.write("context/two", "2");
    world.write("files/App", "FROM scratch\nCOPY one* two* /\n");
    world.write("files/App.dockerignore", "two\n");
    world.line("-t a -f @/files/App @/context").exits(0);
    assert_eq!(built(&world).paths(), ["/one"]);
    // A relative name is looked for where the program was started.
    world.line("-t a -f ../files/App ../context").exits(0);
    world.write("files/none", "");
    world
        .line("-t a --ignorefile @/files/none -f @/files/App @/context")
        .exits(0);
    assert_eq!(built(&world).paths(), ["/one", "/two"]);
    world.line("-t a @/context").exits(0);
    assert_eq!(
        built(&world).paths(),
        [
            "/here",
            "/here/.dockerignore",
            "/here/Dockerfile",
            "/here/two"
        ]
    );
}

#[test]
fn named_contexts_are_folders_images_and_stages() {
    let world = world();
    world.write("more/f", "f");
    world.write("more/skip", "");
    world.write("more/.dockerignore", "skip\n.dockerignore\n");
    Base::new(vec![Member::file("in-image", "i")]).write(&world.path("layout"));
    let file = "FROM base\nCOPY --from=more . /more/\nCOPY --from=image in-image /copied\n";
    world.write("context/Dockerfile", file);
    let contexts = "--build-context more=@/more --build-context image=oci-layout://@/layout";
    world
        .line(&format!(
            "-t a --build-context base=oci-layout://@/layout {contexts} @/context"
        ))
        .exits(0);
    assert_eq!(
        built(&world).paths(),
        ["/copied", "/in-image", "/more", "/more/f"]
    );
    // A stage of the same name is overruled; without the flag there is no such image.
    world
        .line(&format!("-t a {contexts} @/context"))
        .exits(5)
        .says("`base");
    world
        .line("-t a --build-context more=@/nowhere @/context")
        .exits(4)
        .says("@/nowhere");
    world
        .line("-t a --build-context more @/context")
        .exits(2)
        .says("--build-context");
}

/// Bases as other tools write them, with the paths of an image that puts `/x` on top.
fn bases() -> Vec<(&'static str, Base, &'static [&'static str])> {
    let members = || vec![Member::directory("etc"), Member::file("etc/f", "f")];
    let second = || vec![Member::file("etc/.wh.f", ""), Member::file("g", "g")];
    let new = || Base::new(members());
    let layers = |layers| Base { layers, ..new() };
    let both = vec![(Packing::Gzip, members()), (Packing::Zstd, second())];
    let paths: &[&str] = &["/etc", "/etc/f", "/x"];
    vec![
        ("plain OCI", new(), paths),
        (
            "Docker's types",
            Base {
                docker: true,
                ..new()
            },
            paths,
        ),
        ("zstd", layers(vec![(Packing::Zstd, members())]), paths),
        (
            "not compressed",
            layers(vec![(Packing::None, members())]),
            paths,
        ),
        (
            "no history",
            Base {
                history: false,
                ..new()
            },
            paths,
        ),
        (
            "whiteouts, packed in two ways",
            layers(both),
            &["/etc", "/g", "/x"],
        ),
    ]
}

#[test]
fn bases_of_every_make_are_read() {
    for (name, base, paths) in bases() {
        let world = world();
        base.write(&world.path("layout"));
        base.write_tar(&world.path("layout.tar"));
        world.write("context/Dockerfile", "FROM base\nCOPY x /x\n");
        world.write("context/x", "x");
        for place in ["layout", "layout.tar"] {
            world
                .line(&format!(
                    "-t a --build-context base=oci-layout://@/{place} @/context"
                ))
                .exits(0);
            let image = built(&world);
            assert_eq!(image.paths(), paths, "{name}, {place}");
            let types: Vec<&str> = image.manifest["layers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["mediaType"].as_str().unwrap())
                .collect();
            assert!(
                types
                    .iter()
                    .all(|kind| kind.starts_with("application/vnd.oci.")),
                "{name}: {types:?}"
            );
            assert_eq!(image.layers.len(), base.layers.len() + 1, "{name}");
        }
        // The layers of the base keep their digests.
        let lowest = Image::open(&world.path("layout")).blobs;
        assert!(built(&world).blobs.starts_with(&lowest), "{name}");
    }
}

#[test]
fn an_image_is_chosen_by_its_tag_and_by_its_platform() {
    let world = world();
    let base = Base {
        tag: Some("v1"),
        ..Base::new(vec![Member::file("f", "")])
    };
    base.write(&world.path("layout"));
    world.write("context/Dockerfile", "FROM base\nCOPY Dockerfile /\n");
    world
        .line("-t a --build-context base=oci-layout://@/layout:v1 @/context")
        .exits(0);
    world
        .line("-t a --build-context base=oci-layout://@/layout:v2 @/context")
        .exits(5)
        .says("v2");
    world
        .line("-t a --build-context base=oci-layout://@/nowhere:v1 @/context")
        .exits(5)
        .says("@/nowhere");

    let other = if architecture() == "s390x" {
        "riscv64"
    } else {
        "s390x"
    };
    Base {
        architectures: vec![other, architecture()],
        ..base
    }
    .write(&world.path("several"));
    for (flag, wanted) in [
        (String::new(), architecture()),
        (format!("--platform linux/{other}"), other),
    ] {
        world
            .line(&format!(
                "-t a {flag} --build-context base=oci-layout://@/several @/context"
            ))
            .exits(0);
        assert_eq!(built(&world).config["architecture"], wanted);
    }
    let line =
        "-t a --platform linux/mips64le --build-context base=oci-layout://@/several @/context";
    world.line(line).exits(5).says("mips64le");
}

#[test]
fn the_base_s_settings_and_unknown_fields_survive() {
    let world = world();
    let config = serde_json::json!({
        "Env": ["PATH=/bin", "A=1"], "User": "7", "WorkingDir": "/base", "Cmd": ["/old"], "Entrypoint": ["/init"],
        "Healthcheck": { "Test": ["NONE"] }, "OnBuild": ["ENV FROM_TRIGGER=1"], "x-unknown": { "deep": [1] },
    });
    Base {
        config,
        ..Base::new(vec![Member::directory("base")])
    }
    .write(&world.path("layout"));
    world.write(
        "context/Dockerfile",
        "FROM base\nCOPY Dockerfile .\nENTRYPOINT [\"/new\"]\n",
    );
    world
        .line("-t a --build-context base=oci-layout://@/layout @/context")
        .exits(0);
    let image = built(&world);
    let config = &image.config["config"];
    assert_eq!(image.paths(), ["/base", "/base/Dockerfile"]);
    assert_eq!(
        config["Env"],
        serde_json::json!(["PATH=/bin", "A=1", "FROM_TRIGGER=1"])
    );
    assert_eq!(config["x-unknown"]["deep"][0], 1);
    assert_eq!(
        (&config["User"], &config["Healthcheck"]["Test"][0]),
        (&"7".into(), &"NONE".into())
    );
    assert!(
        config["Cmd"].is_null() && config["OnBuild"].is_null(),
        "{config}"
    );
}

#[test]
fn a_tag_of_the_store_is_a_base() {
    let world = world();
    world.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /one\n");
    world.line("-t example.com/one:1 @/context").exits(0);
    world.write(
        "context/Dockerfile",
        "FROM example.com/one:1\nCOPY --from=example.com/one:1 /one /two\n",
    );
    world.line("-t a @/context").exits(0);
    assert_eq!(built(&world).paths(), ["/one", "/two"]);
    world.write("context/Dockerfile", "FROM example.com/one:2\n");
    world
        .line("-t a @/context")
        .exits(5)
        .says("example.com/one:2")
        .says("Dockerfile:1:");
}
